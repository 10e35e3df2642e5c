"""What is resampled: people where they are known, else photographs; and the maps of each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from captum_canonical.files import finite
from captum_canonical.saliency.photos import Photos
from captum_canonical.saliency.sums import pool_with_mirror_image
from captum_canonical.statistics.units import FEWEST_IDENTITIES, numbered, unit_means, unit_sums

PIXELS_AT_ONCE = 2048
VALUES_AT_ONCE = 16_000_000  # photographs times pixels


@dataclass(frozen=True, eq=False)
class Units:
    """The unit of each photograph.

    Attributes:
        numbers: (n,) int64 from 0 to ``count`` - 1.
        names: of the units: identities, or None for a photograph of nobody known.
        people: whether identities are known, of some photographs at least.
    """

    numbers: Tensor
    names: list[Hashable | None]
    people: bool

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.names)

    @property
    def word(self) -> str:
        """What they are, such as "40 people" or "60 photographs"."""
        what = ("person", "people") if self.people else ("photograph", "photographs")
        return f"{self.count} {what[self.count != 1]}"

    @property
    def caution(self) -> str:
        """What to say about photographs whose person is not known; empty if all are."""
        if not self.people:
            return "Identities are not known: if photographs show the same people, this is too sure."
        unknown = self.names.count(None)
        return f"{unknown} photographs of nobody known count as one person each." if unknown else ""


def units_of(photos: Photos) -> Units:
    """Photographs of one identity are one unit; one without an identity is its own.

    Example::

        >>> from captum_canonical.saliency import ModelSaliency
        >>> from captum_canonical.faces.canonical_face import CanonicalFace
        >>> result = ModelSaliency.from_maps(torch.ones(4, 1, 4, 4), None, CanonicalFace.default(4),
        ...                                  identities=["Ann", None, "Ann", None])
        >>> units = units_of(result.photos)
        >>> units.numbers, units.word
        (tensor([0, 1, 0, 2]), '3 people')
    """
    identities = photos.records.get("identity", [None] * len(photos))
    keys = [(True, number) if name is None else (False, name) for number, name in enumerate(identities)]
    numbers = numbered(keys)
    names: dict[int, Hashable | None] = {}
    for number, (own, name) in zip(numbers.tolist(), keys, strict=True):
        names[number] = None if own else name
    return Units(numbers, list(names.values()), any(not own for own, _ in keys))


def pixels_at_once(photos: int) -> int:
    """How many pixels of so many photographs are held in memory."""
    return min(PIXELS_AT_ONCE, VALUES_AT_ONCE // max(1, photos))


def photo_bands(
    photos: Photos, size: tuple[int, int], symmetric: bool, pixels: int | None = None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The maps, some lines of pixels at a time.

    Args:
        photos: n of them.
        size: (H, W).
        symmetric: pool each map with its mirror image.
        pixels: how many at a time, in whole lines. Default: as memory allows.

    Yields:
        Which of the H * W pixels, (n, P) float values of them, 0 where not covered, and (n, P) bool whether covered.
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


def unit_bands(
    photos: Photos, units: Units, size: tuple[int, int], symmetric: bool, pixels: int | None = None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Like :func:`photo_bands`, for the mean map of each unit: (U, P), each photograph of a unit counting alike."""
    for part, values, covered in photo_bands(photos, size, symmetric, pixels):
        yield part, *unit_means(values, covered, units.numbers)


GROUPS = 100
"""The jackknife leaves out one of so many groups of units at a time; one unit at a time up to so many units."""
TINY = 1e-30  # of means: nothing remains of those that are not positive
NAMES = ("entropy", "effective_area", "gini")
Bands = Iterable[tuple[slice, Tensor, Tensor]]


@dataclass(frozen=True)
class Concentration:
    """Of the positive part of a mean map, over the pixels that it covers, as shares that add up to 1.

    A network that hangs on one spot has a small entropy and effective area and a large Gini coefficient. Noise in the
    mean map adds spots of its own: compare :attr:`corrected` values, or maps of equally many photographs.

    Attributes:
        entropy: in nats; 0 for a single pixel, ln of the number of covered pixels for a map that is the same
            everywhere. NaN, like the others, if nothing is positive.
        effective_area: exp(entropy) over the number of covered pixels, 0..1: the part of the face that a map of equal
            values with this entropy takes.
        gini: Gini coefficient of the pixels, 0 (all the same) to 1 (all in one pixel).
        corrected: name -> the value corrected for what noise in the mean map adds, see ``jackknife``; empty where
            there are no single maps of 20 people (or photographs) at least.
        intervals: name -> lower and upper end, about the corrected value; empty where there are none.
        note: what the intervals resample, or why there are none.
        level: coverage that intervals aim at.
    """

    entropy: float
    effective_area: float
    gini: float
    corrected: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    note: str
    level: float = 0.95

    @classmethod
    def of(cls, mean: Tensor, covered: Tensor, note: str, level: float) -> Concentration:
        """Of a mean map (P,) where it is covered, without intervals."""
        entropy, area, gini = measures(mean[None], covered)[0].tolist()
        return cls(entropy, area, gini, {}, {}, note, level)

    @classmethod
    def with_intervals(cls, mean: Tensor, covered: Tensor, bands: Bands, units: Units, level: float) -> Concentration:
        """Of a mean map (P,) and the single maps behind it, in bands as of ``units.photo_bands``."""
        if units.count < FEWEST_IDENTITIES:
            note = f"No intervals: {units.word}, and {FEWEST_IDENTITIES} are needed."
            return cls.of(mean, covered, note, level)
        corrected, ends = jackknife(bands, units, covered, level)
        note = f"Intervals ({level:.0%}) leave out some of {units.word} at a time. {units.caution}".strip()
        plain = cls.of(mean, covered, note if ends else "No intervals: nothing is positive.", level)
        return replace(plain, corrected=corrected, intervals=ends)

    def as_json(self) -> dict[str, Any]:
        """For a file; what is not defined is null."""
        names = (*NAMES, "corrected", "intervals", "note", "level")
        return finite({name: getattr(self, name) for name in names})


def measures(means: Tensor, covered: Tensor) -> Tensor:
    """(M, 3) entropy, effective area and Gini coefficient of M mean maps.

    Args:
        means: (M, P).
        covered: (P,) bool; other pixels do not count.

    Example::

        >>> uniform, single = torch.ones(4), torch.tensor([0.0, 0.0, 2.0, -1.0])
        >>> measures(torch.stack([uniform, single]).double(), torch.ones(4, dtype=torch.bool)).round(decimals=3)
        tensor([[1.3860, 1.0000, 0.0000],
                [0.0000, 0.2500, 0.7500]], dtype=torch.float64)
    """
    mass = means[:, covered].clamp(min=0)
    total = mass.sum(1, keepdim=True)
    share = mass / total  # 0 / 0 is NaN, and so is everything then
    entropy = torch.special.entr(share).sum(1)
    pixels = share.shape[1]
    rank = torch.arange(1, pixels + 1, dtype=share.dtype)
    gini = (share.sort(1).values * (2 * rank - pixels - 1)).sum(1) / max(pixels, 1)
    return torch.stack([entropy, entropy.exp() / max(pixels, 1), gini], 1)


def jackknife(
    bands: Bands, units: Units, covered: Tensor, level: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Corrected values and intervals of :func:`measures`, leaving out one group of units at a time.

    Noise is positive in half of the pixels that truly have nothing, and there are many of them: each pixel's mean m is
    shrunk to m - v / m (to 0 where that is negative), v its squared standard error (the non-negative garrote). What
    bias is left is estimated by the jackknife and subtracted.

    Args:
        bands: of maps, as of ``units.photo_bands``.
        units: of the photographs.
        covered: (P,) bool, the pixels of the mean map.
        level: coverage that is aimed at.

    References:
        Breiman: Better subset regression using the nonnegative garrote, Technometrics 37, 1995.
    """
    groups = min(units.count, GROUPS)
    group = units.numbers % groups
    sums, hits = (torch.zeros(groups, len(covered), dtype=torch.float64) for _ in range(2))
    for pixels, values, seen in bands:
        sums[:, pixels], hits[:, pixels] = unit_sums(values, seen, group)
    mean, means = sums.sum(0) / hits.sum(0).clamp(min=1), (sums.sum(0) - sums) / (hits.sum(0) - hits).clamp(min=1)
    noise = (groups - 1) / groups * (means - mean).square().sum(0)
    whole = measures(_shrunk(mean[None], noise), covered)[0]
    without = measures(_shrunk(means, noise * groups / (groups - 1)), covered)
    corrected = groups * whole - (groups - 1) * without.mean(0)
    error = ((groups - 1) / groups * (without - without.mean(0)).square().sum(0)).sqrt()
    margin = float(stats.t.ppf((1 + level) / 2, groups - 1)) * error
    largest = (math.log(max(2, int(covered.sum()))), 1.0, 1.0)
    intervals = {
        name: (max(0.0, float(middle - half)), min(most, float(middle + half)))
        for name, middle, half, most in zip(NAMES, corrected, margin, largest, strict=True)
        if math.isfinite(float(half))
    }
    return {name: float(value) for name, value in zip(NAMES, corrected, strict=True) if name in intervals}, intervals


def _shrunk(means: Tensor, noise: Tensor) -> Tensor:
    """(M, P) means m less what their squared standard errors (P,) say is noise, 0 where nothing remains."""
    return (means - noise / means.clamp(min=TINY)).clamp(min=0)
