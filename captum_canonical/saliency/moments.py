"""Mean, variance and coverage of maps that arrive a few at a time, in float64.

References:
    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

Weights = Literal["photographs", "people"]
"""What counts equally in a mean map: each photograph, or each person however many photographs there are of them."""
WEIGHTS: tuple[str, ...] = get_args(Weights)


class Pixels(NamedTuple):
    """Per pixel (1, H, W): mean, variance and number of the images that cover it, and its hits in all of them.

    Where people count equally, mean, variance and number are those of the people, of the mean map of each.
    """

    mean: Tensor
    variance: Tensor
    images: Tensor
    coverage: Tensor

    @classmethod
    def of_moments(cls, moments: Tensor, hits: Tensor) -> Pixels:
        """From weights, means and sums of squared deviations (3, H, W), and hits (H, W)."""
        weight, mean, squares = moments[:, None]
        variance = torch.where(weight > 1, squares / (weight - 1), torch.nan)
        return cls(mean, variance, weight.long(), hits[None])

    def moments(self) -> Tensor:
        """The (3, H, W) argument of :meth:`of_moments`."""
        return torch.cat([self.images, self.mean, (self.variance * (self.images - 1)).nan_to_num(0.0)])


def pooled_pixels(
    chunks: Iterable[tuple[Tensor, Tensor]], face: CanonicalFace, symmetric: bool, who: str
) -> tuple[Pixels, int]:
    """The pixels of maps that arrive a few at a time, and the number of maps that cover any pixel.

    Args:
        chunks: maps (N, 1, H, W) and coverage (N, 1, H, W).
        face: the face that they are on.
        symmetric: pool each map with its mirror image.
        who: the caller named in errors.

    Example::

        >>> maps = torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 1, 4, 4)
        >>> pixels, n = pooled_pixels([(maps, torch.ones_like(maps))], CanonicalFace.default(4), False, "me")
        >>> pixels.mean.unique(), n
        (tensor([2.], dtype=torch.float64), 2)
    """
    moments, hits = torch.zeros(3, *face.size, dtype=torch.float64), torch.zeros(face.size, dtype=torch.float64)
    images = 0
    for maps, coverage in chunks:
        values, more = checked_maps(maps, coverage, face.size, who)
        if symmetric:
            values, more = pool_with_mirror_image(values, more)
        moments = merge_moments(torch.stack([moments, moments_of(values, more > 0)]))
        hits = hits + more.sum(0)
        images += int((more > 0).flatten(1).any(1).sum())
    return Pixels.of_moments(moments, hits), images


def checked_maps(
    maps: Tensor, coverage: Tensor | None, size: Sequence[int], who: str, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """(N, H, W) float64 values, 0 where not covered, and hits, on the device.

    Raises:
        CanonicalError: a shape does not fit, or a value is not finite where covered.
    """
    if not isinstance(maps, Tensor) or maps.ndim != 4 or maps.shape[1:] != (1, *size):
        raise CanonicalError(
            f"{who}: expected maps of shape (N, 1, {size[0]}, {size[1]}), the canonical face's size, got "
            f"{tuple(getattr(maps, 'shape', ())) or type(maps)}."
        )
    if coverage is None:
        coverage = torch.ones_like(maps, dtype=torch.bool)
    if not isinstance(coverage, Tensor) or coverage.shape != maps.shape:
        raise CanonicalError(
            f"{who}: expected a coverage of the maps' shape {tuple(maps.shape)}, got "
            f"{tuple(getattr(coverage, 'shape', ())) or type(coverage)}."
        )
    hits = coverage.detach().to(device, torch.float64)[:, 0]
    values = torch.where(hits > 0, maps.detach().to(device, torch.float64)[:, 0], 0.0)
    good = torch.isfinite(values) & torch.isfinite(hits) & (hits >= 0)
    rows = torch.nonzero(~good.flatten(1).all(1)).flatten().tolist()
    if rows:
        raise CanonicalError(
            f"{who}: expected finite maps wherever they are covered, and coverages of 0 or more, got other values "
            f"in rows {rows[:10]}; leave these images out or find out why."
        )
    return values, hits


def merge_moments(moments: Tensor) -> Tensor:
    """Weight, mean and sum of squared deviations of a union from those of its disjoint parts (Chan et al. 1979).

    Args:
        moments: (K, 3, ...), the parts in any order.

    Returns:
        (3, ...), all 0 where the total weight is 0.

    Example::

        >>> parts = torch.tensor([[2.0, 1.0, 2.0], [1.0, 4.0, 0.0]])  # of (0, 2) and of (4,)
        >>> merge_moments(parts)
        tensor([3., 2., 8.])
    """
    weights, means, squares = moments.unbind(1)
    weight = weights.sum(0)
    divisor = weight.clamp(min=1)  # weights are numbers of images
    mean = (weights * means).sum(0) / divisor
    mean = mean + (weights * (means - mean)).sum(0) / divisor  # what the first sum rounded off, for means far from 0
    return torch.stack([weight, mean, (squares + weights * (means - mean).square()).sum(0)])


def moments_of(values: Tensor, covered: Tensor) -> Tensor:
    """Number, mean and sum of squared deviations of the covered values of N maps (N, ...): (3, ...)."""
    weight = covered.sum(0).to(values)
    mean = (values * covered).sum(0) / weight.clamp(min=1)
    return torch.stack([weight, mean, ((values - mean).square() * covered).sum(0)])


def check_symmetric(face: CanonicalFace, who: str) -> None:
    """Raises CanonicalError unless maps on this face may be pooled with their mirror images."""
    if not face.mirror_symmetric:
        raise CanonicalError(
            f"{who}: symmetric=True expects a canonical face with a left-right permutation that is its own mirror "
            "image about the middle of its image, got one that is not; use CanonicalFace.default(), or symmetric=False."
        )


def pool_with_mirror_image(values: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """Per pixel, the mean over the covered ones of the two mirrored pixels, and the hits of both."""
    seen = (hits > 0).to(values)
    sides = seen + seen.flip(-1)
    return (values * seen + (values * seen).flip(-1)) / sides.clamp(min=1), hits + hits.flip(-1)
