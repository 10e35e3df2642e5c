"""Writes small ONNX files, without the package onnx: protocol buffers are numbers, lengths and bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10}
Shape = Sequence[int | str]


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(*fields: tuple[int, Any]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    """One operator."""
    made = [(1, each) for each in inputs] + [(2, output), (3, output), (4, kind)]
    for name, value in attributes.items():
        held = [(3, value), (20, 2)] if isinstance(value, int) else [*((8, each) for each in value), (20, 7)]
        made.append((5, _message((1, name), *held)))
    return _message(*made)


def _tensor(name: str, values: np.ndarray, apart: Path | None = None) -> bytes:
    """A tensor, whose bytes are appended to a file of their own if there is one."""
    data = np.ascontiguousarray(values).tobytes()
    held: list[tuple[int, Any]] = [(9, data)]
    if apart is not None:
        facts = {"location": apart.name, "offset": str(apart.stat().st_size), "length": str(len(data))}
        held = [*((13, _message((1, key), (2, value))) for key, value in facts.items()), (14, 1)]
        apart.write_bytes(apart.read_bytes() + data)
    dims = [(1, int(side)) for side in values.shape]
    return _message(*dims, (2, TYPES[str(values.dtype)]), (8, name), *held)


def _value(name: str, shape: Shape, kind: str) -> bytes:
    dims = [(1, _message((1, side) if isinstance(side, int) else (2, side))) for side in shape]
    return _message((1, name), (2, _message((1, _message((1, TYPES[kind]), (2, _message(*dims)))))))


def write_onnx(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Mapping[str, tuple[Shape, str]],
    outputs: Mapping[str, Shape],
    weights: Mapping[str, np.ndarray] | None = None,
    apart: Path | None = None,
) -> Path:
    """Writes a model of these operators, inputs (name -> shape and type), outputs and weights, these perhaps apart."""
    if apart is not None:
        apart.write_bytes(b"")
    graph = [(1, each) for each in nodes] + [(2, "graph")]
    graph += [(5, _tensor(name, values, apart)) for name, values in (weights or {}).items()]
    graph += [(11, _value(name, *each)) for name, each in inputs.items()]
    graph += [(12, _value(name, shape, "float32")) for name, shape in outputs.items()]
    path.write_bytes(_message((1, 8), (8, _message((1, ""), (2, 13))), (7, _message(*graph))))
    return path


class OnnxTwin(nn.Module):
    """A convolution and a linear layer for images of 24 x 24, which :func:`write_twin` writes as an ONNX file."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(channels, 4, 5, stride=2), nn.Linear(400, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(1))


def write_twin(
    path: Path, rows: int | str = "n", *, layout: str = "NCHW", kind: str = "float32", flat: int = 1
) -> Path:
    """Writes :class:`OnnxTwin`.

    Args:
        path: of the file.
        rows: how many images it takes at once; a name for any number.
        layout: of its input, NCHW or NHWC.
        kind: of its input.
        flat: what ends up in the first dimension before the last layer, as in ``view(flat, -1)``; 0: a row per image.
    """
    net = OnnxTwin()
    weights = {name: value.detach().numpy() for name, value in net.named_parameters()}
    steps, last = [], "input"
    if kind != "float32":
        steps.append(node("Cast", [last], "cast", to=1))
        last = "cast"
    if layout == "NHWC":
        steps.append(node("Transpose", [last], "turned", perm=(0, 3, 1, 2)))
        last = "turned"
    steps += [
        node("Conv", [last, "conv.weight", "conv.bias"], "conv", strides=(2, 2)),
        node("Relu", ["conv"], "relu"),
        node("Reshape", ["relu", "flat"], "features"),
        node("Gemm", ["features", "head.weight", "head.bias"], "logits", transB=1),
    ]
    sides = (24, 24, 3) if layout == "NHWC" else (3, 24, 24)
    weights["flat"] = np.array([flat, 400] if flat else [0, 400], dtype=np.int64)
    return write_onnx(path, steps, {"input": ((rows, *sides), kind)}, {"logits": (rows, 3)}, weights)
