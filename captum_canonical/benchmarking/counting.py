"""How many images pass through networks and forward functions while other people's methods run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


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
