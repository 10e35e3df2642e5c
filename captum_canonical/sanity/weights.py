"""The layers of a network, the order in which they are randomised, and their random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical._captum import format_forward_args, run_forward
from captum_canonical.attributions.layers import module_named
from captum_canonical.checks import check_several
from captum_canonical.errors import CanonicalError
from captum_canonical.restore import own_tensors, seed_generators
from captum_canonical.statistics.units import is_constant

Order = Literal["top_down", "bottom_up", "independent"]
Reinitialisation = Literal["own", "normal", "permutation"]
Layer = tuple[str, list[nn.Module]]


def _holds_weights(module: nn.Module) -> bool:
    """Whether a module itself has something to randomise: parameters, or running statistics."""
    names = [name for name, _ in module.named_buffers(recurse=False)]
    return any(True for _ in module.parameters(recurse=False)) or any(name.startswith("running_") for name in names)


def plan_of(
    model: nn.Module, names: Sequence[str] | None, order: Order, calls: Mapping[int, int]
) -> tuple[list[Layer], list[str]]:
    """The layers in the order of randomisation, and the names of those whose weights all belong to layers before."""
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
    """Modules with weights of their own, in the order of first calls; uncalled ones follow the module before."""
    call, found = -1, []
    for name, module in model.named_modules():
        call = calls.get(id(module), call)
        if _holds_weights(module):
            found.append((call, (name or "(model)", [module])))
    return [layer for _, layer in sorted(found, key=lambda entry: entry[0])]


def _named_layers(model: nn.Module, names: Sequence[str]) -> list[Layer]:
    names = names if isinstance(names, str) else check_several("layers", names, "names of submodules")
    found = [] if isinstance(names, str) else [(name, module_named(model, name)) for name in names]
    wrong = [names] if isinstance(names, str) else [name for name, module in found if module is None]
    if wrong:
        known = sorted(name for name, _ in model.named_modules(remove_duplicate=False))
        close = get_close_matches(str(wrong[0]), known, n=5, cutoff=0.5) or known[1:13]
        raise CanonicalError(
            f"layers: expected a sequence of names of submodules, got {wrong}; the network has {close}."
        )
    layers = [(name or "(model)", [m for m in each.modules() if _holds_weights(m)]) for name, each in found if each]
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
    """When a forward pass first calls each module, by id: 0 for the first."""
    # The method itself does not run here: some do not bear hooks of others.
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


def seed_all(*parts: object) -> None:
    """Seeds all generators with a hash: runs and layers are independent of each other and of their order."""
    seed_generators(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1)


def cascade(
    plan: Sequence[Layer], order: Order, seeds: Sequence[int], how: Reinitialisation, restore: Callable[[], None]
) -> Iterator[tuple[str, str]]:
    """Randomises layer after layer for each seed; yields its name and how it was done each time."""
    for seed in seeds:
        restore()
        done: set[int] = set()
        for step, (name, modules) in enumerate(plan):
            if order == "independent":
                restore()
                done = set()
            seed_all(seed, name)
            ways = {_randomise(module, how, done): None for module in modules}
            seed_all(seed, "run", step)
            yield name, ", ".join(ways)


@torch.no_grad()
def _randomise(module: nn.Module, how: Reinitialisation, done: set[int]) -> str:
    """Randomises a module's own tensors except those whose id is in ``done``, and adds their ids to it."""
    own = {name: tensor for name, tensor in own_tensors(module) if id(tensor) not in done}
    before = {name: tensor.clone() for name, tensor in own.items()}
    done |= {id(tensor) for tensor in own.values()}
    way: str = "normal" if how == "own" else how
    names = list(own)
    if how == "own" and callable(getattr(module, "reset_parameters", None)):
        names = _reset(module, before)
        way = f"reset_parameters and normal for {', '.join(names)}" if names else "reset_parameters"
    now = dict(own_tensors(module))
    for name in names:
        _redraw(now[name], how, isinstance(now[name], nn.Parameter), name.startswith("running_"))
    same = all(torch.equal(value, now[name]) for name, value in before.items())
    return f"{way}, unchanged" if same else way


def _reset(module: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Calls ``reset_parameters``; returns names of parameters that it did not reset, such as those of weight_norm."""
    mine = {id(tensor) for name, tensor in own_tensors(module) if name in before}
    # Tied tensors that were drawn already, and those of submodules, which some reset_parameters reset too.
    others = [(t, t.clone()) for t in (*module.parameters(), *module.buffers()) if id(t) not in mine]
    module.reset_parameters()  # type: ignore[operator]
    for tensor, value in others:
        tensor.copy_(value)
    parameters = {name: p for name, p in module.named_parameters(recurse=False) if name in before}
    # A constant is what many are initialised with; other values come back by chance only.
    return [n for n, p in parameters.items() if torch.equal(p, before[n]) and not is_constant(p.flatten())]


def _redraw(tensor: Tensor, how: Reinitialisation, parameter: bool, statistic: bool) -> None:
    if is_constant(tensor.flatten()):
        return  # not even by rounding
    if parameter and how != "permutation" and tensor.is_floating_point():
        tensor.copy_(tensor.mean() + tensor.std(correction=0) * torch.randn_like(tensor))
    elif parameter or statistic:
        order = torch.randperm(tensor.numel(), device=tensor.device)
        tensor.copy_(tensor.flatten()[order].view_as(tensor))
