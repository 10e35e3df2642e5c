"""Which of two rows is better, as far as a corrected paired test can tell, and the ranks that leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from captum_canonical.faithfulness.measures import Direction
from captum_canonical.statistics.bootstrap import holm, sign_flip_p_values, unit_totals

NO_DIFFERENCE = "no difference detected"


@dataclass(frozen=True)
class Comparison:
    """Two rows in one measure, compared image by image.

    Attributes:
        first, second: labels of the rows.
        difference: mean of first minus second over the images in which both count.
        p_value: two-sided, of random signs of the differences of each identity (or photo).
        corrected: the same by Holm, over all pairs of rows in this measure and fill.
        better: label of the better row, or ``"no difference detected"``.
        n: number of images in which both count.
    """

    first: str
    second: str
    difference: float
    p_value: float
    corrected: float
    better: str
    n: int


def compare(
    labels: Sequence[str],
    values: Tensor,
    direction: Direction,
    units: Tensor,
    tolerance: Tensor,
    *,
    permutations: int,
    seed: int,
    level: float,
) -> list[Comparison]:
    """All pairs of rows.

    Args:
        labels: of M rows.
        values: (M, N) per image, NaN where an image does not count.
        direction: which is better.
        units: (N,) int64, images of one identity, whose differences keep one sign.
        tolerance: (N,) differences up to this count as none.
        permutations, seed: as in :func:`sign_flip_p_values`.
        level: 1 - level is the chance of any false difference that is accepted.
    """
    pairs = list(combinations(range(len(labels)), 2))
    if not pairs:
        return []
    first, second = (values[list(side)] for side in zip(*pairs, strict=True))
    differences = first - second
    differences = torch.where(differences.abs() <= tolerance, 0.0, differences)
    totals, _ = unit_totals(differences, units)
    p_values = sign_flip_p_values(totals, permutations=permutations, seed=seed)
    corrected = holm(p_values)
    means, counts = differences.nanmean(1), (~differences.isnan()).sum(1)
    found = []
    for number, (one, two) in enumerate(pairs):
        ahead = one if (means[number] > 0) == (direction == "higher") else two
        better = labels[ahead] if corrected[number] <= 1 - level else NO_DIFFERENCE
        found.append(
            Comparison(
                labels[one],
                labels[two],
                float(means[number]),
                float(p_values[number]),
                float(corrected[number]),
                better,
                int(counts[number]),
            )
        )
    return found


def ranks_of(labels: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, str]:
    """The rank of each row: a number if every other row is told from it, else what the tests leave open.

    Example::

        >>> ranks_of(["a", "b", "c"], [Comparison("a", "b", 0.1, 0.5, 0.5, "no difference detected", 9),
        ...     Comparison("a", "c", 1.0, 0.01, 0.03, "a", 9), Comparison("b", "c", 0.9, 0.02, 0.04, "b", 9)])
        {'a': 'no difference detected (1-2)', 'b': 'no difference detected (1-2)', 'c': '3'}
    """
    ranks = {}
    for label in labels:
        own = [c for c in comparisons if label in (c.first, c.second) and c.better != NO_DIFFERENCE]
        worse = sum(c.better == label for c in own)
        best, last = 1 + len(own) - worse, len(labels) - worse
        ranks[label] = str(best) if best == last else f"{NO_DIFFERENCE} ({best}-{last})"
    return ranks
