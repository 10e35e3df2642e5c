"""Which layers a network has, and in which order they are randomised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical._captum import format_forward_args, run_forward
from captum_canonical.errors import CanonicalError
from captum_canonical.sanity.weights import Layer, Order, own_tensors


def _holds_weights(module: nn.Module) -> bool:
    """Whether there is something to randomise: parameters, or statistics that were learned without any."""
    names = [name for name, _ in module.named_buffers(recurse=False)]
    return any(True for _ in module.parameters(recurse=False)) or any(name.startswith("running_") for name in names)


def plan_of(
    model: nn.Module, names: Sequence[str] | None, order: Order, calls: Mapping[int, int]
) -> tuple[list[Layer], list[str]]:
    """The layers in the order of randomisation, and the names of those that others hold all weights of."""
    layers = _called_layers(model, calls) if names is None else _named_layers(model, names)
    if not layers:
        raise CanonicalError("model_randomization: expected a network with parameters, got one without any.")
    if order == "top_down":
        layers.reverse()
    seen: set[int] = set()
    plan, shared = [], []
    for name, modules in layers:
        tensors = {id(tensor) for module in modules for _, tensor in own_tensors(module)}
        (shared.append(name) if tensors <= seen else plan.append((name, modules)))
        if order != "independent":
            seen |= tensors
    return plan, shared


def _called_layers(model: nn.Module, calls: Mapping[int, int]) -> list[Layer]:
    """Each module with weights of its own, by its first call; one without a call stays with the one before it."""
    call, found = -1, []
    for name, module in model.named_modules():
        call = calls.get(id(module), call)
        if _holds_weights(module):
            found.append((call, (name or "(model)", [module])))
    return [layer for _, layer in sorted(found, key=lambda entry: entry[0])]


def _named_layers(model: nn.Module, names: Sequence[str]) -> list[Layer]:
    known = dict(model.named_modules(remove_duplicate=False))
    wrong = [name for name in names if name not in known] if not isinstance(names, str) else [names]
    if wrong:
        raise CanonicalError(
            f"layers: expected a sequence of names of submodules, got {wrong}; the network has {sorted(known)[1:13]}."
        )
    layers = [(name or "(model)", [m for m in known[name].modules() if _holds_weights(m)]) for name in names]
    empty = [name for name, modules in layers if not modules]
    members = [id(module) for _, modules in layers for module in modules]
    if empty or len(set(members)) < len(members):
        raise CanonicalError(
            f"layers: expected submodules with parameters that do not overlap, got {list(names)}; without parameters "
            f"are {empty}."
        )
    return layers


def first_calls(
    model: nn.Module, method: Any, inputs: Tensor | tuple[Tensor, ...] | None, arguments: Mapping[str, Any]
) -> dict[int, int]:
    """When a forward pass first calls each module, by id. Attribution does not run inside hooks: some methods mind."""
    calls: dict[int, int] = {}
    if not isinstance(method, Attribution) or inputs is None:
        return calls

    def note(module: nn.Module, _: object) -> None:
        calls.setdefault(id(module), len(calls))

    photos = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            run_forward(method.forward_func, photos, format_forward_args(arguments.get("additional_forward_args")))
    finally:
        for handle in handles:
            handle.remove()
    return calls
