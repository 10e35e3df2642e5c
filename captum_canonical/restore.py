"""Networks and random generators as they were, whatever is run in between."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from logging import Logger
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from captum_canonical.functions import class_parts, installed_version, parts_of
from captum_canonical.turns import turn_at

_CLOSED = (nn.Module, Tensor, np.ndarray, ModuleType, Logger, str, bytes, int, float)
_PLAIN = (type(None), bool, int, float, str, tuple)
_CODE = (type, FunctionType, MethodType, staticmethod, classmethod, property)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Whatever is drawn inside, the generators of torch, numpy and Python go on as if nothing had been.

    Example::

        >>> _ = torch.manual_seed(0)
        >>> with random_state_kept():
        ...     seed_generators(7)
        ...     first = torch.rand(1)
        >>> torch.initial_seed(), bool(first != torch.rand(1))
        (0, True)
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


def seed_generators(number: int) -> None:
    """Seeds them all."""
    number = int(number)
    torch.random.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():  # else it would be seeded later, when somebody uses it
        torch.cuda.manual_seed_all(number)
    np.random.seed(number % 2**32)
    random.seed(number)


class NetworkState:
    """The hooks, modes, attributes, buffers and gradients of some networks, to be put back after other people's code.

    Captum removes its hooks, except where a method stops half way.

    Args:
        networks: whose state it is.
        parameters: keep a copy of all parameters, too, for code that changes weights.

    Example::

        >>> network = nn.Linear(2, 1)
        >>> state = NetworkState([network])
        >>> network.activations = torch.zeros(1)  # what a method that failed has left behind
        >>> state.restore()
        >>> hasattr(network, "activations")
        False
    """

    def __init__(self, networks: Iterable[nn.Module], *, parameters: bool = False) -> None:
        modules = list(dict.fromkeys(module for network in networks for module in network.modules()))
        self._modes = [(module, module.training) for module in modules]
        self._attributes = [(module, dict(vars(module))) for module in modules]
        self._hooks = [
            (hooks, dict(hooks))
            for module in modules
            for name in HOOKS
            if (hooks := getattr(module, name, None)) is not None
        ]
        every = {id(parameter): parameter for module in modules for parameter in module.parameters(recurse=False)}
        self._gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in every.values()]
        self._tensors = [
            (module, name, tensor)
            for module in modules
            for name, tensor in own_tensors(module)
            if (parameters or not isinstance(tensor, nn.Parameter)) and not _is_expanded(tensor)
        ]
        self._values = {id(tensor): tensor.detach().clone() for *_, tensor in self._tensors}

    def restore(self) -> None:
        """Puts everything back."""
        for hooks, known in self._hooks:
            if hooks != known:
                hooks.clear()
                hooks.update(known)
        self._restore_attributes()
        for module, training in self._modes:
            if module.training != training:
                module.training = training
        self.restore_tensors()
        self._restore_gradients()

    def _restore_attributes(self) -> None:
        for module, before in self._attributes:
            for name in set(vars(module)) - set(before):
                vars(module).pop(name)
            for name, value in before.items():  # Swin, for one, adapts its windows to the images that it is given
                if isinstance(value, _PLAIN) and vars(module).get(name) is not value:
                    vars(module)[name] = value

    @torch.no_grad()
    def restore_tensors(self) -> None:
        """Puts back the buffers and, if there are copies of them, the parameters; nothing else."""
        for module, name, tensor in self._tensors:
            if getattr(module, name, None) is not tensor:  # some reset_parameters make new ones
                setattr(module, name, tensor)
            if not torch.equal(tensor, self._values[id(tensor)]):
                tensor.copy_(self._values[id(tensor)])

    def _restore_gradients(self) -> None:
        for parameter, flag, gradient in self._gradients:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
            parameter.grad = gradient


class ModuleContents:
    """The attributes of a module and the containers they hold, such as lists of features, to be put back.

    Containers of its class, of globals, default arguments and captured values that its functions use are shared with
    others: of these only the ones are put back that hold stand-ins of a trace. What ``functools.cache`` keeps is out of
    reach.

    Args:
        module: whose they are; its children have contents of their own.

    Example::

        >>> network = nn.ReLU()
        >>> network.seen = [1]
        >>> contents = ModuleContents(network)
        >>> network.seen.append(2)
        >>> contents.restore(), network.seen
        (True, [1])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        own, shared = _containers([vars(module)], code=False), _containers([type(module), vars(module)], code=True)
        self._copies = [(container, _copy(container), False) for container in own]
        known = {id(container) for container in own}
        self._copies += [(container, _copy(container), True) for container in shared if id(container) not in known]

    def restore(self) -> bool:
        """Puts everything back, in the same containers; whether anything was different."""
        changed = False
        for now, before, shared in self._copies:
            copy = _copy(now)
            same = len(copy) == len(before)
            same = same and all(a is b for a, b in zip(_parts(copy), _parts(before), strict=True))
            if not same and (not shared or any(isinstance(part, fx.Proxy) for part in _parts(copy))):
                changed = True
                now.clear()
                now.extend(before) if isinstance(now, (list, deque)) else now.update(before)
        return changed


def _containers(waiting: list[Any], code: bool) -> list[Any]:
    """Each list, dictionary, set and deque that can be reached, also through other objects; modules are left out.

    Args:
        waiting: where to begin.
        code: whether to look into the user's classes and functions.
    """
    seen, found = set(), []
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _CLOSED) or (isinstance(value, _CODE) and not code):
            continue
        seen.add(id(value))
        if isinstance(value, (list, dict, set, deque)):
            found.append(value)
        waiting += _inside(value)
    return found


def _inside(value: Any) -> list[Any]:
    """What can be reached from a value in one step; of classes and functions only the user's lead on."""
    if isinstance(value, (list, dict, set, deque, tuple)):
        return _parts(value)
    if isinstance(value, type):
        return [*class_parts(value).values()]
    if isinstance(value, _CODE):
        function = getattr(value, "__func__", getattr(value, "fget", value))
        mine = isinstance(function, FunctionType) and installed_version(function.__module__) is None
        parts = parts_of(function) or {} if mine else {}
        return [each for name in ("defaults", "keywords", "captured", "globals") for each in _values(parts.get(name))]
    slots = [name for base in type(value).__mro__ for name in _values(vars(base).get("__slots__"))]
    held = [getattr(value, name) for name in slots if isinstance(name, str) and hasattr(value, name)]
    return held + ([vars(value)] if hasattr(value, "__dict__") else [])


def _values(parts: Any) -> list[Any]:
    if isinstance(parts, dict):
        return [*parts.values()]
    return [parts] if isinstance(parts, str) else list(parts or ())


def _parts(container: Any) -> list[Any]:
    """Keys and values, or elements."""
    return [*container, *container.values()] if isinstance(container, dict) else list(container)


def _copy(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)


def own_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers that a module holds itself, by name."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _is_expanded(tensor: Tensor) -> bool:
    """Whether entries share their memory: nobody can write into such a tensor, so nobody has."""
    return any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))


@contextmanager
def network_kept(*networks: object, parameters: bool = False) -> Iterator[NetworkState]:
    """Whatever happens inside, the networks are as before; other threads wait with them.

    Args:
        *networks: modules; anything else, such as another forward function, is left alone.
        parameters: as in :class:`NetworkState`, which is given inside.
    """
    modules = [each for each in networks if isinstance(each, nn.Module)]
    with turn_at(*modules, alone=True):
        state = NetworkState(modules, parameters=parameters)
        try:
            yield state
        finally:
            state.restore()
