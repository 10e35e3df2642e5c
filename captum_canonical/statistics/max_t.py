"""Tests of many pixels or regions at once, corrected by the largest of all statistics (max-T).

Under the null hypothesis the sign of a unit's map, or the group that a unit is in, means nothing. Each pattern of signs
or groups gives a t statistic for each pixel; the largest magnitude is kept. A pixel whose observed statistic is among
the largest 5 % of these maxima is significant, and the chance that any pixel of a map without effect is, is 5 % at
most, whatever the pixels have to do with each other.

The statistics are Student's t of one sample and Welch's of two, so that a group with more spread does not pass for one
with another mean. Welch's t has other degrees of freedom where groups are dealt out anew, and the largest of many t
depends on how heavy the tails are: t is converted to the normal deviate of the same probability. Sums of squares do not
change with signs, so that a pattern costs one row of a matrix product.

References:
    Westfall, Young: Resampling-Based Multiple Testing, 1993.
    Nichols, Holmes: Nonparametric permutation tests for functional neuroimaging, Human Brain Mapping 15, 2002.
    Janssen: Studentized permutation tests for non-iid hypotheses, Statistics and Probability Letters 36, 1997.
    Wallace: Bounds on normal approximations to Student's and the chi-square distributions, Annals of Mathematical
    Statistics 30, 1959.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captum_canonical.statistics.permutation import Patterns

AT_ONCE = 2_000_000  # statistics that are computed at once: products large enough for several threads, 8 MB each
UNITS_AT_ONCE = 64  # bounds the memory of what is summed in float64
TINY = 1e-30  # variance of values that are all 0; their t is 0
FLATTEST = 1e-6
"""Variance below this share of the mean square counts as this much: t stays finite where all values are the same."""


class Statistic(Protocol):
    """The t statistics of some pixels.

    Attributes:
        groups: of units that have means of their own.
    """

    groups: int

    def __init__(self, values: Tensor, covered: Tensor, share: float) -> None:
        """Of (U, P) values and whether they are covered; pixels covered by a smaller share are 0."""

    def of(self, patterns: Tensor) -> Tensor:
        """(B, P) for (B, U) patterns; 0 for pixels that are not tested."""

    def largest(self, patterns: Tensor) -> Tensor:
        """(B,) the largest magnitudes of :meth:`of`."""


class OneSample:
    """Student's t of the mean, for signs.

    Example::

        >>> values = torch.tensor([[1.0], [2.0], [3.0]])
        >>> OneSample(values, torch.ones(3, 1, dtype=torch.bool), share=0.5).of(torch.tensor([[1, 1, 1], [1, 1, -1]]))
        tensor([[3.4641],
                [0.0000]])
    """

    groups = 1

    def __init__(self, values: Tensor, covered: Tensor, share: float) -> None:
        count = count_covered(covered)
        tested = (count >= 2) & (count >= share * len(values))
        squares = _sums(values, 2)
        # The sum over the root of the sum of squares, z, gives t; 0 / 0 of a pixel without values counts as 0.
        self._values = values * torch.where(tested & (squares > 0), squares.rsqrt(), 0.0).to(values)
        self._count = torch.where(tested, count, 2).to(values)
        counts = count[tested].unique()
        self._same = counts.to(values) if len(counts) == 1 else None

    def of(self, patterns: Tensor) -> Tensor:
        """(B, P)."""
        z = patterns.to(self._values) @ self._values
        return z * ((self._count - 1) / self._rest(z.square(), self._count)).sqrt()

    def largest(self, patterns: Tensor) -> Tensor:
        """(B,)."""
        z = patterns.to(self._values) @ self._values
        if self._same is not None:  # t grows with z, so that the largest is that of the largest
            z = z.abs_().amax(1)
            return z * ((self._same - 1) / self._rest(z.square(), self._same)).sqrt()
        squares = z.square_()
        squares.div_(self._rest(squares, self._count)).mul_(self._count - 1)
        return squares.amax(1).sqrt()

    @staticmethod
    def _rest(squares: Tensor, count: Tensor) -> Tensor:
        """What the mean leaves of the sum of squares, 1 for each of them: rounding may take it below 0."""
        return torch.maximum(count * (1 + FLATTEST) - squares, count * FLATTEST)


class TwoSamples:
    """Welch's t of the difference first - second as a normal deviate, for patterns that are 1 in the first group.

    A pixel is 0 for a pattern that leaves fewer than two units, or less than the share of a group, where it is covered.

    Example::

        >>> values = torch.tensor([[1.0], [2.0], [4.0], [5.0]])
        >>> TwoSamples(values, torch.ones(4, 1, dtype=torch.bool), share=0.5).of(torch.tensor([[1, 1, 0, 0]]))
        tensor([[-1.9201]])

        t is -3 / sqrt(1 / 2) with 2 degrees of freedom: p = 0.051.
    """

    groups = 2

    def __init__(self, values: Tensor, covered: Tensor, share: float) -> None:
        count = count_covered(covered)
        center = _sums(values) / count.clamp(min=1)
        # Centred, so that sums of squares in float32 keep the digits of the variance.
        centred = torch.where(covered, values - center, 0)
        spread = _sums(centred, 2).sqrt()
        self._values = (centred / torch.where(spread > 0, spread, 1)).to(values)  # of length 1, whatever the unit
        self._squares = self._values.square()
        # Neighbouring pixels are mostly covered by the same units: one product for all that are.
        different, self._which = covered.unique(dim=1, return_inverse=True)
        self._covered = different.to(values)
        self._count = count.to(values)
        self._square = self._squares.sum(0)
        self._share = share

    def of(self, patterns: Tensor) -> Tensor:
        """(B, P)."""
        difference, squares, good = self._parts(patterns)
        return torch.where(good, difference.sign_() * squares.sqrt_(), 0)

    def largest(self, patterns: Tensor) -> Tensor:
        """(B,)."""
        _, squares, good = self._parts(patterns)
        return squares.mul_(good).amax(1).sqrt_()

    def _parts(self, patterns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, P) difference of the means, its squared deviate, and whether there are enough units."""
        members = patterns.to(self._values)
        size = members.sum(1, keepdim=True)
        sums, squares = members @ self._values, members @ self._squares
        count = members @ self._covered
        count = count if count.shape[1] == 1 else count[:, self._which]
        mean, error, good = _side(sums, squares, count, size, self._share)
        rest = (self._count if count.shape[1] > 1 else self._count[:1]) - count
        mean_of_rest, error_of_rest, more = _side(
            sums.neg_(), torch.sub(self._square, squares, out=squares), rest, len(members[0]) - size, self._share
        )  # the values are centred: both sums add up to 0
        difference, variance = mean.sub_(mean_of_rest), error + error_of_rest
        share = error.div_(variance.clamp(min=TINY))  # of the first group, 0..1
        freedom = 1 / (share.square() / (count - 1).clamp(min=1) + (1 - share).square() / (rest - 1).clamp(min=1))
        variance.addcmul_(difference, difference, value=FLATTEST).clamp_(min=TINY)
        return difference, squared_deviate(difference.square().div_(variance), freedom), good & more


def squared_deviate(squares: Tensor, freedom: Tensor) -> Tensor:
    """Squares of t as those of normal deviates with the same probability, by Wallace's approximation.

    Args:
        squares: of t; overwritten.
        freedom: degrees of freedom of each t.

    Example::

        >>> squared_deviate(torch.tensor([2.086, 2.0]) ** 2, torch.tensor([20.0, 1e6])).sqrt()  # p = 0.05, and normal
        tensor([1.9599, 2.0000])
    """
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    return torch.log1p(squares.div_(freedom)).mul_(freedom).mul_(scale.square_())


def _side(sums: Tensor, squares: Tensor, count: Tensor, size: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, its squared error, and whether there are enough units, of (B, P) sums over (B, P) or (B, 1) units."""
    number = count.clamp(min=2)
    mean = sums / number
    error = torch.addcmul(squares, sums, mean, value=-1).clamp_(min=0).div_(number * (number - 1))
    return mean, error, (count >= 2) & (count >= share * size)


@dataclass(frozen=True, eq=False)
class MaxT:
    """Result of a max-T test.

    Attributes:
        t: (P,) observed statistics (of two samples normal deviates); 0 for pixels that are not tested.
        p_values: (P,) corrected, above 0 and at most 1.
        maxima: (B,) the largest magnitude of each pattern, the observed one first.
        exhaustive: whether all patterns there are were tried.
    """

    t: Tensor
    p_values: Tensor
    maxima: Tensor
    exhaustive: bool

    def critical_value(self, alpha: float) -> float:
        """The magnitude that a statistic has to exceed to be significant; infinite if none can be.

        Example::

            >>> maxima = torch.tensor([9.0, 1.0, 2.0, 3.0], dtype=torch.float64)
            >>> MaxT(maxima[:1], maxima[:1], maxima, False).critical_value(alpha=0.5)  # only 9 and 3 may be above
            2.0
        """
        allowed = int(alpha * len(self.maxima) + 1e-9)
        return float("inf") if allowed < 1 else float(self.maxima.sort(descending=True).values[allowed])


def max_t(
    bands: Iterable[tuple[Tensor, Tensor]], patterns: Patterns, statistic: type[Statistic], share: float = 0.5
) -> MaxT:
    """The test over all pixels of all bands.

    Args:
        bands: (U, P) values, 0 where not covered, and (U, P) bool whether they are covered, of some pixels at a time;
            they are iterated over once.
        patterns: of signs or groups.
        statistic: :class:`OneSample` or :class:`TwoSamples`.
        share: of the units (of each group) that must cover a pixel for it to be tested, at least two.

    Example::

        >>> from captum_canonical.statistics.permutation import sign_patterns
        >>> values = torch.tensor([[1.0, -1.0], [1.1, 1.0], [0.9, 0.5], [1.2, -0.5]])
        >>> found = max_t([(values, torch.ones(4, 2, dtype=torch.bool))], sign_patterns(4, 100, 0), OneSample)
        >>> found.p_values  # 2 of the 16 patterns of signs have a t as large as the first pixel's
        tensor([0.1250, 1.0000], dtype=torch.float64)
    """
    maxima = torch.zeros(len(patterns), dtype=torch.float64)
    observed = []
    for values, covered in bands:
        some = testable(covered, statistic, share)
        made = statistic(values[:, some].to(dtype_for(patterns)), covered[:, some], share)
        observed.append(torch.zeros(len(some), dtype=torch.float64))
        observed[-1][some] = made.of(patterns.rows[:1])[0].double()
        _update_maxima(maxima, made, patterns, int(some.sum()))
    t = torch.cat(observed) if observed else torch.zeros(0, dtype=torch.float64)
    return MaxT(t, p_values_of(t.abs(), maxima, patterns), maxima, patterns.exhaustive)


def count_covered(covered: Tensor) -> Tensor:
    """(P,) int64, how many of (U, P) bools are true, without a copy of all of them as numbers."""
    return torch.stack([part.sum(0) for part in covered.split(UNITS_AT_ONCE)]).sum(0)


def _sums(values: Tensor, power: int = 1) -> Tensor:
    """(P,) float64, sums of powers of (U, P) values, in parts that bound the memory."""
    return torch.stack([part.double().pow(power).sum(0) for part in values.split(UNITS_AT_ONCE)]).sum(0)


def testable(covered: Tensor, statistic: type[Statistic], share: float) -> Tensor:
    """(P,) bool, pixels that enough units cover for any pattern; of the others nothing need be computed.

    Args:
        covered: (U, P) bool.
        statistic, share: as in :func:`max_t`.

    Example::

        >>> testable(torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]]) > 0, OneSample, share=0.5)
        tensor([ True,  True, False])
    """
    count = count_covered(covered)
    return (count >= 2 * statistic.groups) & (count >= share * len(covered))


def _update_maxima(maxima: Tensor, statistic: Statistic, patterns: Patterns, pixels: int) -> None:
    step = max(1, AT_ONCE // max(1, pixels))
    for start in range(0, len(patterns) if pixels else 0, step):
        part = slice(start, start + step)
        maxima[part] = torch.maximum(maxima[part], statistic.largest(patterns.rows[part]).double())


def dtype_for(patterns: Patterns) -> torch.dtype:
    """Where all patterns are tried, some give equal statistics, whose order must not depend on rounding: float64."""
    return torch.float64 if patterns.exhaustive else torch.float32


def p_values_of(observed: Tensor, maxima: Tensor, patterns: Patterns) -> Tensor:
    """(P,) share of the maxima (B,) that are at least the observed statistics (P,); what is 0 has p = 1.

    Args:
        observed: magnitudes.
        maxima: of all patterns, the observed one among them.
        patterns: that gave them; equal up to rounding counts as at least.
    """
    tolerance = 1e-9 if patterns.exhaustive else 1e-5
    ordered = maxima.sort().values
    below = torch.searchsorted(ordered, observed * (1 - tolerance), right=False)
    above = (len(ordered) - below).clamp(min=1)  # the observed pattern is one of them, however it was rounded
    return torch.where(observed > 0, above.double() / len(ordered), 1.0)
