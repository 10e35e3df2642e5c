"""How each operator of a network acts on a window of its input: which ones can, and what they compute there.

An operator that is not recognised here is :class:`Whole`: it gets complete maps, and all that follows it too.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_canonical.incremental_graph import target_name
from captum_canonical.incremental_windows import Pair, Reach

MINUS_INFINITY, ZERO = 0, 1  # the rows of a cache that stand for what lies outside the map


@dataclass(frozen=True)
class Whole:
    """Needs complete maps."""

    run: Callable[..., Any]
    macs: int = 0  # multiply-adds for one image


@dataclass(frozen=True)
class Pointwise:
    """Each position of the output depends on the same position of the inputs only; constants are the same everywhere."""

    run: Callable[..., Any]


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
    """

    run: Callable[..., Any]
    on_region: Callable[[Tensor], Tensor]
    reach: Reach
    outside: int = ZERO
    scale: Tensor | None = None
    macs: int = 0
    fold: Callable[[Tensor, Tensor], Slide] | None = None


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


Operator = Whole | Pointwise | Slide | Shift | Enlarge | Mean

_POINTWISE_NAMES = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "tanh"),
    *("hardtanh", "sigmoid", "softplus", "softsign", "logsigmoid", "threshold", "tanhshrink", "abs", "neg", "exp"),
    *("log", "log1p", "expm1", "sqrt", "rsqrt", "square", "pow", "add", "sub", "mul", "div", "truediv", "true_divide"),
    *("subtract", "multiply", "divide", "maximum", "minimum", "max", "min", "clamp", "clamp_min", "clamp_max", "clip"),
    *("clone", "contiguous", "float", "double", "detach", "positive", "erf", "sin", "cos", "reciprocal", "sign"),
    *("cat", "concat", "softmax", "log_softmax", "chunk", "split", "dropout", "dropout2d", "batch_norm", "prelu"),
)
_NAMESPACES = (torch, F, operator, torch._C._nn)
_POINTWISE_FUNCTIONS = {
    getattr(space, name) for name in _POINTWISE_NAMES for space in _NAMESPACES if hasattr(space, name)
}
_POINTWISE_MODULES = {
    getattr(nn, name).forward
    for name in (
        *("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish", "Hardsigmoid"),
        *("Hardtanh", "Tanh", "Sigmoid", "Softplus", "Softsign", "LogSigmoid", "Threshold", "Tanhshrink", "PReLU"),
        *("Identity", "Dropout", "Dropout2d", "Softmax2d"),
    )
}


def operator_of(
    node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Operator:
    """What a node computes.

    Args:
        node: of the graph; its inputs carry ``meta["per_image"]``, whether they have a row for each image.
        module: that it calls, if it does.
        args: its arguments for one image, as are
        kwargs: and
        result: its result.
    """
    run = _without_inplace(module) if module is not None else _function(node)
    maps = isinstance(args[0] if args else None, Tensor) and args[0].ndim == 4
    try:
        if module is not None and maps:
            found = _module(module, run, args[0], result)
        elif module is None:
            found = _call(node, run, args, kwargs, result)
        else:
            found = None
    except (TypeError, ValueError, RuntimeError):  # arguments of a form that is not foreseen
        found = None
    return found or Whole(run, _macs(node, module, args, result))


def _function(node: fx.Node) -> Callable[..., Any]:
    if node.op == "call_method":
        name = str(node.target)
        return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)
    return node.target  # type: ignore[return-value]


def _without_inplace(module: nn.Module) -> nn.Module:
    if not getattr(module, "inplace", False):
        return module
    module = copy.copy(module)  # shares the parameters
    module.inplace = False  # type: ignore[assignment]
    return module


def _module(m: nn.Module, run: Callable[..., Any], x: Tensor, result: Any) -> Operator | None:
    forward = type(m).forward
    if forward is nn.Conv2d.forward and type(m)._conv_forward is nn.Conv2d._conv_forward:
        assert isinstance(m, nn.Conv2d)  # noqa: S101  # for mypy
        if m.padding_mode != "zeros":
            return None
        return convolution(m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
    if forward in _POINTWISE_MODULES:
        return Pointwise(run)
    if isinstance(m, nn.BatchNorm2d) and forward is nn.BatchNorm2d.forward:
        return Pointwise(run) if m.running_mean is not None else None
    if forward is nn.MaxPool2d.forward and isinstance(m, nn.MaxPool2d) and not m.return_indices:
        return _max_pool(x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
    if forward is nn.AvgPool2d.forward and isinstance(m, nn.AvgPool2d):
        return _average_pool(
            x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
        )
    if forward is nn.AdaptiveAvgPool2d.forward:
        return _adaptive(run, x, result)
    if isinstance(m, (nn.ZeroPad2d, nn.ConstantPad2d)) and forward is nn.ConstantPad2d.forward:
        return _pad(run, x, tuple(m.padding), "constant", m.value)
    if forward is nn.Upsample.forward and isinstance(m, nn.Upsample) and m.mode == "nearest":
        return _enlarge(run, x, result)
    return None


def _call(
    node: fx.Node, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Operator | None:
    target, x = node.target, args[0] if args else kwargs.get("input")
    name = target_name(node)
    if target is operator.getitem:
        return Pointwise(run) if _takes_channels(node, x, args[1], result) else None
    if _is_pointwise(node, name, args, kwargs, result):
        return Pointwise(run)
    if not isinstance(x, Tensor) or x.ndim != 4 or _reads_per_image(node, behind=1):
        return None
    if target in (torch.conv2d, F.conv2d):
        return convolution(*args[1:], **{k: v for k, v in kwargs.items() if k != "input"})
    if target in (F.max_pool2d, torch.max_pool2d):
        return None if kwargs.get("return_indices") else _max_pool(*args, **_rest(kwargs, "return_indices"))
    if target is F.avg_pool2d:
        return _average_pool(*args, **_rest(kwargs))
    if target in (F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d):
        return _adaptive(run, x, result)
    if target in (torch.mean, torch.sum, "mean", "sum"):
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        if isinstance(dims, (tuple, list)) and sorted(d % 4 for d in dims) == [2, 3] and "dtype" not in kwargs:
            return Mean(run, x.shape[2] * x.shape[3] if name == "mean" else 1, result.ndim == 4)
    if target is F.pad:
        bound = inspect.signature(_pad_arguments).bind(*args[1:], **_rest(kwargs)).arguments
        return _pad(run, x, tuple(bound["pad"]), bound.get("mode", "constant"), bound.get("value") or 0.0)
    if target is F.interpolate and kwargs.get("mode", "nearest") == "nearest" and len(args) < 4:
        return _enlarge(run, x, result)
    return None


def _pad_arguments(pad: Any, mode: str = "constant", value: float | None = None) -> None:
    """The arguments of F.pad."""


def _rest(kwargs: dict[str, Any], *without: str) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if k not in ("input", *without)}


def _reads_per_image(node: fx.Node, behind: int) -> bool:
    """Whether an argument other than the map itself, such as a kernel, differs from image to image."""
    others = [n for n in node.all_input_nodes[behind:] if n.meta.get("per_image")]
    return any(isinstance(n.meta.get("value"), Tensor) for n in others)


def _is_pointwise(node: fx.Node, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    known = name in _POINTWISE_NAMES if node.op == "call_method" else node.target in _POINTWISE_FUNCTIONS
    parts = result if isinstance(result, (tuple, list)) else (result,)
    if not known or not parts or not all(isinstance(part, Tensor) and part.ndim == 4 for part in parts):
        return False
    if isinstance(result, (tuple, list)) and any(user.target is not operator.getitem for user in node.users):
        return False
    if name in ("softmax", "log_softmax", "cat", "concat", "chunk", "split"):
        position = 1 if name in ("softmax", "log_softmax", "cat", "concat") else 2
        dim = kwargs.get("dim", args[position] if len(args) > position else 0)
        if dim not in (1, -3):
            return False
    if name in ("dropout", "dropout2d", "batch_norm") and kwargs.get("training", False) is not False:
        return False
    free = name in ("batch_norm", "prelu")  # their other tensors belong to the channels
    return all(_fits(n.meta.get("value"), bool(n.meta.get("per_image")), parts[0], free) for n in node.all_input_nodes)


def _fits(value: Any, per_image: bool, result: Tensor, free: bool) -> bool:
    """Whether an input of a pointwise operator is a map of the result's size, or the same at all positions."""
    if not isinstance(value, Tensor):
        return not isinstance(value, (tuple, list))
    if per_image:
        return value.ndim == 4 and value.shape[2:] == result.shape[2:]
    return free or all(side == 1 for side in value.shape[-2:])


def _takes_channels(node: fx.Node, x: Any, index: Any, result: Any) -> bool:
    """Whether an indexing picks channels of a map, or one of several maps."""
    if isinstance(x, (tuple, list)):
        whole = isinstance(result, Tensor) and result.ndim == 4 and all(isinstance(part, Tensor) for part in x)
        return whole and isinstance(index, int)
    if not isinstance(x, Tensor) or x.ndim != 4 or not isinstance(index, tuple) or not 2 <= len(index) <= 4:
        return False
    return isinstance(index[1], slice) and all(part == slice(None) for part in (index[0], *index[2:]))


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
    )


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return (value, value)
    first, second = (int(v) for v in value) if len(value) == 2 else (int(value[0]),) * 2
    return (first, second)


def _max_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Slide:
    kernel, padding, dilation = _pair(kernel_size), _pair(padding), _pair(dilation)
    stride = kernel if stride is None or stride == [] else _pair(stride)
    return Slide(
        run=lambda x, *_, **__: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode),
        on_region=lambda x: F.max_pool2d(x, kernel, stride, 0, dilation),
        reach=Reach(kernel, stride, padding, dilation),
        outside=MINUS_INFINITY,
    )


def _average_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Operator:
    kernel, padding = _pair(kernel_size), _pair(padding)
    stride = kernel if stride is None or stride == [] else _pair(stride)

    def run(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)

    if kernel == tuple(input.shape[2:]) and padding == (0, 0) and not divisor_override:
        return Mean(run, kernel[0] * kernel[1], keepdim=True)
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


def _adaptive(run: Callable[..., Any], x: Tensor, result: Tensor) -> Operator | None:
    size, wanted = x.shape[2:], result.shape[2:]
    if tuple(wanted) == (1, 1):
        return Mean(run, size[0] * size[1], keepdim=True)
    if size == wanted:
        return Pointwise(lambda x, *_, **__: x)
    if size[0] % wanted[0] or size[1] % wanted[1]:
        return None
    return _average_pool(x, (size[0] // wanted[0], size[1] // wanted[1]))


def _pad(run: Callable[..., Any], x: Tensor, pad: tuple[int, ...], mode: str, value: float) -> Operator | None:
    sides = pad + (0,) * (8 - len(pad))
    if mode != "constant" or min(sides) < 0 or sides[6:] != (0, 0):
        return None
    channels = (0, 0, 0, 0, *sides[4:6])
    same = sides[4:6] == (0, 0)
    return Shift(run, (sides[2], sides[0]), lambda x: x if same else F.pad(x, channels, value=value))


def _enlarge(run: Callable[..., Any], x: Tensor, result: Tensor) -> Operator | None:
    factor = (result.shape[2] // x.shape[2], result.shape[3] // x.shape[3])
    if (x.shape[2] * factor[0], x.shape[3] * factor[1]) != tuple(result.shape[2:]):
        return None
    return Enlarge(run, factor)


def batch_norm_factors(
    node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor] | None:
    """(scale, shift) of each channel in float64, if the node is a batch norm with fixed statistics; else None."""
    if isinstance(module, nn.BatchNorm2d) and type(module).forward is nn.BatchNorm2d.forward:
        mean, variance, weight, bias = module.running_mean, module.running_var, module.weight, module.bias
        eps = module.eps
    elif module is None and node.target is F.batch_norm:
        bound = inspect.signature(F.batch_norm).bind(*args, **kwargs)
        bound.apply_defaults()
        mean, variance, weight, bias = (bound.arguments[k] for k in ("running_mean", "running_var", "weight", "bias"))
        eps = bound.arguments["eps"]
    else:
        return None
    if mean is None or variance is None:
        return None
    scale = (variance.double() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def _macs(node: fx.Node, module: nn.Module | None, args: tuple[Any, ...], result: Any) -> int:
    """Multiply-adds of the commonest operators on complete maps; 0 for all others."""
    if not isinstance(result, Tensor) or not args or not isinstance(args[0], Tensor):
        return 0
    x = args[0]
    if isinstance(module, nn.Linear) or target_name(node) in ("linear", "matmul", "bmm", "mm"):
        return result.numel() * x.shape[-1]
    if isinstance(module, nn.ConvTranspose2d):
        return x.numel() * module.weight[0].numel()
    if isinstance(module, nn.Conv2d):
        return result[0, 0].numel() * module.weight.numel()
    return 0
