"""Turns the downloaded files into weights that the modules of ``networks.py`` load: named and laid out as PyTorch's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from studies.face_nets.networks import MobileFaceNet
from studies.face_nets.tflite import Graph

Arrays = dict[str, np.ndarray]
Files = Mapping[str, bytes]


def read_weights(manifest: list[dict[str, Any]], files: Files, folder: str) -> Arrays:
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


def face_api(files: Files, name: str) -> Arrays:
    """One of face-api's networks."""
    manifest = json.loads(files[f"package/model/{name}_model-weights_manifest.json"])
    return as_pytorch(read_weights(manifest, files, "package/model/"))


def as_pytorch(weights: Arrays) -> Arrays:
    """face-api's weights by PyTorch's names, their axes in PyTorch's order."""
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


def gender_xception(files: Files) -> Arrays:
    """The gender network of human-models, by the order of the weights in its graph."""
    manifest = json.loads(files["package/models/gender.json"])["weightsManifest"]
    graph = read_weights(manifest, files, "package/models/")
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


def mobile_face_net(file: bytes) -> Arrays:
    """MobileFaceNet, whose graph does everything in the order of the modules.

    A PReLU is taken apart there: relu(x) + c * (x - |x|), which is x * 2c where x is negative.
    """
    graph, modules = Graph(file, "MobileFaceNet.tflite"), dict(MobileFaceNet().named_modules())
    convolutions = [each for each in graph.operators if each.kind in ("convolution", "depthwise")]
    halves = [each.inputs[0] for each in graph.operators if each.kind == "multiply"]
    weights = {}
    for name, operator in zip(_names(modules, nn.Conv2d), convolutions, strict=True):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = graph.convolution(operator)
    for name, tensor in zip(_names(modules, nn.PReLU), halves, strict=True):
        weights[f"{name}.weight"] = 2 * graph.constant(tensor)
    return weights


def _names(modules: Mapping[str, nn.Module], kind: type[nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if isinstance(module, kind)]
