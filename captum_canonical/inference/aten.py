"""The operators of exported programs in the words of torch.nn.functional, which is what the rest recognises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from captum_canonical.inference.side_effects import SPACES, NotIncrementalError
from captum_canonical.modules import has_modes
from captum_canonical.restore import HOOKS

# Whose arguments stand in the same places in both, as far as exported programs give them.
_ALIKE = {
    *("conv2d", "relu", "relu6", "hardswish", "hardsigmoid", "hardtanh", "silu", "gelu", "elu", "leaky_relu", "tanh"),
    *("sigmoid", "softmax", "prelu", "add", "sub", "mul", "div", "cat", "chunk", "split", "clone", "max_pool2d", "pow"),
    *("avg_pool2d", "adaptive_avg_pool2d", "mean", "sum", "flatten", "linear", "permute", "layer_norm", "exp"),
    *(
        "clamp",
        "dropout",
        "transpose",
        "unsqueeze",
        "squeeze",
        "reshape",
        "matmul",
        "exp",
        "neg",
        "abs",
        "sqrt",
        "rsqrt",
    ),
}


def is_exported(module: nn.Module) -> bool:
    """Whether it is the module of an exported program, whose own hooks check the input and change nothing."""
    found = [hook for hooks in HOOKS for hook in (getattr(module, hooks, None) or {}).values()]
    own = all(getattr(hook, "__module__", "").startswith("torch.export.") for hook in found)
    return isinstance(module, fx.GraphModule) and not has_modes(module) and own


def translate(graph: fx.Graph) -> None:
    """Names the operators of an exported program by their functions; others are left as they are.

    Raises:
        NotIncrementalError: one that is left writes into a tensor.
    """
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        name = node.target._schema.name.removeprefix("aten::")
        found = _function(name)
        if name == "batch_norm":
            x, weight, bias, mean, variance, training, momentum, eps = node.args[:8]
            node.target, node.args = F.batch_norm, (x, mean, variance, weight, bias, training, momentum, eps)
        elif found is not None:
            node.target = found
        elif node.target._schema.is_mutable:
            raise NotIncrementalError(f"{name} changes a tensor in place")


def _function(name: str) -> Callable[..., Any] | None:
    if name in ("view", "_unsafe_view"):
        return torch.reshape  # maps lie in memory channels last here
    if name == "pad":
        return F.pad
    if name.removesuffix("_") not in _ALIKE:
        return None
    # What works in place keeps the name by which it is found and replaced.
    return next((getattr(space, name) for space in SPACES if hasattr(space, name)), None)
