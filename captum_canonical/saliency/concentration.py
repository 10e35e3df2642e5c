"""How concentrated a mean map is: entropy, effective area and Gini coefficient."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from captum_canonical.files import finite
from captum_canonical.saliency.units import Bands, Units
from captum_canonical.statistics.units import FEWEST_IDENTITIES, unit_sums

GROUPS = 100
"""The jackknife leaves out one of this many groups of units at a time; with fewer units, one unit at a time."""
TINY = 1e-30  # lower bound of means that are divided by: nothing remains of those that are not positive
NAMES = ("entropy", "effective_area", "gini")


@dataclass(frozen=True)
class Concentration:
    """How concentrated the positive part of a mean map is.

    The positive values of the pixels that the map covers are taken as shares that add up to 1. A network that depends
    on one spot has a small entropy and effective area and a large Gini coefficient. Noise in the mean map adds spots
    of its own: compare :attr:`corrected` values, or maps of equally many photographs.

    Attributes:
        entropy: in nats; 0 for a single pixel, the logarithm of the number of covered pixels for a constant map.
            NaN, like the others, if nothing is positive.
        effective_area: exp(entropy) over the number of covered pixels, 0..1: the part of the face that a map of equal
            values with this entropy occupies.
        gini: Gini coefficient of the pixels, 0 (all equal) to 1 (all in one pixel).
        corrected: name -> the value corrected for the noise in the mean map, see ``jackknife``; empty without the
            single maps of at least 20 people (or photographs).
        intervals: name -> lower and upper end, around the corrected value; empty where there are none.
        note: which units the intervals are based on, or why there are none.
        level: nominal coverage of the intervals.
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
        """From a mean map (P,) and where it is covered, without intervals."""
        entropy, area, gini = measures(mean[None], covered)[0].tolist()
        return cls(entropy, area, gini, {}, {}, note, level)

    @classmethod
    def with_intervals(cls, mean: Tensor, covered: Tensor, bands: Bands, units: Units, level: float) -> Concentration:
        """From a mean map (P,) and the rows behind it that count equally, as of ``units.row_bands``."""
        if units.effective < FEWEST_IDENTITIES:
            note = f"No intervals: {units.description}, and {FEWEST_IDENTITIES} are needed."
            if units.count >= FEWEST_IDENTITIES:
                note = (
                    f"No intervals: {units.description} with unequal numbers of photographs are worth "
                    f"{units.effective:.1f} with equal ones, and {FEWEST_IDENTITIES} are needed: "
                    'weighted("people") counts every person once.'
                )
            return cls.of(mean, covered, note, level)
        corrected, ends = jackknife(bands, units, covered, level)
        note = f"Intervals ({level:.0%}) leave out some of {units.description} at a time. {units.caveat}".strip()
        plain = cls.of(mean, covered, note if ends else "No intervals: nothing is positive.", level)
        return replace(plain, corrected=corrected, intervals=ends)

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values; undefined ones are None."""
        names = (*NAMES, "corrected", "intervals", "note", "level")
        return finite({name: getattr(self, name) for name in names})


def measures(means: Tensor, covered: Tensor) -> Tensor:
    """Entropy, effective area and Gini coefficient of M mean maps: (M, 3).

    Args:
        means: (M, P).
        covered: (P,) bool; other pixels are ignored.

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

    Noise is positive in half of the many pixels whose true value is 0. Each pixel's mean m is therefore shrunk to
    m - v / m (to 0 where that is negative), where v is its squared standard error (the non-negative garrote). The
    remaining bias is estimated by the jackknife and subtracted.

    Args:
        bands: of the single maps, as of ``units.photo_bands``.
        units: of the photographs.
        covered: (P,) bool, the pixels that the mean map covers.
        level: nominal coverage.

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
    freedom = min(groups, round(units.effective, 6)) - 1
    margin = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    largest = (math.log(max(2, int(covered.sum()))), 1.0, 1.0)
    intervals = {
        name: (max(0.0, float(middle - half)), min(most, float(middle + half)))
        for name, middle, half, most in zip(NAMES, corrected, margin, largest, strict=True)
        if math.isfinite(float(half))
    }
    return {name: float(value) for name, value in zip(NAMES, corrected, strict=True) if name in intervals}, intervals


def _shrunk(means: Tensor, noise: Tensor) -> Tensor:
    return (means - noise / means.clamp(min=TINY)).clamp(min=0)
