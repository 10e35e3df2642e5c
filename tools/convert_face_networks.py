"""Makes the weights of the package's face detector and face mesh from MediaPipe's networks.

    pip install mediapipe==0.10.21
    python tools/convert_face_networks.py [--out captum_canonical/adapters/face_mesh_468.safetensors]

Each module is walked side by side with the graph in the .tflite file, and every shape has to agree. The files store
float16, and so does the result: nothing is lost.
"""

from __future__ import annotations

import argparse
import sys
from importlib import util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

from captum_canonical.adapters.face_networks import Block, FaceDetector, FaceMeshNetwork
from studies.face_nets.tflite import Graph, Operator

DETECTOR, MESH = "face_detection/face_detection_short_range.tflite", "face_landmark/face_landmark.tflite"
OUT = Path("captum_canonical/adapters/face_mesh_468.safetensors")


def fill_convolution(graph: Graph, convolution: nn.Conv2d, operator: Operator) -> int:
    """Weights, behind zeros where kernels are larger here, and bias; returns the number of the resulting tensor."""
    weight, bias = map(torch.from_numpy, graph.convolution(operator))
    more = convolution.weight.shape[-1] - weight.shape[-1]  # 1 with stride 2, else 0
    weight = torch.nn.functional.pad(weight, (more, 0, more, 0))
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return operator.outputs[0]


def fill_activation(graph: Graph, activation: nn.Module, tensor: int) -> int:
    """The slopes of a PReLU; a ReLU has none."""
    (operator,) = graph.after(tensor, "prelu") + graph.after(tensor, "relu")
    if isinstance(activation, nn.PReLU):
        activation.load_state_dict({"weight": torch.from_numpy(graph.constant(operator.inputs[1]).copy()).flatten()})
    return operator.outputs[0]


def fill_block(graph: Graph, block: Block, tensor: int, depthwise: Operator | None = None) -> int:
    """Both convolutions and the activation behind their sum with the shortcut."""
    if depthwise is None:
        (depthwise,) = graph.after(tensor, "depthwise")
    tensor = fill_convolution(graph, block.depthwise, depthwise)
    tensor = fill_convolution(graph, block.pointwise, *graph.after(tensor, "convolution"))
    (add,) = graph.after(tensor, "add")
    return fill_activation(graph, block.activation, add.outputs[0])


def detector_from(graph: Graph) -> FaceDetector:
    """The short-range face detector."""
    network = FaceDetector()
    (stem,) = graph.after(graph.inputs[0], "convolution")
    tensor = fill_activation(graph, nn.ReLU(), fill_convolution(graph, network.stem, stem))
    for blocks, score, box in (
        (network.fine, network.score_fine, network.box_fine),
        (network.coarse, network.score_coarse, network.box_coarse),
    ):
        for block in blocks:
            assert isinstance(block, Block)
            tensor = fill_block(graph, block, tensor)
        for head in (score, box):
            fill_convolution(graph, head, *graph.after(tensor, "convolution", head.out_channels))
    return network


def mesh_from(graph: Graph) -> FaceMeshNetwork:
    """The face mesh, whose graph branches into vertices and presence."""
    network = FaceMeshNetwork()
    (stem,) = graph.after(graph.inputs[0], "convolution")
    tensor = fill_activation(graph, network.stem[1], fill_convolution(graph, network.stem[0], stem))
    for block in network.trunk:
        assert isinstance(block, Block)
        tensor = fill_block(graph, block, tensor)
    branches = graph.after(tensor, "depthwise")
    for head, output in zip((network.vertices, network.presence), graph.outputs, strict=True):
        (branch,) = [each for each in branches if leads_to(graph, each.outputs[0], output)]
        if fill_head(graph, head, branch) != output:
            raise ValueError(f"a head of the face mesh does not end in output {output}")
    return network


def fill_head(graph: Graph, head: nn.Sequential, depthwise: Operator | None) -> int:
    """Blocks, a convolution with its activation, a block, and the last convolution."""
    tensor = -1
    for module, following in zip(head, [*head, None][1:], strict=False):
        if isinstance(module, Block):
            tensor = fill_block(graph, module, tensor, depthwise)
            depthwise = None
        elif isinstance(module, nn.Conv2d):
            tensor = fill_convolution(graph, module, *graph.after(tensor, "convolution"))
            if isinstance(following, nn.PReLU):
                tensor = fill_activation(graph, following, tensor)
    return tensor


def leads_to(graph: Graph, tensor: int, output: int) -> bool:
    """Whether an output of the graph can be reached from a tensor."""
    following = [each.outputs[0] for each in graph.operators if tensor in each.inputs]
    return tensor == output or any(leads_to(graph, each, output) for each in following)


def as_stored(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    """The weights as float16, which must lose nothing."""
    weights = {f"{prefix}.{name}": tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    if not all(torch.equal(weights[f"{prefix}.{name}"].float(), x) for name, x in network.state_dict().items()):
        raise ValueError(f"{prefix}: the file's weights are not float16")
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    found = util.find_spec("mediapipe")
    if found is None or not found.submodule_search_locations:
        parser.error("the package mediapipe is not installed: pip install mediapipe==0.10.21")
    folder = Path(found.submodule_search_locations[0]) / "modules"
    detector, mesh = (Graph((folder / path).read_bytes(), path) for path in (DETECTOR, MESH))
    weights = as_stored("detector", detector_from(detector)) | as_stored("mesh", mesh_from(mesh))
    source = f"MediaPipe 0.10.21, {Path(DETECTOR).name} and {Path(MESH).name}"
    save_file(weights, out, metadata={"source": source, "license": "Apache-2.0"})
    kernels = [x for x in weights.values() if x.ndim == 4 and x.shape[-1] % 2 == 0]  # of stride 2
    zeros = sum(x.numel() - x[..., 1:, 1:].numel() for x in kernels)
    count = sum(x.numel() for x in weights.values()) - zeros
    print(f"{out}: {count:,} weights and {zeros:,} zeros before them, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
