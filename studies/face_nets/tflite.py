"""Reads TensorFlow Lite networks: their operators and constants, from the flat buffer itself.

A flat buffer is made of tables that point to each other by relative offsets; the numbers of fields and operators are
those of TensorFlow Lite's schema (``tensorflow/lite/schema/schema.fbs``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

KINDS = {
    0: "add",
    3: "convolution",
    4: "depthwise",
    6: "dequantize",
    18: "multiply",
    19: "relu",
    41: "subtract",
    54: "prelu",
    101: "absolute",
}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}


@dataclass(frozen=True)
class Operator:
    """One step: its kind (see ``KINDS``, other kinds by number), and the numbers of its tensors."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Graph:
    """The first graph of a ``.tflite`` file.

    Args:
        data: the bytes of the file.
        name: for the error.

    Raises:
        ValueError: they are no TensorFlow Lite network.
    """

    def __init__(self, data: bytes, name: str = "the file") -> None:
        self._data = data
        if data[4:8] != b"TFL3":
            raise ValueError(f"{name}: expected a TensorFlow Lite network")
        model = self._follow(0)
        graph = self._tables(model, 2)[0]
        self._buffers = self._tables(model, 4)
        self._tensors = self._tables(graph, 0)
        self.shapes = [self._integers(tensor, 0) for tensor in self._tensors]
        self.inputs, self.outputs = self._integers(graph, 1), self._integers(graph, 2)
        codes = [max(self._scalar(code, 0, "<b"), self._scalar(code, 3, "<i")) for code in self._tables(model, 1)]
        self.operators = [
            Operator(
                KINDS.get(code := codes[self._scalar(each, 0, "<I")], str(code)),
                self._integers(each, 1),
                self._integers(each, 2),
            )
            for each in self._tables(graph, 3)
        ]
        self._stored_as = {each.outputs[0]: each.inputs[0] for each in self.operators if each.kind == "dequantize"}

    def after(self, tensor: int, kind: str, *outputs: int) -> list[Operator]:
        """The operators of a kind that read a tensor; with ``outputs`` only those with so many channels."""
        found = [each for each in self.operators if each.kind == kind and tensor in each.inputs]
        return [each for each in found if not outputs or self.shapes[each.outputs[0]][-1] in outputs]

    def constant(self, tensor: int) -> np.ndarray:
        """The values of a tensor of weights, in the type in which they are stored."""
        tensor = self._stored_as.get(tensor, tensor)
        buffer = self._buffers[self._scalar(self._tensors[tensor], 2, "<I")]
        start, length = self._vector(buffer, 0)
        dtype = DTYPES[self._scalar(self._tensors[tensor], 1, "<b")]
        return np.frombuffer(self._data[start : start + length], dtype).reshape(self.shapes[tensor])

    def convolution(self, operator: Operator) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a convolution, their axes in PyTorch's order."""
        weight, bias = (self.constant(tensor) for tensor in operator.inputs[1:3])
        order = (3, 0, 1, 2) if operator.kind == "depthwise" else (0, 3, 1, 2)
        return weight.transpose(order).copy(), bias.copy()

    def _follow(self, at: int) -> int:
        return at + int(struct.unpack_from("<I", self._data, at)[0])

    def _field(self, table: int, number: int) -> int | None:
        """Where a field of a table is; None if it is not set."""
        layout = table - struct.unpack_from("<i", self._data, table)[0]
        slot = 4 + 2 * number
        if slot >= struct.unpack_from("<H", self._data, layout)[0]:
            return None
        inside = struct.unpack_from("<H", self._data, layout + slot)[0]
        return table + inside if inside else None

    def _scalar(self, table: int, number: int, form: str) -> int:
        at = self._field(table, number)
        return 0 if at is None else int(struct.unpack_from(form, self._data, at)[0])

    def _vector(self, table: int, number: int) -> tuple[int, int]:
        """Where the elements of a vector start, and how many there are."""
        at = self._field(table, number)
        if at is None:
            return 0, 0
        start = self._follow(at)
        return start + 4, int(struct.unpack_from("<I", self._data, start)[0])

    def _integers(self, table: int, number: int) -> tuple[int, ...]:
        start, length = self._vector(table, number)
        return struct.unpack_from(f"<{length}i", self._data, start)

    def _tables(self, table: int, number: int) -> list[int]:
        start, length = self._vector(table, number)
        return [self._follow(start + 4 * place) for place in range(length)]
