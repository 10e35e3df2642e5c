"""Threads take turns at a network: hooks of a method in one thread would spoil what another thread computes."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

Method = TypeVar("Method", bound=Callable[..., Any])

_condition = threading.Condition()
_in_use: list[tuple[int, frozenset[int] | None, bool]] = []  # thread, modules (None: not known), alone


@contextmanager
def turn_at(*networks: object, alone: bool) -> Iterator[None]:
    """Waits until no other thread uses these networks in a way that excludes this one.

    Networks that have a module in common count as one. A forward function that is no module may run any network. A
    thread that has its turn may take it again.

    Args:
        *networks: modules or other forward functions; None is none.
        alone: exclude every other use, for what registers hooks or changes the network. Otherwise uses that are not
            alone go side by side.
    """
    thread, modules = threading.get_ident(), _modules_of(networks)
    use = (thread, modules, alone)

    def is_free() -> bool:
        others = [(theirs, excludes) for who, theirs, excludes in _in_use if who != thread]
        return not any((alone or excludes) and _overlap(modules, theirs) for theirs, excludes in others)

    with _condition:
        _condition.wait_for(is_free)
        _in_use.append(use)
    try:
        yield
    finally:
        with _condition:
            _in_use.remove(use)
            _condition.notify_all()


def alone_at_network(attribute: Method) -> Method:
    """Decorator for ``attribute`` of a method that registers hooks on its ``forward_func``."""

    @functools.wraps(attribute)
    def taking_a_turn(self: Any, *args: Any, **kwargs: Any) -> Any:
        with turn_at(self.forward_func, alone=True):
            return attribute(self, *args, **kwargs)

    return taking_a_turn  # type: ignore[return-value]


def _modules_of(networks: tuple[object, ...]) -> frozenset[int] | None:
    found: set[int] = set()
    for network in networks:
        owner = getattr(network, "__self__", network)  # of a bound method
        if isinstance(owner, nn.Module):
            found.update(map(id, owner.modules()))
        elif network is not None:
            return None
    return frozenset(found)


def _overlap(a: frozenset[int] | None, b: frozenset[int] | None) -> bool:
    return a is None or b is None or not a.isdisjoint(b)


def _after_fork() -> None:
    """In a child process the other threads are gone, and so are their turns."""
    global _condition
    _condition = threading.Condition()
    _in_use.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
