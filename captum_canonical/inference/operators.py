"""How each kind of operator acts on a window of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from captum_canonical.inference.windows import Pair, Reach

ACTIVATIONS = (
    *("relu", "relu6", "leakyrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "tanh"),
    *("hardtanh", "sigmoid", "softplus", "softsign", "logsigmoid", "tanhshrink"),
)
_HEAVY = {
    *("elu", "selu", "celu", "gelu", "silu", "mish", "tanh", "sigmoid", "softplus", "logsigmoid", "tanhshrink", "exp"),
    *("log", "log1p", "expm1", "pow", "erf", "sin", "cos", "softmax", "log_softmax", "softmax2d", "layer_norm"),
}
MANY_ROWS = 128
MINUS_INFINITY, ZERO = 0, 1  # the rows of a cache that stand for what lies outside the map


@dataclass(frozen=True)
class Whole:
    """Needs complete maps."""

    run: Callable[..., Any]
    macs: int = 0  # multiply-adds for one image


@dataclass(frozen=True)
class Query:
    """Asks for the shape, type or device of a tensor, not for its values."""

    run: Callable[..., Any]


@dataclass(frozen=True)
class Pointwise:
    """Each position of the output depends on the same position of the inputs; constants have no positions.

    Attributes:
        run: gives a new result.
        into: the same, with a keyword ``out`` for where the result goes; or None.
        kind: the row of the table of costs: ``"light"``, ``"heavy"``, ``"product"`` or ``"free"``.
        folded: the convolution before it does its work.
        macs: multiply-adds for one position.
    """

    run: Callable[..., Any]
    into: Callable[..., Any] | None = None
    kind: str = "light"
    folded: bool = False
    macs: int = 0


@dataclass(frozen=True)
class Slide:
    """A convolution or pooling.

    Attributes:
        run: on a complete map.
        on_region: on the inputs that a window of the output needs, padding included.
        reach: which these are.
        outside: the cache's row that stands for padding.
        scale: (H, W) of the output, a factor for what ``on_region`` returns, or None.
        macs: multiply-adds for one output position.
        fold: for a convolution, makes it anew with each output channel scaled and shifted.
        kind: the row of the table of costs: ``"convolution"``, ``"pixel"``, ``"depthwise"``, ``"grouped"``, ``"pool"``.
    """

    run: Callable[..., Any]
    on_region: Callable[[Tensor], Tensor]
    reach: Reach
    outside: int = ZERO
    scale: Tensor | None = None
    macs: int = 0
    fold: Callable[[Tensor, Tensor], Slide] | None = None
    kind: str = "pool"

    @property
    def reads_pixels(self) -> bool:
        """Whether each output reads a single pixel: only these are gathered, and no stride is left."""
        return self.reach.kernel == (1, 1)


@dataclass(frozen=True)
class Shift:
    """Constant padding as an operation of its own: the content moves."""

    run: Callable[..., Any]
    by: Pair
    on_window: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Enlarge:
    """Every pixel repeated."""

    run: Callable[..., Any]
    factor: Pair


@dataclass(frozen=True)
class Mean:
    """Over the whole map (or the sum, with a divisor of 1)."""

    run: Callable[..., Any]
    divisor: int
    keepdim: bool


Operator = Whole | Query | Pointwise | Slide | Shift | Enlarge | Mean


def target_name(node: fx.Node) -> str:
    """``add`` for torch.add, operator.add, Tensor.add and Tensor.add_."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def convolution(
    weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Slide:
    """A two-dimensional convolution; the arguments are torch's."""
    stride, dilation = _pair(stride), _pair(dilation)
    kernel: Pair = (weight.shape[2], weight.shape[3])
    if padding == "same":  # what is odd goes behind
        before: Pair = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    else:
        before = (0, 0) if padding == "valid" else _pair(padding)

    def fold(scale: Tensor, shift: Tensor) -> Slide:
        folded = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        offset = shift if bias is None else bias.double() * scale + shift
        return convolution(folded, offset.to(weight.dtype), stride, padding, dilation, groups)

    # A kernel of one pixel needs no stride: only the pixels that it reads are gathered.
    step = (1, 1) if kernel == (1, 1) else stride
    return Slide(
        run=lambda x, *_, **__: F.conv2d(x, weight, bias, stride, padding, dilation, groups),
        on_region=lambda x: F.conv2d(x, weight, bias, step, 0, dilation, groups),
        reach=Reach(kernel, stride, before, dilation),
        macs=weight.numel(),
        fold=fold,
        kind=_kind(weight, groups),
    )


def _kind(weight: Tensor, groups: int) -> str:
    if groups > 1:
        return "depthwise" if weight.shape[1] == 1 else "grouped"
    return "pixel" if weight.shape[2:].numel() == 1 else "convolution"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of many rows: to a CPU a 1 x 1 convolution over a map with a pixel for each row.

    Torch multiplies matrices with MKL, and convolves with oneDNN, which took half the time on the processor of
    ``benchmarks/results``.
    """
    if x.ndim != 2 or len(x) < MANY_ROWS or x.is_cuda or x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    pixels = x[None, None].permute(0, 3, 1, 2)
    return F.conv2d(pixels, weight[:, :, None, None], bias)[0, :, 0].t()


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return (value, value)
    first, second = (int(v) for v in value) if len(value) == 2 else (int(value[0]),) * 2
    return (first, second)


def max_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Slide:
    """Max pooling of a map like ``input``; the arguments are torch's."""
    kernel, padding, dilation = _pair(kernel_size), _pair(padding), _pair(dilation)
    stride = kernel if stride is None or stride == [] else _pair(stride)
    return Slide(
        run=lambda x, *_, **__: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode),
        on_region=lambda x: F.max_pool2d(x, kernel, stride, 0, dilation),
        reach=Reach(kernel, stride, padding, dilation),
        outside=MINUS_INFINITY,
    )


def average_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Operator:
    """Average pooling of a map like ``input``; the arguments are torch's."""
    kernel, padding = _pair(kernel_size), _pair(padding)
    stride = kernel if stride is None or stride == [] else _pair(stride)

    def run(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)

    if kernel == tuple(input.shape[2:]) and padding == (0, 0) and not divisor_override:
        return Mean(run, kernel[0] * kernel[1], keepdim=True)
    if padding == (0, 0) and not ceil_mode:
        return Slide(run, run, Reach(kernel, stride))
    # Padding counts or not, and what ceil_mode adds never does: the divisors are read off a map of ones.
    ones = torch.ones_like(input[:1, :1])
    counted = F.avg_pool2d(ones, kernel, stride, padding, ceil_mode, divisor_override=1)
    scale = (run(ones) / counted)[0, 0]
    return Slide(
        run=run,
        on_region=lambda x: F.avg_pool2d(x, kernel, stride, divisor_override=1),
        reach=Reach(kernel, stride, padding),
        scale=scale,
    )


def adaptive(run: Callable[..., Any], x: Tensor, result: Tensor) -> Operator | None:
    """Adaptive average pooling from the size of ``x`` to that of ``result``; None if its windows are unequal."""
    size, wanted = x.shape[2:], result.shape[2:]
    if tuple(wanted) == (1, 1):
        return Mean(run, size[0] * size[1], keepdim=True)
    if size == wanted:
        return Pointwise(lambda x, *_, **__: x)
    if size[0] % wanted[0] or size[1] % wanted[1]:
        return None
    return average_pool(x, (size[0] // wanted[0], size[1] // wanted[1]))


def pad_map(run: Callable[..., Any], x: Tensor, pad: tuple[int, ...], mode: str, value: float) -> Operator | None:
    """Padding with a constant; None for any other mode, and for padding that cuts off."""
    sides = pad + (0,) * (8 - len(pad))
    if mode != "constant" or min(sides) < 0 or sides[6:] != (0, 0):
        return None
    channels = (0, 0, 0, 0, *sides[4:6])
    same = sides[4:6] == (0, 0)
    return Shift(run, (sides[2], sides[0]), lambda x: x if same else F.pad(x, channels, value=value))


def enlarge(run: Callable[..., Any], x: Tensor, result: Tensor) -> Operator | None:
    """Repeated pixels; None if ``result`` is not a whole number of times as large as ``x``."""
    factor = (result.shape[2] // x.shape[2], result.shape[3] // x.shape[3])
    if (x.shape[2] * factor[0], x.shape[3] * factor[1]) != tuple(result.shape[2:]):
        return None
    return Enlarge(run, factor)


def cost_of(name: str) -> str:
    """The kind of cost of a pointwise function of this name."""
    return "heavy" if name.lower() in _HEAVY else "light"


def activation_cost(name: str) -> str | None:
    """The kind of cost of an activation, by the name of its module or function; None for what is none."""
    low = name.lower()
    if low in ("dropout", "identity", "contiguous"):
        return "free"
    return cost_of(low) if low in ACTIVATIONS else None
