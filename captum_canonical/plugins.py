"""Fills and aligners by name: those of this package, those registered by hand, and those of other packages.

A name is looked up among the registered ones first, then among the entry points of installed packages (groups
``captum_canonical.fills`` and ``captum_canonical.aligners``). So a name of this package always means this package's
own, and an entry point is imported only when its name is asked for.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any, TypeVar

from captum_canonical.errors import CanonicalError

Plugin = TypeVar("Plugin")


class Registry:
    """Plug-ins of one kind by name.

    Args:
        kind: what they are, for messages.
        group: of the entry points by which other packages offer theirs.
        home: the package whose modules register our own; they are imported when a name is not known yet.

    Example::

        >>> shapes = Registry("shape", "captum_canonical.shapes")
        >>> @shapes.register("round")
        ... class Round: ...
        >>> shapes.names(), "round" in shapes, shapes.load("round").__name__
        (('round',), True, 'Round')
    """

    def __init__(self, kind: str, group: str, home: str | None = None) -> None:
        self.kind, self.group, self.home = kind, group, home
        self._registered: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Plugin], Plugin]:
        """A decorator that gives a class, an instance or a function its name.

        Raises:
            CanonicalError: the name is taken by another one; registering the same one again, as a module that is
                reloaded does, is no error.
        """

        def add(plugin: Plugin) -> Plugin:
            taken = self._registered.get(name, plugin)
            if _origin(taken) != _origin(plugin):
                raise CanonicalError(
                    f"{self.kind} {name!r}: the name is taken by {_origin(taken)}; choose another one for "
                    f"{_origin(plugin)}."
                )
            self._registered[name] = plugin
            return plugin

        return add

    def names(self) -> tuple[str, ...]:
        """All names in alphabetical order. Entry points are listed without importing them."""
        self._import_home()
        return tuple(sorted({*self._registered, *(point.name for point in self._entry_points())}))

    def __contains__(self, name: str) -> bool:
        return name in self._registered or name in self.names()

    def load(self, name: str) -> Any:
        """What was registered under a name, or what its entry point refers to.

        Raises:
            CanonicalError: there is no such name; two packages offer it; or its package fails to import.
        """
        if name not in self._registered:
            self._import_home()
        if name in self._registered:
            return self._registered[name]
        points = [point for point in self._entry_points() if point.name == name]
        if not points:
            raise CanonicalError(f"{self.kind}: expected one of {list(self.names())}, got {name!r}.")
        if len({point.value for point in points}) > 1:
            raise CanonicalError(
                f"{self.kind} {name!r}: {' and '.join(map(_described, points))} have the same name; uninstall one, or "
                "pass the object itself instead of its name."
            )
        try:
            return points[0].load()
        except Exception as error:  # whatever importing another package may raise
            raise CanonicalError(
                f"{self.kind} {name!r}: {_described(points[0])} cannot be loaded ({type(error).__name__}: {error}); "
                "repair or update that package."
            ) from error

    def _entry_points(self) -> list[metadata.EntryPoint]:
        return sorted(metadata.entry_points(group=self.group), key=lambda point: (point.name, point.value))

    def _import_home(self) -> None:
        if self.home is not None:
            for module in pkgutil.iter_modules(import_module(self.home).__path__):
                import_module(f"{self.home}.{module.name}")


def _origin(plugin: Any) -> str:
    named = plugin if hasattr(plugin, "__qualname__") else type(plugin)
    return f"{named.__module__}.{named.__qualname__}"


def _described(point: metadata.EntryPoint) -> str:
    return f"{point.value} of the package {point.dist.name if point.dist is not None else '(unknown)'}"


ALIGNERS = Registry("aligner", "captum_canonical.aligners", "captum_canonical.adapters")
FILLS = Registry("fill", "captum_canonical.fills", "captum_canonical.faithfulness")
