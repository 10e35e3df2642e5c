"""Intervals that treat whole identities as units, because photographs of one person are not independent.

References:
    Davison, Hinkley: Bootstrap Methods and their Application, 1997 (percentile intervals, clusters).
    Searle, Casella, McCulloch: Variance Components, 1992 (the variance between means of unequal numbers).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from captum_canonical.checks import check_integer, check_number
from captum_canonical.statistics.units import FEWEST_IDENTITIES, unit_totals


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
    check_level(level)
    check_integer("resamples", resamples, 1)
    sums, counts = unit_totals(values, units)
    if int((counts > 0).sum()) < 2:
        return float("nan"), float("nan")
    generator = torch.Generator().manual_seed(int(seed))
    drawn = torch.randint(len(sums), (resamples, len(sums)), generator=generator)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.nanquantile(means, ends).tolist()
    return low, high


def interval_of_mean(
    values: Tensor, units: Tensor, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean of the values: that of the bootstrap where it holds, else Student's.

    Units drawn with replacement show too little spread if they are few, or if one has most of the values and is in
    most draws. With fewer than :data:`FEWEST_IDENTITIES` units, or unequal numbers of values, the interval is that of
    :func:`variance_of_mean`.

    Args:
        values, units, resamples, level, seed: as of :func:`bootstrap_interval`.

    Returns:
        Lower and upper end; NaN for fewer than two units.

    Example::

        >>> low, high = interval_of_mean(torch.tensor([1.0, 2.0, 3.0]), torch.arange(3))
        >>> round(low, 2), round(high, 2)
        (-0.48, 4.48)
    """
    check_level(level)
    check_integer("resamples", resamples, 1)
    unit_totals(values, units)  # raises where they do not fit
    known = ~values.isnan()
    names, own = units[known].unique(return_inverse=True)
    sizes = own.bincount()
    if len(names) >= FEWEST_IDENTITIES and bool((sizes == sizes[0]).all()):
        return bootstrap_interval(values, units, resamples=resamples, level=level, seed=seed)
    if len(names) < 2:
        return float("nan"), float("nan")
    column = values[known].double()[:, None]
    found = ratios(column, torch.ones_like(column), level, own)
    return float(found.low), float(found.high)


ROUNDING = 1e-9


def check_level(level: object) -> None:
    """Raises CanonicalError unless a level of intervals is a number above 0 and below 1."""
    check_number("level", level, above=0, below=1)


class Estimate(NamedTuple):
    """K values with standard errors, ends of intervals and degrees of freedom: (K,) float64, NaN where not defined."""

    value: Tensor
    standard_error: Tensor
    low: Tensor
    high: Tensor
    freedom: Tensor


def ratios(
    numerators: Tensor,
    denominators: Tensor,
    level: float = 0.95,
    units: Tensor | None = None,
    covering: Tensor | None = None,
) -> Estimate:
    """The ratios of means of K pairs of numbers, with intervals by unit.

    Args:
        numerators: (N, K), one number for each unit, or for each photograph.
        denominators: (N, K) or (N, 1), whose means are above 0; elsewhere all is NaN.
        level: coverage that is aimed at.
        units: (N,) int64, the unit of each row from 0 to U - 1, see :func:`variance_of_mean`. None: its own.
        covering: (K,) effective number of units behind each ratio, if some units say nothing about it. Below 2 there
            is no interval. None: all.

    Example::

        >>> mass = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        >>> estimate = ratios(mass, torch.ones(3, 1, dtype=torch.float64))
        >>> [round(float(value), 2) for value in estimate]  # 2 +- 4.30 x 1 / sqrt(3)
        [2.0, 0.58, -0.48, 4.48, 2.0]
    """
    below = denominators.mean(0)
    value = torch.where(below > 0, numerators.mean(0) / below, torch.nan)
    units = torch.arange(len(numerators)) if units is None else units
    count = len(units.unique())
    if count < 2:
        unknown = torch.full_like(value, torch.nan)
        return Estimate(value, unknown, unknown, unknown, unknown)
    variance = variance_of_mean(influences(numerators, denominators), units)
    some = torch.full_like(value, count) if covering is None else covering.to(value).clamp(max=count)
    # Units that say nothing have no influence: they are no evidence that units are alike.
    variance = variance * (some * (count - 1)) / ((some - 1).clamp(min=1) * count)
    error = torch.where(some >= 2 - ROUNDING, variance, torch.nan).sqrt()
    freedom = (some - 1).clamp(min=1)
    margin = _quantiles(freedom, level) * error
    return Estimate(value, error, value - margin, value + margin, freedom)


def _quantiles(freedom: Tensor, level: float) -> Tensor:
    """Of Student's t, for intervals of this level."""
    return torch.from_numpy(np.asarray(stats.t.ppf((1 + level) / 2, freedom.numpy())))


def variance_of_mean(values: Tensor, units: Tensor) -> Tensor:
    """Squared standard error of the mean over N photographs of U people, some of whom may have most of them.

    The people are taken for a sample: one with many photographs differs from others as much as anybody does. With the
    variance S2 between the means of people, w the share of each in the photographs, and n their numbers, it is

        S2 sum(w^2) - W (sum(w^2) mean(1 / n) - 1 / N).

    The first term is that of 1 / sum(w^2) people with equally many photographs. The second corrects for means of few
    photographs being noisier; W is the mean square within people, but at most so much that noise makes half of S2.
    Where all people have equally many photographs, this is S2 / U. The squared deviations from the mean over
    photographs, which the common estimators sum up by person, are small for exactly the person who dominates that mean.

    Args:
        values: (N, K) float64.
        units: (N,) int64, the person on each photograph, from 0 to U - 1, none left out; at least two.

    Returns:
        (K,) float64; U - 1 are its degrees of freedom.

    Example::

        >>> variance_of_mean(torch.tensor([[1.0], [2.0], [3.0], [3.0]]).double(), torch.tensor([0, 1, 2, 2]))
        tensor([0.3750], dtype=torch.float64)
    """
    sizes = units.bincount().double()[:, None]
    people, photographs = len(sizes), len(values)
    means = torch.zeros(people, values.shape[1], dtype=torch.float64).index_add_(0, units, values) / sizes
    between = (means - means.mean(0)).square().sum(0) / (people - 1)
    together = (sizes / photographs).square().sum()  # one over the effective number of people
    if photographs == people:
        return between * together
    within = (values - means[units]).square().sum(0) / (photographs - people)
    once = (1 / sizes).mean()
    return between * together - (together * once - 1 / photographs) * torch.minimum(within, between / (2 * once))


def influences(numerators: Tensor, denominators: Tensor) -> Tensor:
    """(U, K) by how much each unit moves the ratio of the means, times U; their mean is 0."""
    below = denominators.mean(0)
    value = torch.where(below > 0, numerators.mean(0) / below, torch.nan)
    return (numerators - value * denominators) / below


def effective_number(weights: Tensor) -> Tensor:
    """(K,) of how many equal units U unequal ones are worth: sum(w)^2 / sum(w^2); 0 where all weights are 0.

    Args:
        weights: (U, K), 0 or more.

    Example::

        >>> effective_number(torch.tensor([[40.0, 1.0]] + 10 * [[1.0, 1.0]]))
        tensor([ 1.5528, 11.0000])
    """
    return (weights.sum(0).square() / weights.square().sum(0)).nan_to_num(0.0)


def difference(first: Estimate, second: Estimate, level: float = 0.95) -> Estimate:
    """The first minus the second of independent estimates, by Welch's formula.

    Args:
        first, second: (K,) each.
        level: as in :func:`ratios`.
    """
    squares = torch.stack([first.standard_error, second.standard_error]).square()
    error = squares.sum(0).sqrt()
    parts = squares.square() / torch.stack([first.freedom, second.freedom])
    degrees = (squares.sum(0).square() / parts.sum(0)).nan_to_num(1.0).clamp(min=1.0)
    margin = _quantiles(degrees, level) * error
    value = first.value - second.value
    return Estimate(value, error, value - margin, value + margin, degrees)
