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
"""Units are taken together in so many groups at most, so that their maps need not all be kept."""
NOISE = (1.0, 1.5, 2.0, 2.5)
"""Standard deviations of the noise in a mean map, in units of what it has, at which measures are looked at."""
WITHOUT = (10.0, -20.0, 15.0, -4.0)
"""The cubic through values at :data:`NOISE` has this sum of them, each times its number, where there is no noise."""
PAIRS, AT_ONCE = 32, 500_000  # draws of noise, each with either sign; pixels that are measured at once
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
        corrected: name -> the value without the noise in the mean map, see ``without_noise``; empty where there are no
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
        corrected, ends = without_noise(bands, units, covered, level)
        note = f"Intervals ({level:.0%}) are by the influence of {units.description}. {units.caveat}".strip()
        plain = cls.of(mean, covered, note, level)
        if math.isnan(plain.entropy):
            return replace(plain, note="No intervals: nothing is positive.")
        if len(ends) < len(NAMES):
            lost = ", ".join(name.replace("_", " ") for name in NAMES if name not in ends)
            note = f"{note} None of {lost}: corrected for the noise in the map, they lie beyond what is possible."
        return replace(plain, note=note, corrected=corrected, intervals=ends)

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
    share, ranks = _shares(means, covered)
    entropy = torch.special.entr(share).sum(1)
    return torch.stack([entropy, entropy.exp() / max(share.shape[1], 1), (share * ranks).sum(1)], 1)


def slopes(means: Tensor, covered: Tensor) -> Tensor:
    """Derivatives of :func:`measures` with respect to the covered pixels of M mean maps: (M, 3, P covered).

    Example::

        >>> slopes(torch.tensor([[1.0, 1.0, 2.0, -1.0]]).double(), torch.ones(4, dtype=torch.bool))[0, 0]
        tensor([ 0.0866,  0.0866, -0.0866,  0.0000], dtype=torch.float64)
    """
    share, ranks = _shares(means, covered)
    entropy, gini = torch.special.entr(share).sum(1, keepdim=True), (share * ranks).sum(1, keepdim=True)
    of_entropy = -(share.log() + entropy)
    area = entropy.exp() / max(share.shape[1], 1)
    each = torch.stack([of_entropy, area * of_entropy, ranks - gini], 1)
    total = means[:, covered].clamp(min=0).sum(1)[:, None, None]
    return torch.where((share > 0)[:, None], each / total, 0.0)


def _shares(means: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """(M, P covered) shares of the positive mass, NaN without any, and their weights in the Gini coefficient."""
    mass = means[:, covered].clamp(min=0)
    pixels = mass.shape[1]
    rank = torch.arange(1, pixels + 1, dtype=mass.dtype).expand_as(mass)
    weights = torch.empty_like(mass).scatter_(1, mass.argsort(1), (2 * rank - pixels - 1) / max(pixels, 1))
    return mass / mass.sum(1, keepdim=True), weights


def without_noise(
    bands: Bands, units: Units, covered: Tensor, level: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Values of :func:`measures` as they would be without the noise in the mean map, with intervals.

    Noise looks like spots, and is positive in half of the many pixels whose true value is 0. How much it does to a
    measure is seen when there is more of it: noise with the covariance of the mean map's own is added, so that its
    standard deviation is 1.5, 2 and 2.5 times what it is, and the cubic through the four values is followed to where
    there is none (SIMEX). Pixels well above 0 change a measure by the square of the standard deviation, pixels near 0
    by the standard deviation itself; a cubic has both. The standard error is that of the sum of what each unit adds,
    by the slopes of the measures averaged over the noise, which is too large rather than too small.

    Args:
        bands: of the single maps, as of ``units.row_bands``.
        units: of the photographs.
        covered: (P,) bool, the pixels that the mean map covers.
        level: nominal coverage.

    References:
        Cook, Stefanski: Simulation-extrapolation estimation in parametric measurement error models, JASA 89, 1994.
    """
    mean, added = _group_influences(bands, units, len(covered))
    groups = len(added)
    signs = torch.randn(PAIRS, groups, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = math.sqrt(groups / (groups - 1)) * (torch.cat([signs, -signs]) @ added)
    corrected, slope = torch.zeros(3, dtype=torch.float64), torch.zeros(3, int(covered.sum()), dtype=torch.float64)
    for noise, weight in zip(NOISE, WITHOUT, strict=True):
        more = math.sqrt(noise**2 - 1) * drawn if noise > 1 else drawn[:1] * 0
        for part in more.split(max(1, AT_ONCE // len(covered))):
            corrected += weight / len(more) * measures(mean + part, covered).sum(0)
            slope += weight / len(more) * slopes(mean + part, covered).sum(0)
    error = (groups / (groups - 1) * (added[:, covered] @ slope.T).square().sum(0)).sqrt()
    margin = float(stats.t.ppf((1 + level) / 2, min(groups, round(units.effective, 6)) - 1)) * error
    most = torch.tensor([math.log(max(2, int(covered.sum()))), 1.0, 1.0], dtype=torch.float64)
    low, high = corrected - margin, corrected + margin
    known = torch.nonzero((low <= most) & (high >= 0)).flatten().tolist()  # NaN is neither
    values, low, high = (each.clamp(min=0).minimum(most) for each in (corrected, low, high))
    intervals = {NAMES[place]: (float(low[place]), float(high[place])) for place in known}
    return {NAMES[place]: float(values[place]) for place in known}, intervals


def _group_influences(bands: Bands, units: Units, pixels: int) -> tuple[Tensor, Tensor]:
    """(P,) mean map, and (G, P) what each group of units adds to it beyond its size."""
    groups = min(units.count, GROUPS)
    group = units.numbers % groups
    sums, hits = (torch.zeros(groups, pixels, dtype=torch.float64) for _ in range(2))
    for part, values, seen in bands:
        sums[:, part], hits[:, part] = unit_sums(values, seen, group)
    total = hits.sum(0).clamp(min=1)
    mean = sums.sum(0) / total
    return mean, (sums - hits * mean) / total
