"""The mean map of many photographs, pixel by pixel, whatever it was made of."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import Tensor

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError
from captum_canonical.model_saliency.saved import write_summary
from captum_canonical.model_saliency.sums import Pixels


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
