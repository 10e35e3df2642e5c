"""Intervals and paired tests by resampling whole identities, because photographs of one person are not independent.

Pure functions with generators of their own: the global random state is neither used nor changed.

References:
    Davison, Hinkley: Bootstrap Methods and their Application, 1997 (percentile intervals, clusters).
    Phipson, Smyth: Permutation P-values Should Never Be Zero, 2010.
    Holm: A Simple Sequentially Rejective Multiple Test Procedure, 1979.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from captum_canonical.errors import CanonicalError

FLIPS_AT_ONCE = 2048  # bounds the memory


def unit_totals(values: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and number of the values of each unit; NaN does not count.

    Args:
        values: (..., N).
        units: (N,) int64, the unit (identity) of each value, from 0 to U - 1.

    Returns:
        Two (..., U) float64.

    Example::

        >>> unit_totals(torch.tensor([1.0, 2.0, float("nan"), 4.0]), torch.tensor([0, 0, 1, 1]))
        (tensor([3., 4.], dtype=torch.float64), tensor([2., 1.], dtype=torch.float64))
    """
    finite = ~values.isnan()
    shape = (*values.shape[:-1], int(units.max()) + 1)
    empty = torch.zeros(shape, dtype=torch.float64)
    sums = empty.index_add(-1, units, torch.where(finite, values, 0.0).double())
    return sums, empty.index_add(-1, units, finite.double())


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


def sign_flip_p_values(totals: Tensor, *, permutations: int = 10_000, seed: int = 0) -> Tensor:
    """Two-sided p values of T paired tests: could as large a sum of differences come from random signs?

    Under the null hypothesis the difference of a unit is as likely as its negative. All sign patterns are tried if
    there are at most ``permutations`` of them; else as many random ones, the observed one counted among them.

    Args:
        totals: (T, U) float64, for each test the summed differences of each unit.
        permutations: number of random sign patterns.
        seed: of these; all tests see the same patterns.

    Returns:
        (T,) float64, above 0 and at most 1.

    Example::

        >>> sign_flip_p_values(torch.tensor([[1.0, 2.0, 3.0], [1.0, -1.0, 0.0]], dtype=torch.float64))
        tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    units = totals.shape[1]
    # Sums in another order differ by rounding: a pattern that gives the observed sum must count.
    observed = totals.sum(1).abs() - 1e-12 * totals.abs().sum(1)
    if _enumerable(units, permutations):
        patterns = torch.arange(2**units)[:, None] >> torch.arange(units) & 1
        return _reached(patterns, totals, observed) / len(patterns)
    generator = torch.Generator().manual_seed(seed)
    reached = torch.ones(len(totals), dtype=torch.float64)
    for start in range(0, permutations, FLIPS_AT_ONCE):
        count = min(FLIPS_AT_ONCE, permutations - start)
        reached += _reached(torch.randint(2, (count, units), generator=generator), totals, observed)
    return reached / (permutations + 1)


def smallest_p_value(units: int, permutations: int) -> float:
    """What :func:`sign_flip_p_values` cannot be below: two of all patterns, or the observed one among the random ones.

    Example::

        >>> smallest_p_value(6, permutations=64), smallest_p_value(6, permutations=19)
        (0.03125, 0.05)
    """
    return 2.0 ** (1 - units) if _enumerable(units, permutations) else 1 / (permutations + 1)


def _enumerable(units: int, permutations: int) -> bool:
    return units < 60 and 2**units <= permutations


def _reached(patterns: Tensor, totals: Tensor, observed: Tensor) -> Tensor:
    """(T,) float64, how many of the sign patterns (B, U) of 0 and 1 give at least the observed magnitude."""
    sums = (1 - 2 * patterns).double() @ totals.T
    return (sums.abs() >= observed).sum(0).double()


def holm(p_values: Tensor) -> Tensor:
    """P values corrected for their number, so that the chance of any false positive stays below the level.

    Args:
        p_values: (T,).

    Returns:
        (T,) float64, at most 1, in the order given.

    Example::

        >>> holm(torch.tensor([0.03, 0.01, 0.04], dtype=torch.float64))
        tensor([0.0600, 0.0300, 0.0600], dtype=torch.float64)
    """
    order = p_values.argsort(stable=True)
    left = torch.arange(len(p_values), 0, -1, dtype=torch.float64)
    corrected = torch.empty(len(p_values), dtype=torch.float64)
    corrected[order] = (p_values.double()[order] * left).clamp(max=1).cummax(0).values if len(p_values) else corrected
    return corrected


def check_level(level: object) -> None:
    """Raises CanonicalError unless a level of intervals is a number above 0 and below 1."""
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 < float(level) < 1:
        raise CanonicalError(f"level: expected a number above 0 and below 1, got {level!r}.")


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
