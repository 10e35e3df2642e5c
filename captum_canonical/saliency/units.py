"""The units that are resampled: people where they are known, else photographs; and the maps of each."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_canonical.saliency.moments import Pixels, Weights, moments_of, pool_with_mirror_image
from captum_canonical.saliency.single_maps import SingleMaps
from captum_canonical.statistics.bootstrap import effective_number
from captum_canonical.statistics.labels import labels_of, people_units
from captum_canonical.statistics.units import unit_means

PIXELS_AT_ONCE = 2048
VALUES_AT_ONCE = 16_000_000  # photographs times pixels

Bands = Iterator[tuple[slice, Tensor, Tensor]]
"""Some of the H * W pixels at a time: which, (N, P) values of them, 0 where not covered, and (N, P) bool coverage."""


@dataclass(frozen=True, eq=False)
class Units:
    """The unit of each photograph.

    Attributes:
        numbers: (n,) int64 from 0 to ``count`` - 1.
        names: of the units: identities, or None for a photograph of an unknown person.
        people: whether the identity of any photograph is known.
    """

    numbers: Tensor
    names: list[Hashable | None]
    people: bool

    @property
    def count(self) -> int:
        """Number of units."""
        return len(self.names)

    @property
    def description(self) -> str:
        """Their number and what they are, such as "40 people" or "60 photographs"."""
        what = ("person", "people") if self.people else ("photograph", "photographs")
        return f"{self.count} {what[self.count != 1]}"

    @property
    def effective(self) -> float:
        """How many people with equally many photographs these are worth in a mean over photographs."""
        return float(effective_number(self.numbers.bincount().double()[:, None])) if self.count else 0.0

    @property
    def imbalance(self) -> str:
        """A sentence if a mean over photographs depends on a few people; else empty."""
        if self.effective >= self.count / 2:
            return ""
        largest = float(self.numbers.bincount().max()) / len(self.numbers)
        return (
            f"One person is on {largest:.0%} of the photographs: the mean map is worth that of {self.effective:.1f} "
            f'people with equally many, not of {self.count}; weighted("people") counts every person once.'
        )

    def each_once(self) -> Units:
        """The same units where there is one row for each."""
        return replace(self, numbers=torch.arange(self.count))

    @property
    def caveat(self) -> str:
        """A sentence about photographs of unknown people; empty if all identities are known."""
        if not self.people:
            return "Identities are not known: if photographs show the same people, the uncertainty is underestimated."
        unknown = self.names.count(None)
        return f"{unknown} photographs of unknown people count as one person each." if unknown else ""


def units_of(photos: SingleMaps) -> Units:
    """Photographs of one identity are one unit; a photograph without an identity is a unit of its own.

    Example::

        >>> maps = torch.ones(4, 1, 4, 4)
        >>> photos = SingleMaps.in_memory(maps, torch.ones_like(maps), {"identity": ["Ann", None, "Ann", None]})
        >>> units = units_of(photos)
        >>> units.numbers, units.description
        (tensor([0, 1, 0, 2]), '3 people')
    """
    identities = labels_of(photos.records.get("identity"), len(photos), "identity")
    numbers = people_units(identities)
    names = dict(zip(numbers.tolist(), identities, strict=True))
    return Units(numbers, list(names.values()), any(name is not None for name in identities))


def pixels_at_once(photos: int) -> int:
    """How many pixels of this many photographs are held in memory together."""
    return min(PIXELS_AT_ONCE, VALUES_AT_ONCE // max(1, photos))


def photo_bands(photos: SingleMaps, size: tuple[int, int], symmetric: bool, pixels: int | None = None) -> Bands:
    """The maps of n photographs, a few lines of pixels at a time.

    Args:
        photos: n of them.
        size: (H, W).
        symmetric: pool each map with its mirror image.
        pixels: how many at a time, in whole lines. Default: as memory allows.

    Yields:
        Which of the H * W pixels, (n, P) float values of them, 0 where not covered, and (n, P) bool coverage.
    """
    height, width = size
    lines = max(1, (pixels_at_once(len(photos)) if pixels is None else pixels) // width)
    for start in range(0, height, lines):
        stop = min(start + lines, height)
        maps, coverage = photos.lines(start, stop)
        covered = coverage > 0
        values = torch.where(covered, maps, 0)
        if symmetric:
            values, hits = pool_with_mirror_image(values, covered.to(values))
            covered = hits > 0
        yield slice(start * width, stop * width), values.flatten(1), covered.flatten(1)


def row_bands(
    photos: SingleMaps, units: Units, size: tuple[int, int], symmetric: bool, weights: Weights
) -> tuple[Units, Bands]:
    """The rows that count equally in a mean map, one for each photograph or person, and the unit of each row."""
    if weights == "photographs":
        return units, photo_bands(photos, size, symmetric)
    return units.each_once(), unit_bands(photos, units, size, symmetric)


def unit_bands(
    photos: SingleMaps, units: Units, size: tuple[int, int], symmetric: bool, pixels: int | None = None
) -> Bands:
    """Like :func:`photo_bands`, for the mean map of each unit: (U, P); the photographs of a unit count equally."""
    for part, values, covered in photo_bands(photos, size, symmetric, pixels):
        yield part, *unit_means(values, covered, units.numbers)


def pixels_of_people(photos: SingleMaps, size: tuple[int, int], symmetric: bool, coverage: Tensor) -> Pixels:
    """Like :func:`~captum_canonical.saliency.moments.pooled_pixels`, of the mean map of each person.

    Args:
        photos: single maps.
        size: (H, W).
        symmetric: pool each map with its mirror image.
        coverage: (1, H, W) hits in all photographs.
    """
    units, parts = units_of(photos), []
    for _, values, covered in photo_bands(photos, size, symmetric):
        parts.append(moments_of(*unit_means(values.double(), covered, units.numbers)))
    return Pixels.of_moments(torch.cat(parts, 1).reshape(3, *size), coverage[0])
