"""Which operators on maps with channels last, (N, H, W, C), act at each position for itself.

Networks such as ConvNeXt turn a map, normalise and multiply its channels with matrices there, and turn it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from captum_canonical.inference.operators import Pointwise, target_name

TURN, TURN_BACK = (0, 2, 3, 1), (0, 3, 1, 2)
_BOTH_WAYS = {"add", "sub", "mul", "div", "truediv", "true_divide", "subtract", "multiply", "divide"}


def turned(node: fx.Node) -> bool:
    """Whether the step's result is a map with channels last."""
    return bool(node.meta.get("turned"))


def turning(node: fx.Node, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pointwise | None:
    """A step that turns a map, or turns it back; None if it does neither."""
    if target_name(node) != "permute" or not isinstance(args[0], Tensor) or args[0].ndim != 4 or len(args[0]) != 1:
        return None
    order = kwargs["dims"] if "dims" in kwargs else args[1] if len(args) == 2 else args[1:]
    back = turned(node.all_input_nodes[0])
    if tuple(d % 4 for d in order) != (TURN_BACK if back else TURN):
        return None
    node.meta["turned"] = not back
    return Pointwise(run, kind="free")


def on_channels(
    node: fx.Node,
    module: nn.Module | None,
    run: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    known: Callable[[str], str | None],
) -> Pointwise | None:
    """A step on maps with channels last that keeps positions apart; None for any other.

    Args:
        node: whose inputs carry ``meta["turned"]`` and ``meta["per_image"]``.
        module: that it calls, if it does.
        run: what it calls.
        args: its arguments for one image, as are
        kwargs: and
        result: its result.
        known: the kind of cost of an activation of this name; None for what is none.
    """
    maps = [n for n in node.all_input_nodes if n.meta.get("per_image")]
    if not isinstance(result, Tensor) or result.ndim != 4 or not all(map(turned, maps)):
        return None
    x = maps[0].meta["value"]
    if any(n.meta["value"].shape[:3] != result.shape[:3] for n in maps):
        return None
    found = _operator(node, module, run, x, (args, kwargs), known) if len(maps) == 1 or module is None else None
    node.meta["turned"] = found is not None
    return found


def _operator(
    node: fx.Node, module: nn.Module | None, run: Callable[..., Any], x: Tensor, call: Any, known: Any
) -> Pointwise | None:
    name = target_name(node) if module is None else type(module).__name__
    if _is(nn.Linear, module) or node.target is F.linear:
        weight = module.weight if isinstance(module, nn.Linear) else _second(call, "weight")
        return Pointwise(run, kind="product", macs=weight.numel()) if isinstance(weight, Tensor) else None
    if _is(nn.LayerNorm, module) or node.target in (F.layer_norm, torch.layer_norm):
        shape = module.normalized_shape if isinstance(module, nn.LayerNorm) else _second(call, "normalized_shape")
        return Pointwise(run, kind="heavy") if tuple(shape) == tuple(x.shape[3:]) else None
    if name in _BOTH_WAYS:
        others = [n.meta["value"] for n in node.all_input_nodes if not n.meta.get("per_image")]
        others += [value for value in (*call[0], *call[1].values()) if isinstance(value, Tensor)]
        return Pointwise(run) if all(_along_channels(v, x) for v in others) else None
    kind = known(name)
    return None if kind is None or len(node.all_input_nodes) != 1 else Pointwise(run, kind=kind)


def _is(kind: type[nn.Module], module: nn.Module | None) -> bool:
    return isinstance(module, kind) and type(module).forward is kind.forward


def _second(call: tuple[tuple[Any, ...], dict[str, Any]], name: str) -> Any:
    args, kwargs = call
    return args[1] if len(args) > 1 else kwargs.get(name)


def _along_channels(value: Any, x: Tensor) -> bool:
    """Whether a factor or summand is a map like ``x``, or the same at all positions."""
    if not isinstance(value, Tensor):
        return not isinstance(value, (tuple, list))
    return value.shape[:3] == x.shape[:3] or all(side == 1 for side in value.shape[:-1])
