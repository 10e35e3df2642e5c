"""Intervals that treat whole identities as units, because photographs of one person are not independent.

References:
    Davison, Hinkley: Bootstrap Methods and their Application, 1997 (percentile intervals, clusters).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from captum_canonical.checks import check_number
from captum_canonical.statistics.units import unit_totals


def bootstrap_interval(
    values: Tensor, units: Tensor, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of the values: units are drawn with replacement, each with all its values.

    The draws depend on the number of units and the seed only, so that several measures of the same images are
    resampled together.

    Args:
        values: (N,), NaN where an image does not count.
        units: (N,) int64 as in :func:`unit_totals`.
        resamples: number of draws.
        level: coverage that is aimed at, above 0 and below 1.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN for fewer than two units.

    Example::

        >>> low, high = bootstrap_interval(torch.arange(30.0), torch.arange(30))
        >>> low < 14.5 < high
        True
    """
    sums, counts = unit_totals(values, units)
    if int((counts > 0).sum()) < 2:
        return float("nan"), float("nan")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(sums), (resamples, len(sums)), generator=generator)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(means, ends).tolist()
    return low, high


def check_level(level: object) -> None:
    """Raises CanonicalError unless a level of intervals is a number above 0 and below 1."""
    check_number("level", level, above=0, below=1)


class Estimate(NamedTuple):
    """K values with their standard errors and the ends of their intervals, all (K,) float64; NaN where not defined."""

    value: Tensor
    standard_error: Tensor
    low: Tensor
    high: Tensor


def ratios(numerators: Tensor, denominators: Tensor, level: float = 0.95) -> Estimate:
    """The ratios of means of K pairs of numbers, with intervals by unit.

    Args:
        numerators: (U, K), one number for each unit.
        denominators: (U, K) or (U, 1), whose means are above 0; elsewhere all is NaN.
        level: coverage that is aimed at.

    Example::

        >>> mass = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        >>> estimate = ratios(mass, torch.ones(3, 1, dtype=torch.float64))
        >>> [round(float(value), 2) for value in estimate]  # 2 +- 4.30 x 1 / sqrt(3)
        [2.0, 0.58, -0.48, 4.48]
    """
    units = len(numerators)
    below = denominators.mean(0)
    value = torch.where(below > 0, numerators.mean(0) / below, torch.nan)
    if units < 2:
        unknown = torch.full_like(value, torch.nan)
        return Estimate(value, unknown, unknown, unknown)
    error = influences(numerators, denominators).square().sum(0).div(units * (units - 1)).sqrt()
    margin = float(stats.t.ppf((1 + level) / 2, units - 1)) * error
    return Estimate(value, error, value - margin, value + margin)


def influences(numerators: Tensor, denominators: Tensor) -> Tensor:
    """(U, K) by how much each unit moves the ratio of the means, times U; their mean is 0."""
    below = denominators.mean(0)
    value = torch.where(below > 0, numerators.mean(0) / below, torch.nan)
    return (numerators - value * denominators) / below


def difference(first: Estimate, second: Estimate, freedom: tuple[int, int], level: float = 0.95) -> Estimate:
    """The first minus the second of independent estimates, by Welch's formula.

    Args:
        first, second: (K,) each.
        freedom: degrees of freedom of both, units - 1.
        level: as in :func:`ratios`.
    """
    squares = torch.stack([first.standard_error, second.standard_error]).square()
    error = squares.sum(0).sqrt()
    parts = squares.square() / torch.tensor(freedom, dtype=torch.float64)[:, None]
    degrees = (squares.sum(0).square() / parts.sum(0)).nan_to_num(1.0).clamp(min=1.0)
    margin = torch.from_numpy(stats.t.ppf((1 + level) / 2, degrees.numpy())) * error
    value = first.value - second.value
    return Estimate(value, error, value - margin, value + margin)
