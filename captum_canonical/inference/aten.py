"""The operators of exported programs in the words of torch.nn.functional, which is what the rest recognises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_canonical.modules import has_modes
from captum_canonical.restore import HOOKS

_SPACES = (torch, F, torch._C._nn)
# Whose arguments stand in the same places in both, as far as exported programs give them.
_ALIKE = {
    *("conv2d", "relu", "relu6", "hardswish", "hardsigmoid", "hardtanh", "silu", "gelu", "elu", "leaky_relu", "sigmoid"),
    *("tanh", "softmax", "prelu", "add", "sub", "mul", "div", "cat", "chunk", "split", "clone", "max_pool2d", "avg_pool2d"),
    *("adaptive_avg_pool2d", "mean", "sum", "flatten", "linear", "permute", "layer_norm", "mish", "clamp", "pow"),
    *("dropout", "transpose", "unsqueeze", "squeeze", "reshape", "matmul", "exp", "neg", "abs", "sqrt", "rsqrt"),
}


def is_exported(module: nn.Module) -> bool:
    """Whether it is the module of an exported program, whose own hooks check the input and change nothing."""
    found = [hook for hooks in HOOKS for hook in (getattr(module, hooks, None) or {}).values()]
    own = all(getattr(hook, "__module__", "").startswith("torch.export.") for hook in found)
    return isinstance(module, fx.GraphModule) and not has_modes(module) and own


def translate(graph: fx.Graph) -> None:
    """Names the operators of an exported program by their functions; others are left as they are."""
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            found = _function(node.target)
            if found is not None:
                node.target = found


def _function(overload: Any) -> Callable[..., Any] | None:
    name = overload._schema.name.removeprefix("aten::")
    if name == "batch_norm":
        return _batch_norm
    if name in ("view", "_unsafe_view"):
        return torch.reshape  # maps lie in memory channels last here
    if name == "pad":
        return F.pad
    plain = name.removesuffix("_")
    if plain not in _ALIKE:
        return None
    # One that works in place keeps that name, by which it is found and replaced.
    spaces = [space for space in _SPACES if hasattr(space, plain)]
    return getattr(next((s for s in spaces if hasattr(s, name)), spaces[0]), name, None) if spaces else None


def _batch_norm(x: Tensor, *values: Any, **others: Any) -> Tensor:
    weight, bias, mean, variance, training, momentum, eps = values[:7]
    return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
