"""A mean map without the single maps behind it, in memory and as an ``.npz`` file of plain arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_choice, check_path
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import open_regular, write_file
from captum_canonical.saliency.moments import WEIGHTS, Pixels, Weights

FACE = "canonical_face"
PIXELS = ("mean", "variance", "count", "coverage")


def write_summary(path: Path, values: Mapping[str, Any], face: CanonicalFace | None) -> None:
    """Writes the arrays and the face; on a crash, the old file is kept."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    if face is not None:
        content = io.BytesIO()
        face.save(content)
        arrays[FACE] = np.frombuffer(content.getvalue(), np.uint8)
    try:
        write_file(path, lambda file: np.savez(file, **arrays))
    except OSError as error:
        raise CanonicalError(f"{path}: the model-level map cannot be written ({error}).") from error


def read_summary(path: str | PathLike[str]) -> dict[str, Any]:
    """What :func:`write_summary` wrote, as the arguments of a :class:`ModelSaliency`.

    Raises:
        CanonicalError: there is no such file, it is damaged, or something else wrote it.
    """
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        pixels = {name: torch.from_numpy(arrays[name]) for name in PIXELS}
        face = CanonicalFace.load(io.BytesIO(arrays[FACE].tobytes())) if FACE in arrays else None
        _check(pixels, face)
        weights = str(arrays.get("weights", "photographs"))
        check_choice("weights", weights, WEIGHTS)
        return {
            **pixels,
            "n": int(arrays["n"]),
            "symmetric": bool(arrays["symmetric"]),
            "canonical_face": face,
            "weights": weights,
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


class MeanMap:
    """A mean map and its uncertainty: the part of a :class:`ModelSaliency` that needs no single maps.

    Args:
        mean, variance, count, coverage: see the properties.
        n: photographs in which any pixel was covered.
        canonical_face: the face that the maps are written on, None where it is not known.
        symmetric: whether each map was pooled with its mirror image, left with right.
        weights: what counts equally: ``"photographs"``, or ``"people"``, however many photographs there are of each.

    Example::

        >>> import torch
        >>> pixels = torch.tensor([[[4.0]]]), torch.tensor([[[12.0]]]), torch.tensor([[[3]]]), torch.tensor([[[9.0]]])
        >>> MeanMap(*pixels, n=3).standard_error
        tensor([[[2.]]])
    """

    def __init__(
        self,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        coverage: Tensor,
        n: int,
        *,
        canonical_face: CanonicalFace | None = None,
        symmetric: bool = False,
        weights: Weights = "photographs",
    ) -> None:
        self._pixels: Pixels | None = Pixels(mean, variance, count, coverage)
        self.n = n
        self.canonical_face = canonical_face
        self.symmetric = symmetric
        self.weights = weights

    @property
    def mean(self) -> Tensor:
        """(1, H, W) float64, per pixel the mean over the images (or people) that cover it; 0 where none does."""
        return self.pixels.mean

    @property
    def variance(self) -> Tensor:
        """(1, H, W) float64, between the images (or people) that cover the pixel (ddof 1); NaN for fewer than two."""
        return self.pixels.variance

    @property
    def count(self) -> Tensor:
        """(1, H, W) int64, the number of images (or people) that cover each pixel."""
        return self.pixels.images

    @property
    def coverage(self) -> Tensor:
        """(1, H, W) float64, the number of hits in all images."""
        return self.pixels.coverage

    @property
    def standard_error(self) -> Tensor:
        """(1, H, W) float64, of the mean, if the images (or people) are independent, unlike those of one person."""
        return (self.variance / self.count).sqrt()

    @property
    def pixels(self) -> Pixels:
        """:attr:`mean`, :attr:`variance`, :attr:`count` and :attr:`coverage` together."""
        if self._pixels is None:
            self._pixels = self._compute_pixels()
        return self._pixels

    def _compute_pixels(self) -> Pixels:
        raise NotImplementedError

    def face(self, what: str) -> CanonicalFace:
        """:attr:`canonical_face`, which must be known.

        Raises:
            CanonicalError: it is not known; the message names ``what`` needs it.
        """
        if self.canonical_face is None:
            raise CanonicalError(f"ModelSaliency: {what} is not available, because the canonical face is not known.")
        return self.canonical_face

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the pixels, n and the canonical face, but no single maps, to an ``.npz`` file.

        Equal results give equal bytes. :meth:`ModelSaliency.load` reads the file.

        Raises:
            CanonicalError: the file cannot be written; an existing file is kept.
        """
        names = ("mean", "standard_error", "variance", "count", "coverage", "n", "symmetric")
        values = {name: getattr(self, name) for name in names}
        if self.weights != "photographs":
            values["weights"] = self.weights
        target = check_path("path", path)
        write_summary(target, values, self.canonical_face)
        return target


# ------------------------------------------------------------------------------------------------- the same face
SAME_VERTEX = 1e-3
"""Vertices whose distance is at most this share of the face's size are the same."""


def check_same_face(a: MeanMap, b: MeanMap, who: str) -> None:
    """Raises CanonicalError unless a pixel of one map is the same point of the face in the other.

    An unknown face matches any face of its size.
    """
    keys = [(_size(each), _topology(each), each.symmetric) for each in (a, b)]
    faces = [each.canonical_face for each in (a, b)]
    if keys[0][0] != keys[1][0] or keys[0][2] != keys[1][2] or (None not in faces and keys[0] != keys[1]):
        raise CanonicalError(
            f"{who}: expected maps with the same (height, width), topology and symmetric = {keys[0]}, got {keys[1]}."
        )
    if faces[0] is not None and faces[1] is not None and not _same_vertices(faces[0], faces[1]):
        raise CanonicalError(
            f"{who}: expected maps on the same canonical face, got two whose {len(faces[0].vertices)} and "
            f"{len(faces[1].vertices)} vertices lie in other places; explain both on one canonical_face."
        )


def _size(saliency: MeanMap) -> tuple[int, ...]:
    return tuple(saliency.mean.shape[1:]) if saliency.canonical_face is None else saliency.canonical_face.size


def _topology(saliency: MeanMap) -> str | None:
    return None if saliency.canonical_face is None else saliency.canonical_face.topology


def _same_vertices(one: CanonicalFace, other: CanonicalFace) -> bool:
    if one is other:
        return True
    if one.vertices.shape != other.vertices.shape or not torch.equal(one.triangles, other.triangles):
        return False
    return bool((one.vertices - other.vertices).abs().max() <= SAME_VERTEX * max(one.size))
