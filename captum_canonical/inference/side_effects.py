"""A graph in which no step changes what another one reads, or the reason why there is none."""

from __future__ import annotations

import inspect
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from captum_canonical.errors import CanonicalError
from captum_canonical.inference.operators import target_name


class NotIncrementalError(CanonicalError):
    """A network cannot be run incrementally, or would gain nothing by it; the message says why, as half a sentence."""


SPACES = (torch, F, torch._C._nn)  # that hold functions
NO_COPY = {"view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "expand", "expand_as"} | {
    *("view_as", "contiguous", "chunk", "split", "unbind", "narrow", "select", "detach", "unflatten", "t", "to"),
    *("float", "double", "type_as", "getitem", "dropout", "dropout2d", "getattr"),
}
ABOUT_MEMORY = {"as_strided", "stride", "is_contiguous", "data_ptr", "storage_offset", "untyped_storage"}
NO_COPY_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def name_of(node: fx.Node) -> str:
    """How reports and reasons call a node."""
    if node.op == "call_module":
        return str(node.target).removeprefix("net.")
    return node.name


def without_side_effects(graph: fx.Graph, holder: nn.Module) -> None:
    """Lets whatever reads a tensor after it was changed in place read the changed one instead.

    Raises:
        NotIncrementalError: the tensor shares its memory with another one that is read later, or is a buffer.
    """
    modules = dict(holder.named_modules())
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and target_name(node) in ABOUT_MEMORY:
            raise NotIncrementalError(f"{node.name} depends on how a tensor lies in memory")
    position = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        changed = _changed_in_place(node, modules)
        if changed is None:
            continue
        for other in _same_memory(changed, node, modules):
            later = [user for user in other.users if position[user] > position[node]]
            if other.op == "get_attr" or (later and other is not changed):
                raise NotIncrementalError(f"{name_of(node)} changes {name_of(other)} in place")
            for user in later:
                user.replace_input_with(other, node)
        _make_functional(node)


def _changed_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The input that a node writes to, if any."""
    name = target_name(node)
    writes = node.op in ("call_function", "call_method") and (
        (name.endswith("_") and not name.endswith("__"))
        or (
            getattr(operator, name, None) is node.target
            and name.startswith("i")
            and name.removeprefix("i") in ("add", "sub", "mul", "truediv", "pow")
        )
        or _inplace_argument(node)
    )
    if node.op == "call_module":
        writes = bool(getattr(modules[str(node.target)], "inplace", False))
    if isinstance(node.kwargs.get("out"), fx.Node):
        raise NotIncrementalError(f"{node.name} writes to out=")
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if writes and isinstance(first, fx.Node) else None


def _inplace_argument(node: fx.Node) -> bool:
    if node.op != "call_function" or not inspect.isfunction(node.target):
        return False
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return False
    return bound.arguments.get("inplace", False) is True


def _same_memory(node: fx.Node, without: fx.Node, modules: dict[str, nn.Module]) -> set[fx.Node]:
    """All nodes that may be views of the same tensor, other than through one of them."""
    found = {without}
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        if _may_be_view(current, modules):
            waiting += current.all_input_nodes[:1]
        waiting += [user for user in current.users if _may_be_view(user, modules)]
    return found - {without}


def _may_be_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], NO_COPY_MODULES)
    return node.op in ("call_function", "call_method") and target_name(node) in NO_COPY


def _make_functional(node: fx.Node) -> None:
    """The same operation with a result of its own. Modules are dealt with where they are called."""
    name = target_name(node)
    if node.op == "call_method":
        node.target = name.removesuffix("_")
    elif node.op == "call_function" and getattr(operator, name, None) is node.target:
        node.target = getattr(operator, name.removeprefix("i"))
    elif node.op == "call_function" and _inplace_argument(node):
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
        node.args, node.kwargs = (), {**bound.arguments, "inplace": False}
    elif node.op == "call_function":
        spaces = [space for space in SPACES if hasattr(space, name.removesuffix("_"))]
        if not spaces:
            raise NotIncrementalError(f"{node.name} works in place")
        node.target = getattr(spaces[0], name.removesuffix("_"))
