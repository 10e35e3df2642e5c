"""Pairs of photographs of two groups that are similar in pose, confidence or other numbers.

References:
    Stuart: Matching methods for causal inference, Statistical Science 25, 2010.
    Austin: Optimal caliper widths for propensity-score matching, Pharmaceutical Statistics 10, 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from captum_canonical.errors import CanonicalError
from captum_canonical.run_folder.folder import Records

COLUMNS = {"pose": ("yaw", "pitch"), "confidence": ("score",)}


@dataclass(frozen=True)
class Matching:
    """How two groups were matched.

    Attributes:
        columns: the numbers in which the photographs of a pair are similar.
        caliper: largest difference of a pair in each column, in standard deviations of both groups together.
        pairs: number of photographs of each group that have a partner.
        left_out: number of photographs of the first and the second group without a partner.
        before, after: column -> difference of the groups' means, in the same unit, without and with matching.
    """

    columns: tuple[str, ...]
    caliper: float
    pairs: int
    left_out: tuple[int, int]
    before: dict[str, float]
    after: dict[str, float]

    @property
    def sentence(self) -> str:
        """The matching as a sentence."""
        change = ", ".join(
            f"{name} {self.before[name]:+.2f} before and {self.after[name]:+.2f} after" for name in self.columns
        )
        return (
            f"Matched on {', '.join(self.columns)} (caliper {self.caliper:g} standard deviations): {self.pairs} pairs; "
            f"{self.left_out[0]} and {self.left_out[1]} photographs without a partner left out. Difference of the "
            f"means in standard deviations: {change}."
        )

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "sentence": self.sentence}


def matched(
    first: Records, second: Records, by: Sequence[str], caliper: float
) -> tuple[list[int], list[int], Matching]:
    """The photographs of both groups that have a partner, in the order of the groups, and how they were matched.

    The closest two photographs become a pair, then the closest of the rest, as far as the caliper allows; ties go to
    the earlier photograph. Nothing is random. A photograph with an unknown number has no partner.

    Args:
        first, second: column -> one entry for each photograph.
        by: "pose" (yaw and pitch), "confidence" (score) or other columns of numbers.
        caliper: see :class:`Matching`.

    Raises:
        CanonicalError: a column is missing or holds no numbers, or there is no pair.

    Example::

        >>> a, b = {"score": [0.1, 0.5, 0.9]}, {"score": [0.52, 0.6, 0.11]}
        >>> matched(a, b, ["score"], caliper=0.2)[:2]
        ([0, 1], [0, 2])
    """
    if isinstance(caliper, bool) or not caliper > 0:
        raise CanonicalError(f"caliper: expected a number above 0, got {caliper!r}.")
    names = [column for name in ([by] if isinstance(by, str) else by) for column in COLUMNS.get(name, (name,))]
    sides = [np.stack([_numbers(records, name) for name in names], 1) for records in (first, second)]
    spread = np.nanstd(np.concatenate(sides), axis=0)
    scaled = [side / np.where(spread > 0, spread, 1.0) for side in sides]
    pairs = _nearest_pairs(scaled[0], scaled[1], float(caliper))
    if not pairs:
        raise CanonicalError(
            f"match: expected photographs of both groups that are similar in {', '.join(names)}, but no two are within "
            f"{caliper:g} standard deviations; give a larger caliper, or compare without matching."
        )
    kept = sorted(one for one, _ in pairs), sorted(other for _, other in pairs)
    left_out = len(sides[0]) - len(pairs), len(sides[1]) - len(pairs)
    before = np.nanmean(scaled[0], 0) - np.nanmean(scaled[1], 0)
    after = scaled[0][kept[0]].mean(0) - scaled[1][kept[1]].mean(0)
    differences = [dict(zip(names, each.tolist(), strict=True)) for each in (before, after)]
    return *kept, Matching(tuple(names), float(caliper), len(pairs), left_out, *differences)


def _nearest_pairs(first: np.ndarray, second: np.ndarray, caliper: float) -> list[tuple[int, int]]:
    known = [np.flatnonzero(np.isfinite(side).all(1)) for side in (first, second)]
    if not all(map(len, known)):
        return []
    one, other = first[known[0]], second[known[1]]
    near = cKDTree(other).query_ball_point(one, caliper, p=np.inf)
    candidates = sorted(
        (float(np.linalg.norm(one[left] - other[right])), left, right)
        for left, found in enumerate(near)
        for right in found
    )
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, left, right in candidates:
        if left not in taken[0] and right not in taken[1]:
            taken[0].add(left)
            taken[1].add(right)
            pairs.append((int(known[0][left]), int(known[1][right])))
    return pairs


def _numbers(records: Records, name: str) -> np.ndarray:
    column = records.get(name)
    if column is None or not any(isinstance(value, Real) for value in column):
        raise CanonicalError(
            f"match: expected numbers in the column {name!r} of both groups, got "
            f"{'none' if column is None else repr(column[:3])}; columns are {sorted(records)}."
        )
    return np.array([value if isinstance(value, Real) else np.nan for value in column], np.float64)
