"""Permutation tests: patterns of signs and of groups, all of them where they are few, else random ones; paired tests.

The first pattern is always the observed one, so that it counts among the others and no p value can be 0. Random
patterns have generators of their own: the global random state is neither used nor changed.

References:
    Phipson, Smyth: Permutation P-values Should Never Be Zero, 2010.
    Holm: A Simple Sequentially Rejective Multiple Test Procedure, 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from captum_canonical.checks import check_tensor
from captum_canonical.errors import CanonicalError

ROWS_AT_ONCE = 512  # bounds the memory of random orders
FLIPS_AT_ONCE = 2048  # likewise, of signs as floats


@dataclass(frozen=True, eq=False)
class Patterns:
    """Patterns that are equally likely under the null hypothesis.

    Attributes:
        rows: (B, U) int8; signs -1 and 1, or 0 and 1 where 1 says that the unit is in the first group. The first row is
            what was observed.
        exhaustive: whether these are all there are.
        ties: how many of them give the observed magnitude in any case.
    """

    rows: Tensor
    exhaustive: bool
    ties: int = 1

    @property
    def smallest(self) -> float:
        """The smallest p value that they can give."""
        return self.ties / len(self)

    def __len__(self) -> int:
        return len(self.rows)


def sign_patterns(units: int, permutations: int, seed: int, enumerate_up_to: int | None = None) -> Patterns:
    """Signs of U units: all 2^(U - 1) up to a common sign where these are few, else random ones.

    Args:
        units: U; of none there is one pattern, which is empty.
        permutations: number of random patterns.
        seed: of these.
        enumerate_up_to: the largest number of patterns that are all tried. Default: ``permutations``.

    Example::

        >>> sign_patterns(2, permutations=100, seed=0).rows
        tensor([[ 1,  1],
                [ 1, -1]], dtype=torch.int8)
    """
    every = 2 ** max(0, units - 1)
    if every <= (permutations if enumerate_up_to is None else enumerate_up_to):
        codes = torch.arange(every)[:, None] >> torch.arange(units).flip(0) & 1
        return Patterns((1 - 2 * codes).to(torch.int8), exhaustive=True)
    generator = torch.Generator().manual_seed(int(seed))
    rows = torch.ones(permutations + 1, units, dtype=torch.int8)
    for part in rows[1:].split(ROWS_AT_ONCE):
        part.copy_(1 - 2 * torch.randint(2, part.shape, generator=generator, dtype=torch.int8))
    return Patterns(rows, exhaustive=False)


def group_patterns(first: int, second: int, permutations: int, seed: int) -> Patterns:
    """Ways to deal U = first + second units out to two groups of these sizes.

    Observed is that the units of the first group come first.

    Args:
        first, second: numbers of units, at least 1 each.
        permutations, seed: as in :func:`sign_patterns`.

    Example::

        >>> group_patterns(1, 2, permutations=100, seed=0).rows
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 0, 1]], dtype=torch.int8)
    """
    units = first + second
    if math.comb(units, first) <= permutations:
        members = torch.tensor(list(combinations(range(units), first)))
        rows = torch.zeros(len(members), units, dtype=torch.int8).scatter_(1, members, 1)
        return Patterns(rows, exhaustive=True, ties=2 if first == second else 1)
    generator = torch.Generator().manual_seed(int(seed))
    rows = torch.zeros(permutations + 1, units, dtype=torch.int8)
    rows[0, :first] = 1
    for part in rows[1:].split(ROWS_AT_ONCE):
        members = torch.rand(part.shape, generator=generator).topk(first, 1).indices
        part.scatter_(1, members, 1)
    return Patterns(rows, exhaustive=False)


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
    # Sums in another order differ by rounding: a pattern that gives the observed sum must count.
    observed = totals.sum(1).abs() - 1e-12 * totals.abs().sum(1)
    patterns = sign_patterns(totals.shape[1], permutations, seed, _most_enumerated(permutations))
    reached = torch.zeros(len(totals), dtype=torch.float64)
    for signs in patterns.rows.split(FLIPS_AT_ONCE):
        reached += ((signs.double() @ totals.T).abs() >= observed).sum(0)
    return reached / len(patterns)


def smallest_p_value(units: int, permutations: int) -> float:
    """The smallest p value of :func:`sign_flip_p_values`: two of all patterns, or the observed one of random ones.

    Example::

        >>> smallest_p_value(6, permutations=64), smallest_p_value(6, permutations=19)
        (0.03125, 0.05)
    """
    every = 2 ** max(0, units - 1)
    return 1 / every if every <= _most_enumerated(permutations) else 1 / (permutations + 1)


def _most_enumerated(permutations: int) -> int:
    return permutations // 2  # a pattern and its negative give the same magnitude, and only one of them is tried


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
    p_values = check_tensor("p_values", p_values)
    if p_values.ndim != 1 or not bool(((p_values >= 0) & (p_values <= 1)).all()):
        raise CanonicalError(f"p_values: expected (T,) numbers in 0..1, got {p_values!r:.80}.")
    order = p_values.argsort(stable=True)
    left = torch.arange(len(p_values), 0, -1, dtype=torch.float64)
    corrected = torch.empty(len(p_values), dtype=torch.float64)
    corrected[order] = (p_values.double()[order] * left).clamp(max=1).cummax(0).values if len(p_values) else corrected
    return corrected
