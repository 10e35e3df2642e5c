"""Which operator a node of the graph is.

An operator that is not recognised here is :class:`Whole`: it gets complete maps, and all that follows it too.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_canonical.inference.channels_last import on_channels, turned, turning
from captum_canonical.inference.operators import (
    ACTIVATIONS,
    Mean,
    Operator,
    Pointwise,
    Query,
    Whole,
    activation_cost,
    adaptive,
    average_pool,
    convolution,
    cost_of,
    enlarge,
    linear,
    max_pool,
    pad_map,
    target_name,
)

_POINTWISE_NAMES = (
    *ACTIVATIONS,
    *("leaky_relu", "threshold", "abs", "neg", "exp"),
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


_FREE = {nn.Identity.forward, nn.Dropout.forward, nn.Dropout2d.forward}


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
    run = function_of(node, module)
    maps = isinstance(args[0] if args else None, Tensor) and args[0].ndim == 4
    found: Operator | None = None
    try:
        if any(map(turned, node.all_input_nodes)):
            found = turning(node, run, args, kwargs) or on_channels(
                node, module, run, args, kwargs, result, activation_cost
            )
        elif module is not None and maps:
            found = _module(module, run, args[0], result)
        elif module is None:
            found = _call(node, run, args, kwargs, result)
    except (TypeError, ValueError, RuntimeError):  # arguments of a form that is not foreseen
        found = None
    return found or Whole(run, _macs(node, module, args, result))


def function_of(node: fx.Node, module: nn.Module | None) -> Callable[..., Any]:
    """What a node calls, free of side effects on its arguments."""
    if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
        return lambda x: linear(x, module.weight, module.bias)
    if module is not None:
        return _without_inplace(module)
    if node.op == "call_method":
        name = str(node.target)
        if name in ("view", "view_as") and not isinstance(node.args[-1], torch.dtype):
            name = name.replace("view", "reshape")  # maps lie in memory channels last here
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
    if forward is nn.ReLU.forward:
        return Pointwise(run, _relu)
    if forward in _POINTWISE_MODULES:
        return Pointwise(run, kind="free" if forward in _FREE else cost_of(type(m).__name__))
    build = _SPATIAL_MODULES.get(forward)
    return None if build is None else build(m, run, x, result)


def _convolution(m: Any, run: Callable[..., Any], x: Tensor, result: Any) -> Operator | None:
    if type(m)._conv_forward is not nn.Conv2d._conv_forward or m.padding_mode != "zeros":
        return None
    return convolution(m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


# Keyed by the forward method: a subclass with a forward of its own is another operator.
_SPATIAL_MODULES: dict[Any, Callable[[Any, Callable[..., Any], Tensor, Any], Operator | None]] = {
    nn.Conv2d.forward: _convolution,
    nn.BatchNorm2d.forward: lambda m, run, x, _: (
        Pointwise(run) if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None else None
    ),
    nn.MaxPool2d.forward: lambda m, run, x, _: (
        None if m.return_indices else max_pool(x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
    ),
    nn.AvgPool2d.forward: lambda m, run, x, _: average_pool(
        x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    ),
    nn.AdaptiveAvgPool2d.forward: lambda m, run, x, result: adaptive(run, x, result),
    nn.ConstantPad2d.forward: lambda m, run, x, _: (
        pad_map(run, x, tuple(m.padding), "constant", m.value) if isinstance(m, nn.ConstantPad2d) else None
    ),
    nn.Upsample.forward: lambda m, run, x, result: enlarge(run, x, result) if m.mode == "nearest" else None,
}


def _call(
    node: fx.Node, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Operator | None:
    x = args[0] if args else kwargs.get("input")
    if node.target in ("size", "dim") or (node.target is getattr and args[1] in ("shape", "ndim", "dtype", "device")):
        return Query(run)
    if turn := turning(node, run, args, kwargs):
        return turn
    if _is_off(node, args, kwargs):
        return Pointwise(lambda x, *_, **__: x, kind="free")
    if node.target is operator.getitem:
        return Pointwise(run) if _takes_channels(node, x, args[1], result) else None
    name = target_name(node)
    if _is_pointwise(node, name, args, kwargs, result):
        plain = not kwargs and all(isinstance(arg, Tensor) for arg in args) and (len(args) == 1) == (name == "relu")
        return Pointwise(run, _INTO.get(name) if plain else None, cost_of(name))
    if not args or not isinstance(x, Tensor) or x.ndim != 4 or _reads_per_image(node, behind=1):
        return None
    build = _SPATIAL_CALLS.get(node.target)
    return None if build is None else build(run, x, args[1:], {k: v for k, v in kwargs.items() if k != "input"}, result)


def _is_off(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it is torchvision's stochastic depth, which does nothing outside of training."""
    if target_name(node) != "stochastic_depth":
        return False
    return (args[3] if len(args) > 3 else kwargs.get("training", True)) is False


def _relu(x: Tensor, *, out: Tensor) -> Tensor:
    return torch.clamp_min(x, 0, out=out)


_INTO: dict[str, Callable[..., Any]] = {"relu": _relu, "add": torch.add, "mul": torch.mul}


def _mean(
    run: Callable[..., Any], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, divisor: int = 1
) -> Operator | None:
    dims = args[0] if args else kwargs.get("dim")
    if not isinstance(dims, (tuple, list)) or sorted(d % 4 for d in dims) != [2, 3] or "dtype" in kwargs:
        return None
    return Mean(run, divisor, result.ndim == 4)


def _padded(
    run: Callable[..., Any], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Operator | None:
    bound = inspect.signature(_pad_arguments).bind(*args, **kwargs).arguments
    return pad_map(run, x, tuple(bound["pad"]), bound.get("mode", "constant"), bound.get("value") or 0.0)


def _pad_arguments(pad: Any, mode: str = "constant", value: float | None = None) -> None:
    """The arguments of F.pad."""


_Builder = Callable[[Callable[..., Any], Tensor, tuple[Any, ...], dict[str, Any], Any], Operator | None]
_BUILDERS: list[tuple[tuple[Any, ...], _Builder]] = [
    ((torch.conv2d, F.conv2d), lambda run, x, args, kwargs, _: convolution(*args, **kwargs)),
    (
        (F.max_pool2d, torch.max_pool2d),
        lambda run, x, args, kwargs, _: (
            None
            if kwargs.get("return_indices")
            else max_pool(x, *args, **{k: v for k, v in kwargs.items() if k != "return_indices"})
        ),
    ),
    ((F.avg_pool2d,), lambda run, x, args, kwargs, _: average_pool(x, *args, **kwargs)),
    (
        (F.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d),
        lambda run, x, args, kwargs, result: adaptive(run, x, result),
    ),
    (
        (torch.mean, "mean"),
        lambda run, x, args, kwargs, result: _mean(run, x, args, kwargs, result, x.shape[2] * x.shape[3]),
    ),
    ((torch.sum, "sum"), _mean),
    ((F.pad,), _padded),
    (
        (F.interpolate,),
        lambda run, x, args, kwargs, result: (
            enlarge(run, x, result) if kwargs.get("mode", "nearest") == "nearest" and len(args) < 3 else None
        ),
    ),
]
_SPATIAL_CALLS: dict[Any, _Builder] = {target: build for targets, build in _BUILDERS for target in targets}


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
