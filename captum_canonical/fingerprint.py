"""Fingerprints: whether a value is the same as in another process, without keeping the value.

:func:`describe` turns a value into what JSON can hold and people can read; :func:`fingerprint` is the SHA-256 of that
description. Two values have the same description exactly if they agree in what this table says:

==============================  ========================================================================================
value                           what is compared
==============================  ========================================================================================
None, bool, int, float, str,    type and value; numbers of numpy count as those of Python. In a fingerprint 1, 1.0, True
bytes, complex, dtype, device   and "1" differ; through JSON, True, 1 and 1.0 are equal numbers
list, tuple, dict, set          the type and the members; of a dict the order counts in networks only, of a set never.
                                Through JSON, a tuple is a list and keys are texts
any of these of a user's class  in networks the class and attributes, besides
tensor, array                   dtype, shape and values, wherever they are kept; a tensor and an array may be equal
``pathlib.Path``                the contents of a file; the path itself where there is no such file
enum                            class and name
dataclass                       class, fields and other attributes
``__fingerprint__``             class and what this method of the object returns
attribution of Captum           class and settings (public attributes, and private ones that are plain values), without
                                the network and without settings that are None
``torch.nn.Module``             a layer of the given network: its name. Else the class and all attributes of each
                                module, private ones and hooks too, parameters and buffers; of TorchScript its code; a
                                traced graph by its code; a compiled network as the one that was compiled
function                        of the user: code (not its comments and lines), defaults, captured values, the globals
                                that it reads and functions that it calls; not what it imports when it is called. Of
                                an installed package: name and version
class                           of the user: name, methods as functions, and attributes, of its bases too; ``__init__``
                                where the class itself is held. Of an installed package: name and version
module of Python, logger        the name; in networks of a user's module what it defines
any other object                class and attributes, private ones too, except ``functools.cached_property``; where
                                not all state is in ``__dict__``, what pickle keeps of it
an object that pickle refuses   the name of the class only; ``complete=True`` is an error here, which names the part
==============================  ========================================================================================

Versions of Python, torch, numpy and Captum do not count; of a device only the type does. ``strict=True``, for keys that
many computers share, refuses modules, functions, classes and what is not in ``__dict__`` with an error.
"""

from __future__ import annotations

import copyreg
import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError
from captum_canonical.files import file_digest
from captum_canonical.functions import (
    as_compiled,
    attributes_of,
    class_parts,
    installed_version,
    is_known_by_name,
    module_settings,
    parts_beside_value,
    parts_of,
    plain_array,
    script_parts,
)

_PLAIN = (type(None), bool, int, float, str)
_BY_REPR = (bytes, complex, range, slice, torch.dtype, torch.layout, torch.memory_format, np.dtype)
_SHORT = 16  # hexadecimal digits in a description: 64 bits


def fingerprint(value: object, *, strict: bool = False, place: str = "value") -> str:
    """SHA-256 of a value's description, in hexadecimal digits.

    Args:
        value: see the module.
        strict: see the module.
        place: what messages call the value.

    Raises:
        CanonicalError: ``strict``, and there is no description.

    Example::

        >>> fingerprint([1, torch.ones(2)]) == fingerprint([1, np.ones(2, np.float32)])
        True
        >>> fingerprint([1, torch.ones(2)]) == fingerprint([1.0, torch.ones(2)])
        False
    """
    return hashlib.sha256(repr(describe(value, strict=strict, place=place)).encode()).hexdigest()


def describe(
    value: object, *, network: object = None, strict: bool = False, complete: bool = False, place: str = "value"
) -> Any:
    """A value as what JSON can hold.

    Args:
        value: see the module.
        network: whose layers are described by their names.
        strict: see the module.
        complete: raise an error where the module says so.
        place: what messages call the value.

    Raises:
        CanonicalError: ``strict`` or ``complete``, and there is no description.

    Example::

        >>> describe({"sizes": (1, 2.0), "mean": torch.zeros(3), "key": abs})
        {'key': <abs>, 'mean': <float32 (3,) 1851df59da9f2b10>, 'sizes': (1, 2.0)}
        >>> net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU())
        >>> describe(net[0], network=net)
        <layer 0>
    """
    return _Walk(network, strict, complete).of(value, place, ())


def array_digest(array: Tensor | np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, in hexadecimal digits; the same for a tensor and an array."""
    content = plain_array(array)
    digest = hashlib.sha256(f"{_dtype_name(array)} {tuple(array.shape)} ".encode())
    digest.update(content.tobytes())
    return digest.hexdigest()


def _dtype_name(array: Tensor | np.ndarray) -> str:
    dtype = array.dtype if isinstance(array, Tensor) else array.dtype.newbyteorder("=")
    return str(dtype).removeprefix("torch.")


def network_digest(network: Callable[..., Any]) -> str:
    """SHA-256 of a network, or any other callable, in hexadecimal digits: equal only for equal outputs.

    Raises:
        CanonicalError: of a part only the class can be compared; the message names the part.

    Example::

        >>> network_digest(lambda x: x + 1) == network_digest(lambda x: x + 2)
        False
    """
    walk = _Walk(None, strict=False, complete=True)
    return hashlib.sha256(repr(walk.decisive(network, "forward_func", ())).encode()).hexdigest()


class _Words(str):
    """A description, which in fingerprints differs from a text of the same letters."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self}>"


@dataclasses.dataclass(frozen=True)
class _Walk:
    network: object
    strict: bool
    complete: bool = False
    known: dict[tuple[int, bool], tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    """id and ``made`` -> the object, so that no other one gets its number, and its description."""

    def of(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        found = self._of(value, place, outer)
        more = parts_beside_value(value) if self.complete and id(value) not in outer else None
        return [found, self.of(more, place, (*outer, id(value)))] if more else found

    def _of(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        if isinstance(value, Enum):
            return _Words(f"{self._class(value)}.{value.name}")
        if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
            value = value.item()
        if isinstance(value, _PLAIN):
            return _Words(repr(value)) if isinstance(value, float) and not math.isfinite(value) else value
        if isinstance(value, torch.device):
            return _Words(value.type)  # processes of one run have devices of their own
        if isinstance(value, (*_BY_REPR, np.generic)):
            return _Words(repr(value))
        if id(value) in outer:
            return self._opaque(value, place) if self.strict else _Words(f"loop {type(value).__qualname__}")
        found = self._container(value, place, (*outer, id(value)))
        return self._object(value, place, (*outer, id(value))) if found is None else found

    def _container(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        if isinstance(value, Mapping):
            keys = {key: key if isinstance(key, _PLAIN) else _Words(repr(self.of(key, place, outer))) for key in value}
            ordered = list(value) if self.complete else sorted(value, key=lambda key: repr(keys[key]))
            return {keys[key]: self.of(value[key], f"{place}[{key!r}]", outer) for key in ordered}
        if isinstance(value, (list, tuple)):
            members = [self.of(each, f"{place}[{number}]", outer) for number, each in enumerate(value)]
            return members if isinstance(value, list) else tuple(members)
        if isinstance(value, (set, frozenset)):
            return _Words(f"set {sorted(repr(self.of(each, place, outer)) for each in value)}")
        if isinstance(value, (Tensor, np.ndarray)) and not (isinstance(value, np.ndarray) and value.dtype.hasobject):
            return _Words(f"{_dtype_name(value)} {tuple(value.shape)} {array_digest(value)[:_SHORT]}")
        if isinstance(value, Path):
            return _Words(f"file {file_digest(value)[:_SHORT]}" if value.is_file() else f"path {value}")
        return None

    def _object(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        if self.strict and isinstance(value, type):
            return self._opaque(value, place)
        if not isinstance(value, type) and hasattr(type(value), "__fingerprint__"):
            decisive = fingerprint(value.__fingerprint__(), strict=self.strict, place=place)
            return _Words(f"{self._class(value)} {decisive[:_SHORT]}")
        if isinstance(value, nn.Module) and not self.strict:
            layer = _layer(value, self.network)
            return layer or _Words(f"network {self._digest(value, place, outer)}")
        settings = self._settings(value)
        if settings is not None:
            described = {name: self.of(settings[name], f"{place}.{name}", outer) for name in sorted(settings)}
            return {"class": self._class(value), **described}
        if self.strict:
            return self._opaque(value, place)
        opened = self.complete and isinstance(value, ModuleType) and installed_version(value.__name__) is None
        if isinstance(value, (ModuleType, logging.Logger)) and not opened:
            return _Words(f"{type(value).__qualname__} {getattr(value, '__name__', '')}")
        name = getattr(value, "__qualname__", type(value).__qualname__)
        digest = self._digest(value, place, outer, made=isinstance(value, type))
        return _Words(f"{name} {digest}" if digest else name)

    def _settings(self, value: Any) -> Mapping[str, Any] | None:
        if isinstance(value, type):
            return None
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return fields if self.strict else fields | (attributes_of(value) or {})
        if self.strict:
            return attributes_of(value)
        if isinstance(value, Attribution) and (self.network is not None or not self.complete):  # not inside a network
            return {name: each for name, each in vars(value).items() if self._is_setting(name, each)}
        return None

    def _is_setting(self, name: str, value: object) -> bool:
        known = name[0] != "_" or isinstance(value, (*_PLAIN, FunctionType))
        return known and value is not None and value is not self.network and name != "forward_func"

    def _class(self, value: object) -> str:
        kind = type(value)
        if self.strict:
            return f"{kind.__module__}.{kind.__qualname__}"
        digest = "" if isinstance(value, Enum) else self._digest(kind, kind.__qualname__, ())
        return f"{kind.__qualname__} {digest}".rstrip()

    def _opaque(self, value: Any, place: str) -> _Words:
        kind = type(value)
        if self.strict:
            raise CanonicalError(f"{place} is {kind.__module__}.{kind.__qualname__}, which has no stable description")
        if self.complete:
            raise CanonicalError(
                f"{place} is {kind.__module__}.{kind.__qualname__}, of which only the class can be compared: expected "
                "weights, settings, functions. Give network_key=, a text that changes whenever the outputs would."
            )
        return _Words(getattr(value, "__qualname__", kind.__qualname__))

    # ------------------------------------------------------------------------------- what only its digest is kept of
    def _digest(self, value: Any, place: str, outer: tuple[int, ...], made: bool = False) -> str:
        """Of :meth:`decisive`, short; empty where the name says all."""
        key = id(value), made
        if key not in self.known:
            self.known[key] = value, "loop"  # for what holds itself
            found = self.decisive(value, place, outer, made)
            text = "" if found is None else hashlib.sha256(repr(found).encode()).hexdigest()[:_SHORT]
            self.known[key] = value, text
        return str(self.known[key][1])

    def decisive(self, value: Any, place: str, outer: tuple[int, ...], made: bool = False) -> Any:
        """All that decides what a network, a function, a class or any other object computes."""
        if isinstance(value, nn.Module):
            return self._modules(value, place, outer)
        if is_known_by_name(value):
            return installed_version(value.__module__ or "builtins") or None
        parts = class_parts(value, made) if isinstance(value, type) else parts_of(value)
        if parts is not None:
            return self.of(parts, place, outer) if parts else None
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):  # one that can be called
            return self.of(value, place, ())
        if (attributes := attributes_of(value)) is None:
            return self._pickled(value, place, outer)
        return [self._class(value), self.of(dict(sorted(attributes.items())), place, outer)]

    def _pickled(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        try:
            state = copyreg.dispatch_table.get(type(value), lambda each: each.__reduce_ex__(4))(value)
        except Exception:  # each refuses in its own way
            return self._opaque(value, place)
        if isinstance(state, str):
            return _Words(state)
        parts = [list(part) if hasattr(part, "__next__") else part for part in (*state, getattr(value, "__dict__", {}))]
        return [self.of(part, place, outer) for part in parts]

    def _modules(self, network: nn.Module, place: str, outer: tuple[int, ...]) -> Any:
        network = getattr(network, "_orig_mod", network)  # what torch.compile compiled
        if isinstance(network, torch.jit.ScriptModule):
            return script_parts(network)
        found: list[Any] = []
        for name, module in as_compiled(network.named_modules()):
            where, seen = f"{place}.{name}" if name else place, (*outer, id(module))
            if hasattr(type(module), "__fingerprint__"):
                found.append((name, self._object(module, where, outer)))
            elif isinstance(module, torch.jit.ScriptModule):
                found.append((name, script_parts(module)))
            else:
                kind = [type(module).__qualname__, self._digest(type(module), where, seen)]
                settings = {key: self.of(each, f"{where}.{key}", seen) for key, each in module_settings(module).items()}
                found.append((name, kind, sorted(settings.items())))
        for name, tensor in as_compiled((*network.named_parameters(), *network.named_buffers())):
            found.append((name, array_digest(tensor)))
        return found


def _layer(layer: nn.Module, network: object) -> _Words | None:
    modules = network.named_modules() if isinstance(network, nn.Module) else ()
    return next((_Words(f"layer {name or '(the network)'}") for name, module in modules if module is layer), None)
