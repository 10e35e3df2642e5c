"""A model-level map as a file: one ``.npz`` of plain arrays, in which nothing is executed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError

FACE = "canonical_face"
PIXELS = ("mean", "variance", "count", "coverage")


def write_summary(path: Path, values: Mapping[str, Any], face: CanonicalFace | None) -> None:
    """Writes the arrays and the face so that others see the whole file or, if anything happens, what was there."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    if face is not None:
        content = io.BytesIO()
        face.save(content)
        arrays[FACE] = np.frombuffer(content.getvalue(), np.uint8)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb") as file:  # given a name, numpy would add ".npz" to it
            np.savez(file, **arrays)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CanonicalError(f"{path}: the model-level map cannot be written ({error}).") from error


def read_summary(path: str | PathLike[str]) -> dict[str, Any]:
    """What :func:`write_summary` wrote, as the arguments of a :class:`ModelSaliency`.

    Raises:
        CanonicalError: there is no such file, or it is damaged or another one.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        pixels = {name: torch.from_numpy(arrays[name]) for name in PIXELS}
        face = CanonicalFace.load(io.BytesIO(arrays[FACE].tobytes())) if FACE in arrays else None
        _check(pixels, face)
        return {
            **pixels,
            "n": int(arrays["n"]),
            "symmetric": bool(arrays["symmetric"]),
            "canonical_face": face,
        }
    except Exception as error:  # of a damaged archive zipfile, its decompressors and numpy raise a dozen kinds
        raise CanonicalError(f"{path}: expected a file written by ModelSaliency.save, but {error}.") from error


def _check(pixels: Mapping[str, torch.Tensor], face: CanonicalFace | None) -> None:
    shapes = {name: tuple(each.shape) for name, each in pixels.items()}
    wanted = shapes["mean"] if face is None else (1, *face.size)
    if len(wanted) != 3 or set(shapes.values()) != {wanted}:
        raise ValueError(f"its arrays have the shapes {shapes} instead of {wanted}")
    types = {name: each.dtype for name, each in pixels.items()}
    if types.pop("count") != torch.int64 or set(types.values()) != {torch.float64}:
        raise ValueError(f"its arrays are {types}")
