"""ONNX files: run by onnxruntime, or as a network of torch where onnx2torch makes the same one."""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError, MissingDependencyError, first_line, user_stacklevel
from captum_canonical.files import file_digest
from captum_canonical.modules import FixedBatch
from captum_canonical.networks.references import optional
from captum_canonical.networks.settings import NetworkSettings

logger = logging.getLogger("captum_canonical")
TRIED = 3  # images
TRIED_SIZES = (224, 112, 160, 64)  # pixels, of a network that leaves the size of its input open
OLDER = (0, 17)  # versions of the operators that are tried where onnx2torch does not know a file's own
SAME = 1e-3  # of the largest output: beyond what float32 rounds in a deep network
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")  # key and value of a tensor kept elsewhere
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


class OnnxNetwork(nn.Module):
    """An ONNX file as a black box: onnxruntime runs it on the CPU, and it has no gradients.

    Args:
        path: of the file, which has a single input, a batch of images.

    Attributes:
        rows: how many images the input takes at once, None where any number will do.
        size: (height, width) of the input, None where that is open.
        channels: of the input, 1 or 3.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        CanonicalError: the file cannot be read, or has another input.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.training = path, False
        runtime = optional("onnxruntime", f"model {path}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own exception classes
            raise CanonicalError(f"model {path}: onnxruntime cannot read the file ({first_line(error)})") from error
        self.input = _image_input(self.session.get_inputs(), path)
        rows, *sides = self.input.shape
        self.channels_last = sides[0] not in (1, 3) and sides[2] in (1, 3)
        channels, *size = (sides[2], *sides[:2]) if self.channels_last else sides
        self.rows = rows if isinstance(rows, int) else None
        self.channels = 1 if channels == 1 else 3
        self.size = tuple(size) if all(isinstance(side, int) for side in size) else None
        self.names = [output.name for output in self.session.get_outputs()]

    def __fingerprint__(self) -> str:
        """Of the bytes of the file, and of those that hold its weights."""
        return onnx_digest(self.path)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """The output of images (N, C, H, W), or name -> output where there are several.

        Raises:
            CanonicalError: a gradient is asked for.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise CanonicalError(
                f"model {self.path}: onnxruntime computes no gradients; explain it by occlusion, or install "
                "onnx2torch, which makes a network of torch from most files."
            )
        array = images.detach().permute(0, 2, 3, 1) if self.channels_last else images.detach()
        kind = _TYPES[self.input.type]
        whole = array.round().clamp(0, 255) if kind is np.uint8 else array
        given = np.ascontiguousarray(whole.cpu().float().numpy().astype(kind))
        found = self.session.run(None, {self.input.name: given})
        tensors = [torch.from_numpy(np.array(each)).to(images.device) for each in found]
        return tensors[0] if len(tensors) == 1 else dict(zip(self.names, tensors, strict=True))


def onnx_digest(path: Path) -> str:
    """Of the bytes of an ONNX file, and of the files beside it that hold its weights, where these are apart."""
    model, names = path.read_bytes(), set[str]()
    for found in _LOCATION.finditer(model):  # protobuf: a number in groups of 7 bits, the lowest first
        length = sum((byte & 127) << 7 * place for place, byte in enumerate(found[1]))
        names.add(model[found.end() : found.end() + length].decode("utf-8", "replace"))
    files = [path, *(path.parent / name for name in sorted(names))]
    return " ".join(file_digest(file) for file in files if file.is_file())


def _image_input(inputs: list[Any], path: Path) -> Any:
    if len(inputs) != 1:
        listed = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise CanonicalError(
            f"model {path}: expected a single input, a batch of images, got {len(inputs)}: {listed}; write a function "
            "that gives the others their values (or a network of pairs both photographs), and use it as a factory."
        )
    shape = inputs[0].shape
    channels = (
        [side for side in (shape[1], shape[3]) if not isinstance(side, int) or side in (1, 3)]
        if len(shape) == 4
        else []
    )
    if not channels or inputs[0].type not in _TYPES:
        raise CanonicalError(
            f"model {path}: expected an input of images, (N, C, H, W) or (N, H, W, C) with 1 or 3 channels, got "
            f"{inputs[0].name} {shape} {inputs[0].type}."
        )
    return inputs[0]


def load_onnx(path: Path) -> tuple[nn.Module, NetworkSettings]:
    """The network of an ONNX file, and the size of its input.

    onnxruntime runs it, a fixed number of images at a time where the file wants that. Where onnx2torch is installed,
    makes a network of torch from the file, and both give the same outputs for images of noise, that network is taken:
    it has gradients and layers, and occlusion need not run all of it for each patch.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        CanonicalError: the file cannot be read, fails, or has other inputs than a batch of images.
    """
    box = OnnxNetwork(path)
    images, network, expected = _tried(box)
    converted = _converted(path, box)
    if converted is not None:
        reason = _difference(converted, images, expected)
        if reason is not None and box.rows is not None:
            converted = FixedBatch(converted, box.rows)
            reason = _difference(converted, images, expected)
        if reason is None:
            network = converted
        else:
            warnings.warn(
                f"model {path}: onnx2torch makes another network of it ({reason}), so onnxruntime runs it; it has no "
                "gradients and no layers, and each patch takes a whole run.",
                stacklevel=user_stacklevel(),
            )
    whole = {"std": 1 / 255} if box.input.type == "tensor(uint8)" else {}  # images of 0..255
    grey = {"channels": "L"} if box.channels == 1 else {}
    return network.eval(), NetworkSettings(size=box.size, **whole, **grey)  # type: ignore[arg-type]


def _tried(box: OnnxNetwork) -> tuple[Tensor, nn.Module, list[Tensor]]:
    """Images of noise, the network that takes any number of them, and its outputs for them.

    An image must have the same output whatever is beside it; where it has not, or several images fail, they are run
    one at a time.
    """
    problem: Exception | None = None
    for size in [box.size] if box.size else [(side, side) for side in TRIED_SIZES]:
        images = torch.rand(TRIED, box.channels, *size, generator=torch.Generator().manual_seed(0))
        images = 255 * images if box.input.type == "tensor(uint8)" else images
        try:
            single = FixedBatch(box, box.rows or 1)
            expected = _outputs(single(images))
        except Exception as error:
            problem = error
            continue
        if box.rows is None and _difference(box, images, expected) is None:
            return images, box, expected
        logger.info("model %s takes %d images at once, and is run on so many at a time.", box.path, single.rows)
        return images, single, expected
    raise CanonicalError(
        f"model {box.path}: it fails on images of noise ({first_line(problem or ValueError())})"
    ) from problem


def _converted(path: Path, box: OnnxNetwork) -> nn.Module | None:
    try:
        convert = optional("onnx2torch", f"model {path}").convert
    except MissingDependencyError:
        logger.info("model %s: with onnx2torch (pip install onnx2torch) it has gradients and layers.", path)
        return None
    problem = ""
    for version in (None, *OLDER):
        try:
            network = convert(str(path) if version is None else _older(path, version)).float()
            return _Turned(network) if box.channels_last else network
        except Exception as error:  # an operator, or its version, that it does not know, and whatever else
            problem = problem or first_line(error)
    logger.info("model %s: onnx2torch cannot make a network of it (%s)", path, problem)
    return None


def _older(path: Path, version: int) -> Any:
    """The file in an older version of ONNX's operators, 0 for its own, without aliases of weights, which they lack."""
    onnx = optional("onnx", f"model {path}")
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Identity" and node.input[0] in weights:
            copy = model.graph.initializer.add()
            copy.CopyFrom(weights[node.input[0]])
            copy.name = node.output[0]
            weights[copy.name] = copy
            model.graph.node.remove(node)
    return importlib.import_module("onnx.version_converter").convert_version(model, version) if version else model


class _Turned(nn.Module):
    """A network of images whose channels come last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.permute(0, 2, 3, 1))


@torch.no_grad()
def _difference(network: nn.Module, images: Tensor, expected: list[Tensor]) -> str | None:
    """How the outputs of a network differ from those that are expected; None where they do not."""
    try:
        found = _outputs(network.eval()(images))
    except Exception as error:
        return first_line(error).rstrip(".")
    if [each.shape for each in found] != [each.shape for each in expected]:
        return f"outputs of shape {[tuple(each.shape) for each in found]}"
    for one, other in zip(found, expected, strict=True):
        apart, largest = float((one.double() - other.double()).abs().max()), float(other.double().abs().max())
        if not apart <= SAME * largest:
            return f"outputs that differ by {apart:.2g} of {largest:.2g}"
    return None


def _outputs(found: Any) -> list[Tensor]:
    if isinstance(found, dict):
        return list(found.values())
    return list(found) if isinstance(found, (list, tuple)) else [found]
