"""Runs other people's methods so that nothing of the user's is different afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.incremental.graph import HOOKS


class ModelState:
    """The hooks, modes, attributes, buffers and gradient flags of some networks, to be put back after a method failed.

    Captum removes its hooks, except where a method stops half way.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        modules = list(dict.fromkeys(module for network in networks for module in network.modules()))
        self._modes = [(module, module.training) for module in modules]
        self._attributes = [(module, set(vars(module))) for module in modules]
        self._hooks = [
            (hooks, dict(hooks))
            for module in modules
            for name in HOOKS
            if (hooks := getattr(module, name, None)) is not None
        ]
        self._flags = [(p, p.requires_grad, p.grad) for p in _unique(m.parameters() for m in networks)]
        self._buffers = [(buffer, buffer.clone()) for buffer in _unique(m.buffers() for m in networks)]

    def restore(self) -> None:
        """Puts everything back."""
        for hooks, known in self._hooks:
            if hooks != known:
                hooks.clear()
                hooks.update(known)
        for module, names in self._attributes:
            for name in set(vars(module)) - names:
                vars(module).pop(name)
        for module, training in self._modes:
            if module.training != training:
                module.training = training
        self._restore_tensors()

    @torch.no_grad()
    def _restore_tensors(self) -> None:
        for parameter, flag, gradient in self._flags:
            if parameter.requires_grad != flag:
                parameter.requires_grad_(flag)
            parameter.grad = gradient
        for buffer, value in self._buffers:
            if not torch.equal(buffer, value):
                buffer.copy_(value)


def _unique(groups: Any) -> list[Tensor]:
    return list({id(tensor): tensor for group in groups for tensor in group}.values())


class Evaluations:
    """Counts the images that pass through a network while a method runs, with hooks that are not on any network.

    If several networks or parts of one are called one after the other, the one that sees most images counts.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._depth = 0

    @property
    def count(self) -> int | None:
        """Images so far; None if no module was called, so that they could not be counted."""
        return max(self._rows.values(), default=None)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts within the context."""
        self._depth = 0  # a forward that failed has not come out again
        handles = [
            nn.modules.module.register_module_forward_pre_hook(self._enter),
            nn.modules.module.register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Counts here: methods such as DeepLift hand over tuples, of which hooks of theirs make a batch meanwhile."""
        self._depth -= 1
        if not self._depth:
            first = next((x for x in (*inputs, output) if isinstance(x, Tensor) and x.ndim), None)
            self._rows[id(module)] = self._rows.get(id(module), 0) + (0 if first is None else len(first))


class Counted:
    """A forward function that counts the images it is called with."""

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.forward_func = forward_func
        self.count = 0

    def __call__(self, *inputs: Any) -> Any:
        """What the function returns."""
        self.count += len(inputs[0])
        return self.forward_func(*inputs)
