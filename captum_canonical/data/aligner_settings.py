"""What decides the meshes of an aligner, as a text that is the same in every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.fingerprint import array_digest, file_digest

# Other releases of these find other points.
_PACKAGES = {
    "captum_canonical.adapters.mediapipe": "mediapipe",
    "captum_canonical.adapters.face_alignment": "face-alignment",
}
_PLAIN = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device)


def describe_aligner(aligner: object) -> str:
    """The class of an aligner and all of its settings, nested aligners and canonical faces included.

    Files (``pathlib.Path`` of one) and arrays are described by their contents, and aligners of this package by the
    release of the package that they use as well. The code of a class is not looked at.

    Raises:
        CanonicalError: a function, or a setting that is no number, text, file, array, list, dict, data class or object
            of such; the message names it.

    Example::

        >>> from captum_canonical.adapters import PixelGrid
        >>> describe_aligner(PixelGrid(2, 3))
        "captum_canonical.adapters.keypoints.PixelGrid(cols=3, rows=2, topology='grid-2x3')"
    """
    if not hasattr(aligner, "__dict__") or hasattr(aligner, "__code__") or isinstance(aligner, type):
        raise _undescribed("aligner", aligner)
    return _describe(aligner, type(aligner).__name__, ())


def _describe(value: Any, place: str, outer: tuple[int, ...]) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Path):
        return f"file {file_digest(value)}" if value.is_file() else f"path {str(value)!r}"
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.hasobject:
            raise _undescribed(place, value)
        return f"array {array_digest(array)}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_describe(each, f"{place}[{n}]", outer) for n, each in enumerate(value)) + ")"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(_describe(each, place, outer) for each in value)) + "}"
    if isinstance(value, Mapping):
        parts = (
            f"{_describe(key, place, outer)}: {_describe(each, f'{place}[{key!r}]', outer)}"
            for key, each in value.items()
        )
        return "{" + ", ".join(sorted(parts)) + "}"
    return _describe_object(value, place, outer)


def _describe_object(value: Any, place: str, outer: tuple[int, ...]) -> str:
    """The class and every attribute, private ones included: a setting may hide there."""
    settings = _settings(value)
    if settings is None or id(value) in outer:  # a network, a lock, a function, an object that holds itself
        raise _undescribed(place, value)
    parts = [f"{name}={_describe(settings[name], f'{place}.{name}', (*outer, id(value)))}" for name in sorted(settings)]
    kind = type(value)
    used = sorted({_PACKAGES[base.__module__] for base in kind.__mro__ if base.__module__ in _PACKAGES})
    return f"{kind.__module__}.{kind.__qualname__}({', '.join(parts + [_release(name) for name in used])})"


def _settings(value: Any) -> dict[str, Any] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    slots = any(getattr(base, "__slots__", ()) for base in type(value).__mro__)
    slots |= type(value).__reduce__ is not object.__reduce__  # written in C, as functools.partial: __dict__ is not all
    if (
        not hasattr(value, "__dict__")
        or slots
        or hasattr(value, "__code__")
        or isinstance(value, (type, torch.nn.Module))
    ):
        return None
    kept = {
        name for base in type(value).__mro__ for name, each in vars(base).items() if isinstance(each, cached_property)
    }
    return {name: each for name, each in vars(value).items() if name not in kept}  # what is computed decides nothing


def _release(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} absent"


def _undescribed(place: str, value: object) -> CanonicalError:
    return CanonicalError(
        f"cache: expected an aligner whose settings can be told, so that no mesh of other settings is "
        f"mistaken for its own, but {place} is {type(value).__module__}.{type(value).__qualname__}, which has no "
        "stable description; give cache_key=, a text that changes whenever the meshes would, or leave out cache=."
    )
