"""Sign patterns and regroupings for permutation tests: all of them where they are few, else random ones.

The first pattern is always the observed one, so that it counts among the others and no p value can be 0 (Phipson,
Smyth: Permutation P-values Should Never Be Zero, 2010).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

ROWS_AT_ONCE = 512  # bounds the memory of random orders


@dataclass(frozen=True, eq=False)
class Patterns:
    """How units might have fallen out.

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


def sign_patterns(units: int, permutations: int, seed: int) -> Patterns:
    """Signs of U units: all 2^(U - 1) up to a common sign if there are at most so many, else random ones.

    Args:
        units: U; of none there is one pattern, which is empty.
        permutations: number of random patterns.
        seed: of these; the global random state is not used.

    Example::

        >>> sign_patterns(2, permutations=100, seed=0).rows
        tensor([[ 1,  1],
                [ 1, -1]], dtype=torch.int8)
    """
    every = 2 ** max(0, units - 1)
    if every <= permutations:
        codes = torch.arange(every)[:, None] >> torch.arange(units).flip(0) & 1
        return Patterns((1 - 2 * codes).to(torch.int8), exhaustive=True)
    generator = torch.Generator().manual_seed(seed)
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
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(permutations + 1, units, dtype=torch.int8)
    rows[0, :first] = 1
    for part in rows[1:].split(ROWS_AT_ONCE):
        members = torch.rand(part.shape, generator=generator).topk(first, 1).indices
        part.scatter_(1, members, 1)
    return Patterns(rows, exhaustive=False)
