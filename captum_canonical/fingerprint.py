"""Fingerprints: whether a value is the same as in another process, without keeping the value.

:func:`describe` turns a value into what JSON can hold and people can read; :func:`fingerprint` is the SHA-256 of that
description. Two values have the same description exactly if they agree in what this table says:

==============================  ========================================================================================
value                           what is compared
==============================  ========================================================================================
None, bool, int, float, str,    type and value; numbers of numpy count as those of Python. In a fingerprint 1, 1.0, True
bytes, complex, dtype, device   and "1" differ; through JSON, True, 1 and 1.0 are equal numbers
list, tuple, dict, set          the type and the members; the order of a dict or set does not count. Through JSON, a
                                tuple is a list and keys are texts
tensor, array                   dtype, shape and values, wherever they are kept; a tensor and an array may be equal
``pathlib.Path``                the contents of a file; the path itself where there is no such file
enum                            class and name
dataclass                       class and fields
``__fingerprint__``             class and what this method of the object returns
attribution of Captum           class and settings (public attributes, and private ones that are plain values), without
                                the network and without settings that are None
``torch.nn.Module``             a layer of the given network: its name. Else class, mode and public attributes of each
                                module, parameters and buffers; not hooks, not the code of ``forward``
``functools.partial``           the function and its arguments
any other function, any class   the qualified name; not the code, not what a closure holds
any other object                the name of the class only
==============================  ========================================================================================

``strict=True`` refuses the last four with an error, and looks into any other object that keeps all its state in
``__dict__``: every attribute counts, private ones too, except values of ``functools.cached_property``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError
from captum_canonical.files import open_regular

_PLAIN = (type(None), bool, int, float, str)
_BY_REPR = (bytes, complex, range, slice, torch.dtype, torch.device)
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


def describe(value: object, *, network: object = None, strict: bool = False, place: str = "value") -> Any:
    """A value as what JSON can hold.

    Args:
        value: see the module.
        network: whose layers are described by their names.
        strict: see the module.
        place: what messages call the value.

    Raises:
        CanonicalError: ``strict``, and there is no description.

    Example::

        >>> describe({"sizes": (1, 2.0), "mean": torch.zeros(3), "key": abs})
        {'key': <abs>, 'mean': <float32 (3,) 1851df59da9f2b10>, 'sizes': (1, 2.0)}
        >>> net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU())
        >>> describe(net[0], network=net)
        <layer 0>
    """
    return _Walk(network, strict).of(value, place, ())


def array_digest(array: Tensor | np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, in hexadecimal digits; the same for a tensor and an array."""
    if isinstance(array, Tensor):
        dense = array.detach().cpu().resolve_conj().resolve_neg().contiguous()
        content = dense.reshape(-1).view(torch.uint8).numpy()
    else:
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    digest = hashlib.sha256(f"{_dtype_name(array)} {tuple(array.shape)} ".encode())
    digest.update(content.tobytes())
    return digest.hexdigest()


def _dtype_name(array: Tensor | np.ndarray) -> str:
    dtype = array.dtype if isinstance(array, Tensor) else array.dtype.newbyteorder("=")
    return str(dtype).removeprefix("torch.")


def file_digest(path: str | PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def module_digest(network: nn.Module) -> str:
    """SHA-256 of a network's modules, their public attributes, parameters and buffers, in hexadecimal digits."""
    return _module_digest(network, ())


class _Words(str):
    """A description, which in fingerprints differs from a text of the same letters."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self}>"


@dataclasses.dataclass(frozen=True)
class _Walk:
    network: object
    strict: bool

    def of(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        if isinstance(value, Enum):
            return _Words(f"{self._class(value)}.{value.name}")
        if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
            value = value.item()
        if isinstance(value, _PLAIN):
            return _Words(repr(value)) if isinstance(value, float) and not math.isfinite(value) else value
        if isinstance(value, (*_BY_REPR, np.generic)):
            return _Words(repr(value))
        if id(value) in outer:
            return self._opaque(value, place)
        found = self._container(value, place, (*outer, id(value)))
        return self._object(value, place, (*outer, id(value))) if found is None else found

    def _container(self, value: Any, place: str, outer: tuple[int, ...]) -> Any:
        if isinstance(value, Mapping):
            keys = {key: key if isinstance(key, _PLAIN) else _Words(repr(self.of(key, place, outer))) for key in value}
            ordered = sorted(value, key=lambda key: repr(keys[key]))
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
        if isinstance(value, type):
            return self._opaque(value, place)
        if hasattr(type(value), "__fingerprint__"):
            decisive = fingerprint(value.__fingerprint__(), strict=self.strict, place=place)
            return _Words(f"{self._class(value)} {decisive[:_SHORT]}")
        if isinstance(value, nn.Module) and not self.strict:
            return _layer(value, self.network) or _Words(f"network {_module_digest(value, outer)[:_SHORT]}")
        settings = self._settings(value)
        if settings is None:
            return self._opaque(value, place)
        described = {name: self.of(settings[name], f"{place}.{name}", outer) for name in sorted(settings)}
        return {"class": self._class(value), **described}

    def _settings(self, value: Any) -> Mapping[str, Any] | None:
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if self.strict:
            return attributes_of(value)
        if isinstance(value, Attribution):
            return {name: each for name, each in vars(value).items() if self._is_setting(name, each)}
        if isinstance(value, functools.partial):
            return {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return None

    def _is_setting(self, name: str, value: object) -> bool:
        known = name[0] != "_" or isinstance(value, _PLAIN)
        return known and value is not None and value is not self.network and name != "forward_func"

    def _class(self, value: object) -> str:
        kind = type(value)
        return f"{kind.__module__}.{kind.__qualname__}" if self.strict else kind.__qualname__

    def _opaque(self, value: Any, place: str) -> _Words:
        if self.strict:
            kind = type(value)
            raise CanonicalError(f"{place} is {kind.__module__}.{kind.__qualname__}, which has no stable description")
        return _Words(getattr(value, "__qualname__", type(value).__qualname__))


def attributes_of(value: Any) -> dict[str, Any] | None:
    """All attributes of an object that keeps its whole state in ``__dict__``, else None.

    Values of ``functools.cached_property`` are left out: they follow from the others.
    """
    bases = type(value).__mro__
    slots = any(getattr(base, "__slots__", ()) for base in bases)
    in_c = type(value).__reduce__ is not object.__reduce__  # as functools.partial: __dict__ is not all of it
    is_code = hasattr(value, "__code__") or isinstance(value, (type, nn.Module))
    if not hasattr(value, "__dict__") or slots or in_c or is_code:
        return None
    cached = {
        name for base in bases for name, each in vars(base).items() if isinstance(each, functools.cached_property)
    }
    return {name: each for name, each in vars(value).items() if name not in cached}


def _module_digest(network: nn.Module, outer: tuple[int, ...]) -> str:
    digest, walk = hashlib.sha256(), _Walk(network, strict=False)
    for name, module in network.named_modules():
        public = {key: each for key, each in vars(module).items() if key[0] != "_"}
        settings = walk.of(public, name, (*outer, id(network)))
        digest.update(repr((name, type(module).__qualname__, settings)).encode())
    tensors: Iterable[tuple[str, Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in tensors:
        digest.update(f"{name} {array_digest(tensor)}".encode())
    return digest.hexdigest()


def _layer(layer: nn.Module, network: object) -> _Words | None:
    modules = network.named_modules() if isinstance(network, nn.Module) else ()
    return next((_Words(f"layer {name or '(the network)'}") for name, module in modules if module is layer), None)
