"""Stand-ins for tensors that know their shape, so that what a network asks about sizes does not stop a trace.

Each step is also run on tensors without contents, for batches of two sizes. A size that is the same in both is a
number; one that is not follows the batch, and stays an operation of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

BATCHES = (2, 3)  # any two numbers that differ; a batch of one would broadcast


class Shape(tuple):
    """A tensor's shape, in which sizes that follow the batch are stand-ins."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Shape(found) if isinstance(place, slice) else found

    def numel(self) -> Any:
        """Their product."""
        return math.prod(self)


class ShapedProxy(fx.Proxy):
    """What torch.fx puts in a tensor's place, with the tensor's own shape and type as far as they are known."""

    def _known(self) -> tuple[Any, ...] | None:
        return self.tracer.shapes.of(self.node)  # type: ignore[attr-defined]

    def _tensors(self) -> tuple[Tensor, ...] | None:
        known = self._known()
        return known if known is not None and all(isinstance(value, Tensor) for value in known) else None

    @property
    def shape(self) -> Any:
        """As torch's; a stand-in if nothing is known."""
        known = self._tensors()
        if known is None or known[0].ndim != known[1].ndim:
            return fx.proxy.Attribute(self, "shape")
        sizes = zip(*(value.shape for value in known), strict=True)
        return Shape(a if a == b else self._size(place) for place, (a, b) in enumerate(sizes))

    def size(self, dim: int | None = None) -> Any:
        """As torch's."""
        if self._tensors() is None:
            return fx.proxy.Attribute(self, "size")(*(() if dim is None else (dim,)))
        return self.shape if dim is None else self.shape[dim]

    def _size(self, place: int) -> Any:
        return self.tracer.create_proxy("call_method", "size", (self, place), {})

    @property
    def ndim(self) -> Any:
        """As torch's."""
        known = self._tensors()
        return fx.proxy.Attribute(self, "ndim") if known is None else known[0].ndim

    def dim(self) -> Any:
        """As torch's."""
        return self.ndim

    @property
    def dtype(self) -> Any:
        """As torch's."""
        known = self._tensors()
        return fx.proxy.Attribute(self, "dtype") if known is None else known[0].dtype

    def is_floating_point(self) -> Any:
        """As torch's."""
        return self.dtype.is_floating_point

    def __len__(self) -> int:
        known = self._known()
        lengths = None if known is None else {_length(value) for value in known}
        if lengths is None or len(lengths) != 1 or None in lengths:
            raise fx.proxy.TraceError("'len' of a batch is asked for, or of something whose shape is not known")
        return lengths.pop()  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Any]:
        try:
            length = len(self)
        except fx.proxy.TraceError:
            return super().__iter__()
        return iter([self[place] for place in range(length)])  # type: ignore[index]


def _length(value: Any) -> int | None:
    if isinstance(value, Tensor):
        return len(value) if value.ndim else None
    return len(value) if isinstance(value, (tuple, list)) else None


def without_contents(value: Any, batch: int | None = None) -> Any:
    """A tensor's shape and type alone, of a batch of another size; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    shape = value.shape if batch is None else (batch, *value.shape[1:])
    return torch.empty(shape, dtype=value.dtype, device="meta")


class Shapes:
    """What the steps of a trace give, for batches of both sizes, without contents: found out when somebody asks.

    Args:
        root: the module that names refer to.

    Attributes:
        asking: steps are being run for their shapes, so that what they call is no step.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root, self.asking = root, False
        self._waiting: list[tuple[fx.Node, tuple[Any, ...]]] = []
        self._known: dict[fx.Node, tuple[Any, ...]] = {}

    def given(self, node: fx.Node, value: Tensor) -> None:
        """A tensor with an entry for each image."""
        self._known[node] = tuple(without_contents(value, batch) for batch in BATCHES)

    def add(self, node: fx.Node, *call: Any) -> None:
        """A step: its kind, target and arguments, as torch.fx names them."""
        self._waiting.append((node, call))

    def of(self, node: fx.Node) -> tuple[Any, ...] | None:
        """The results of a step; None if they cannot be said."""
        waiting, self._waiting, self.asking = self._waiting, [], True
        try:
            for step, (kind, target, *arguments) in waiting:
                results = [self._result(kind, target, arguments, place) for place in range(len(BATCHES))]
                if all(found for found, _ in results):
                    self._known[step] = tuple(value for _, value in results)
        finally:
            self.asking = False
        return self._known.get(node)

    def _result(self, kind: str, target: Any, arguments: Any, place: int) -> tuple[bool, Any]:
        def known(value: Any) -> Any:
            return self._known[value.node][place] if isinstance(value, fx.Proxy) else without_contents(value)

        try:
            return True, self._run(kind, target, *fx.node.map_aggregate(tuple(arguments), known))
        except Exception:  # it looks at contents, or does not know tensors without them
            return False, None

    @torch.no_grad()
    def _run(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        if kind == "call_function":
            return args[0] if target in KEEP_SHAPE and args else target(*args, **kwargs)
        value: Any = self.root
        for name in target.split("."):
            value = getattr(value, name)
        if kind == "get_attr":
            return without_contents(value)
        if type(value).forward in KEEP_SHAPE:
            return args[0]
        held = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        if type(value).forward is nn.Conv2d.forward and not kwargs:
            weight, bias = (None if p is None else without_contents(p) for p in (value.weight, value.bias))
            return value._conv_forward(args[0], weight, bias)
        return torch.func.functional_call(value, {n: without_contents(p) for n, p in held.items()}, args, kwargs)


_MODULES = ("Identity", "Dropout", "BatchNorm2d", "ReLU", "ReLU6", "GELU", "SiLU", "Hardswish", "Sigmoid", "LayerNorm")
_FUNCTIONS = ("batch_norm", "layer_norm", "relu", "relu6", "gelu", "silu", "hardswish", "hardsigmoid", "dropout")
KEEP_SHAPE = {getattr(nn, name).forward for name in _MODULES} | {getattr(F, name) for name in _FUNCTIONS}
