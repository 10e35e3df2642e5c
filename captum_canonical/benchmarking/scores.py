"""The rows of a benchmark: their values, intervals, paired comparisons, ranks and wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import TOLERANCE, Direction, Explanation, RemovalCurves
from captum_canonical.faithfulness.wins import Wins, win_rates
from captum_canonical.statistics.bootstrap import interval_of_mean
from captum_canonical.statistics.permutation import holm, sign_flip_p_values, smallest_p_value
from captum_canonical.statistics.units import unit_totals

MapKind = Literal["per image", "canonical mean"]
NO_DIFFERENCE = "no difference detected"


@dataclass(eq=False)
class BenchmarkRow:
    """A row of the table: the maps of one method, or their canonical mean, and how faithful they are.

    Attributes:
        name: of the method or control.
        kind: ``"per image"``, or ``"canonical mean"``: that of the other folds, re-projected.
        control: whether the maps know nothing of the network.
        per_image: (measure, fill) -> (N,) float64, NaN for images that do not count.
        explained: (explanation, fill) -> (N,) float64, the scores of the explanation images.
        curves: fill -> deletion and insertion curves in the images.
        canonical_curves: fill -> the same with shares of the canonical face.
        flags: what is unusual about maps -> in how many images (:class:`ExplanationMasks`, :class:`RemovalCurves`).
        evaluations: images that the network was run on to make the maps; None if they could not be counted.
        seconds: it took to make the maps.
        scoring_evaluations: images that the network was run on to score them.
        failure: why there is nothing of all this, or None.
    """

    name: str
    kind: MapKind
    control: bool
    per_image: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    explained: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    curves: dict[str, RemovalCurves] = field(default_factory=dict)
    canonical_curves: dict[str, RemovalCurves] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    evaluations: int | None = 0
    seconds: float = 0.0
    scoring_evaluations: int = 0
    failure: str | None = None

    @property
    def label(self) -> str:
        """Name and kind: unique in a table."""
        return f"{self.name}, {self.kind}"

    def value(self, measure: str, fill: str) -> float:
        """Mean over the images that count; NaN if none does."""
        values = self.per_image.get((measure, fill))
        return float("nan") if values is None else float(values.nanmean())


@dataclass(frozen=True)
class RowComparison:
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


@dataclass(frozen=True, eq=False)
class BenchmarkScores:
    """The part of a :class:`BenchmarkResult` that is read: the rows, and everything that is needed to compare them."""

    rows: tuple[BenchmarkRow, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...]
    clean_scores: Tensor
    units: Tensor
    interval_units: Tensor
    left_out: dict[int, str]

    @property
    def fills(self) -> tuple[str, ...]:
        """Names of the fills."""
        return tuple(self.settings["fills"])

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that some row has; their titles and directions are in :data:`MEASURES`."""
        known = {measure for row in self.rows for measure, _ in row.per_image}
        return tuple(measure for measure in MEASURES if measure in known)

    @property
    def scored(self) -> tuple[BenchmarkRow, ...]:
        """The rows that did not fail."""
        return tuple(row for row in self.rows if row.failure is None)

    def __getitem__(self, label: str) -> BenchmarkRow:
        """The row with this label, such as ``result["GradCam, per image"]``."""
        rows = {row.label: row for row in self.rows}
        if label not in rows:
            raise CanonicalError(f"expected one of the rows {list(rows)}, got {label!r}.")
        return rows[label]

    def interval(self, label: str, measure: str, fill: str) -> tuple[float, float]:
        """Interval of a value by :func:`interval_of_mean`; NaN for fewer than two units. See ``notes`` for its unit."""
        self.check_names(measure, fill)
        values = self[label].per_image.get((measure, fill))
        if values is None:
            return float("nan"), float("nan")
        options = {name: self.settings[name] for name in ("resamples", "level", "seed")}
        return interval_of_mean(values, self.interval_units, **options)

    def comparisons(self, measure: str, fill: str) -> list[RowComparison]:
        """All pairs of rows, by paired sign-flip tests with Holm's correction for the number of pairs."""
        self.check_names(measure, fill)
        rows = [row for row in self.scored if (measure, fill) in row.per_image]
        if not rows:
            return []
        scale = 100.0 if MEASURES[measure].percent else self.clean_scores.abs()
        return compare(
            [row.label for row in rows],
            torch.stack([row.per_image[measure, fill] for row in rows]),
            MEASURES[measure].direction,
            self.units,
            TOLERANCE * torch.as_tensor(scale, dtype=torch.float64).expand(len(self.clean_scores)),
            **{name: self.settings[name] for name in ("permutations", "seed", "level")},
        )

    @property
    def smallest_corrected_p(self) -> float:
        """The smallest corrected p value that any difference can have: pairs of rows times the smallest p."""
        rows, units = len(self.scored), int(self.units.max()) + 1
        smallest = smallest_p_value(units, self.settings["permutations"])
        return min(1.0, rows * (rows - 1) / 2 * smallest)

    @property
    def undecidable(self) -> str | None:
        """A sentence if no test can tell any two rows apart: too few identities, or permutations for so many pairs."""
        if self.smallest_corrected_p <= 1 - self.settings["level"]:
            return None
        rows, units = len(self.scored), int(self.units.max()) + 1
        return (
            f"No ranks: {rows * (rows - 1) // 2} pairs of rows, {units} identities or photos and "
            f"{self.settings['permutations']} permutations cannot give a corrected p below "
            f"{self.smallest_corrected_p:.2g}. Compare fewer rows, or more photographs, or pass a larger permutations=."
        )

    def ranks(self, measure: str, fill: str) -> dict[str, str]:
        """For each row its rank, such as ``"2"``, or the range that tests leave: ``"no difference detected (1-4)"``."""
        rows = [row.label for row in self.scored if (measure, fill) in row.per_image]
        return ranks_of(rows, self.comparisons(measure, fill))

    def wins(self, fill: str, explanation: Explanation = "negative") -> Wins:
        """Win % of the rows that did not fail, and who beats whom (Eq. 13). Win % depends on who takes part.

        Raises:
            CanonicalError: the scores are no confidences, or there are no rows.
        """
        if explanation not in ("negative", "positive") or fill not in self.fills:
            raise CanonicalError(
                f"wins: expected one of the fills {list(self.fills)} and 'negative' or 'positive', got {fill!r} and "
                f"{explanation!r}."
            )
        explained = {row.label: row.explained[explanation, fill] for row in self.scored}
        return win_rates(explained, explanation=explanation, unbounded=self.settings["unbounded"])

    def check_names(self, measure: str, fill: str) -> None:
        """Raises CanonicalError unless there are such a measure and such a fill."""
        if measure not in self.measures or fill not in self.fills:
            raise CanonicalError(
                f"expected one of the measures {list(self.measures)} and one of the fills {list(self.fills)}, got "
                f"{measure!r} and {fill!r}."
            )


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
) -> list[RowComparison]:
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
            RowComparison(
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


def ranks_of(labels: Sequence[str], comparisons: Sequence[RowComparison]) -> dict[str, str]:
    """The rank of each row: a number if it differs from every other row, else the range that the tests leave.

    Example::

        >>> ranks_of(["a", "b", "c"], [RowComparison("a", "b", 0.1, 0.5, 0.5, "no difference detected", 9),
        ...     RowComparison("a", "c", 1.0, 0.01, 0.03, "a", 9), RowComparison("b", "c", 0.9, 0.02, 0.04, "b", 9)])
        {'a': 'no difference detected (1-2)', 'b': 'no difference detected (1-2)', 'c': '3'}
    """
    ranks = {}
    for label in labels:
        own = [c for c in comparisons if label in (c.first, c.second) and c.better != NO_DIFFERENCE]
        worse = sum(c.better == label for c in own)
        best, last = 1 + len(own) - worse, len(labels) - worse
        ranks[label] = str(best) if best == last else f"{NO_DIFFERENCE} ({best}-{last})"
    return ranks
