"""A model-level map as a file: one ``.npz`` of plain arrays, in which nothing is executed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import write_file
from captum_canonical.saliency.sums import Pixels

FACE = "canonical_face"
PIXELS = ("mean", "variance", "count", "coverage")


def write_summary(path: Path, values: Mapping[str, Any], face: CanonicalFace | None) -> None:
    """Writes the arrays and the face so that others see the whole file or, if anything happens, what was there."""
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


class MeanMap:
    """What a :class:`ModelSaliency` knows even without single maps.

    Args:
        mean, variance, count, coverage: see the properties.
        n: photographs in which any pixel was covered.
        canonical_face: the face that the maps are written on, None where it is not known.
        symmetric: whether each map was pooled with its mirror image, left with right.

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
    ) -> None:
        self._pixels: Pixels | None = Pixels(mean, variance, count, coverage)
        self.n = n
        self.canonical_face = canonical_face
        self.symmetric = symmetric

    @property
    def mean(self) -> Tensor:
        """(1, H, W) float64, per pixel over the images in which it was covered; 0 where that is none."""
        return self.pixels.mean

    @property
    def variance(self) -> Tensor:
        """(1, H, W) float64, between the same images (ddof 1); NaN where fewer than two cover the pixel."""
        return self.pixels.variance

    @property
    def count(self) -> Tensor:
        """(1, H, W) int64, the number of images that cover each pixel."""
        return self.pixels.images

    @property
    def coverage(self) -> Tensor:
        """(1, H, W) float64, the number of hits in all images."""
        return self.pixels.coverage

    @property
    def standard_error(self) -> Tensor:
        """(1, H, W) float64, of the mean, if the images are independent (photographs of one person are not)."""
        return (self.variance / self.count).sqrt()

    @property
    def pixels(self) -> Pixels:
        """:attr:`mean`, :attr:`variance`, :attr:`count` and :attr:`coverage` together."""
        if self._pixels is None:
            self._pixels = self._summed()
        return self._pixels

    def _summed(self) -> Pixels:
        raise NotImplementedError

    def face(self, what: str) -> CanonicalFace:
        """:attr:`canonical_face`, if it is known.

        Raises:
            CanonicalError: it is not; ``what`` is named.
        """
        if self.canonical_face is None:
            raise CanonicalError(f"ModelSaliency: {what} cannot be had, because the canonical face is not known.")
        return self.canonical_face

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the pixels, n and the canonical face to an ``.npz`` file; single maps are not in it.

        The same result gives the same bytes. :meth:`ModelSaliency.load` reads it.

        Raises:
            CanonicalError: the file cannot be written; what was there before stays.
        """
        names = ("mean", "standard_error", "variance", "count", "coverage", "n", "symmetric")
        write_summary(Path(path), {name: getattr(self, name) for name in names}, self.canonical_face)
        return Path(path)
