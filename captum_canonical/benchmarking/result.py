"""What a benchmark found: values, intervals, paired comparisons, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor

from captum_canonical.benchmarking.comparisons import Comparison, compare, ranks_of
from captum_canonical.benchmarking.saved import join, read, write
from captum_canonical.benchmarking.scoring import Row
from captum_canonical.benchmarking.settings import MEASURES, Settings
from captum_canonical.benchmarking.tables import as_markdown, as_text, fill_table, remarks_of, score_table
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faithfulness.measures import TOLERANCE, Explanation
from captum_canonical.faithfulness.wins import Wins, win_rates
from captum_canonical.statistics.bootstrap import bootstrap_interval, smallest_p_value
from captum_canonical.tables import Table

SHOWN = ("average_drop", "increase_rate", "mean_drop", "deletion_auc", "insertion_auc")
"""Measures of a table if nobody says which."""


@dataclass(frozen=True, eq=False)
class BenchmarkResult:
    """The rows of a benchmark, and everything that is needed to compare them.

    Intervals, tests and ranks are found when they are asked for, from the values of single images and the seed: the
    same each time, and a row's values and interval do not depend on the other rows.

    Attributes:
        rows: one for each method and control, and for each the canonical mean of its maps.
        settings: all that the benchmark was run with, versions included, as it stands in the JSON.
        notes: what a reader of the table must know, in sentences.
        clean_scores: (N,) float64, scores of the images themselves.
        units: (N,) int64, the identity of each image (each its own where they were not given): what tests flip.
        interval_units: (N,) int64, what intervals are resampled by: identities, or photos if these are too few.
        left_out: place in the data -> why the image was left out.
        mean_maps: method or control -> (1, H_F, W_F), the mean of its canonical maps over all images (Eq. 6), to look
            at: no score is made from it.
        canonical_faces: method or control -> the canonical face that these are written on.

    Example::

        >>> from captum.attr import Saliency
        >>> from captum_canonical import FaceMesh, benchmark
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(4, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> net = lambda x: x[:, :, 20:26, 12:20].mean((1, 2, 3))  # reads the mouth
        >>> photos = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> methods = {"Saliency": Saliency(net)}
        >>> result = benchmark(net, photos, methods, faces=faces, canonical_face=face, fills=["mean"], folds=2)
        >>> len(result.rows), result.fills, result["Saliency, per image"].control
        (8, ('mean',), False)
        >>> low, high = result.interval("Saliency, per image", "mean_drop", "mean")
        >>> low <= result["Saliency, per image"].value("mean_drop", "mean") <= high
        True
    """

    rows: tuple[Row, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...]
    clean_scores: Tensor
    units: Tensor
    interval_units: Tensor
    left_out: dict[int, str]
    mean_maps: dict[str, Tensor]
    canonical_faces: dict[str, CanonicalFace]
    _settings: Settings

    # ------------------------------------------------------------------------------------------------ reading
    @property
    def fills(self) -> tuple[str, ...]:
        """Names of the fills."""
        return self._settings.fill_names

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that some row has; their titles and directions are in :data:`MEASURES`."""
        known = {measure for row in self.rows for measure, _ in row.per_image}
        return tuple(measure for measure in MEASURES if measure in known)

    @property
    def scored(self) -> tuple[Row, ...]:
        """The rows that did not fail."""
        return tuple(row for row in self.rows if row.failure is None)

    def __getitem__(self, label: str) -> Row:
        """The row with this label, such as ``result["GradCam, per image"]``."""
        rows = {row.label: row for row in self.rows}
        if label not in rows:
            raise CanonicalError(f"expected one of the rows {list(rows)}, got {label!r}.")
        return rows[label]

    def interval(self, label: str, measure: str, fill: str) -> tuple[float, float]:
        """Bootstrap interval of a value; NaN where there are fewer than two units. See ``notes`` for its unit."""
        self._check(measure, fill)
        values = self[label].per_image.get((measure, fill))
        if values is None:
            return float("nan"), float("nan")
        s = self._settings
        return bootstrap_interval(values, self.interval_units, resamples=s.resamples, level=s.level, seed=s.seed)

    def comparisons(self, measure: str, fill: str) -> list[Comparison]:
        """All pairs of rows, by paired sign-flip tests with Holm's correction for the number of pairs."""
        self._check(measure, fill)
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
            permutations=self._settings.permutations,
            seed=self._settings.seed,
            level=self._settings.level,
        )

    @property
    def smallest_corrected_p(self) -> float:
        """What a corrected p value cannot be below, however much rows differ: pairs of rows times the smallest p."""
        rows, units = len(self.scored), int(self.units.max()) + 1
        smallest = smallest_p_value(units, self._settings.permutations)
        return min(1.0, rows * (rows - 1) / 2 * smallest)

    @property
    def undecidable(self) -> str | None:
        """A sentence if no test can tell any two rows apart: too few identities, or permutations for so many pairs."""
        if self.smallest_corrected_p <= 1 - self._settings.level:
            return None
        rows, units = len(self.scored), int(self.units.max()) + 1
        return (
            f"No ranks: {rows * (rows - 1) // 2} pairs of rows, {units} identities or photos and "
            f"{self._settings.permutations} permutations cannot give a corrected p below "
            f"{self.smallest_corrected_p:.2g}. Compare fewer rows, or more photographs, or pass a larger permutations=."
        )

    def ranks(self, measure: str, fill: str) -> dict[str, str]:
        """For each row its rank, such as ``"2"``, or ``"no difference detected (1-4)"``: what the tests leave open."""
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
        return win_rates(explained, explanation=explanation, unbounded=self._settings.unbounded)

    # ------------------------------------------------------------------------------------------------ writing
    def table(
        self,
        format: Literal["text", "markdown", "csv"] = "text",
        *,
        measures: Sequence[str] | None = None,
        rank_by: str | None = None,
    ) -> str:
        """The rows as a table: for each fill values with their intervals, ranks and Win %, and the notes below.

        Args:
            format: ``"text"``, ``"markdown"``, or ``"csv"`` (one line for each row, fill and measure, all measures).
            measures: the columns. Default: :data:`SHOWN`, as far as they exist.
            rank_by: the measure that ranks are about. Default: the first column.

        Raises:
            CanonicalError: an unknown format or measure.
        """
        if format not in ("text", "markdown", "csv"):
            raise CanonicalError(f"format: expected 'text', 'markdown' or 'csv', got {format!r}.")
        if format == "csv":
            ranks = {(m, f): self.ranks(m, f) for m in self.measures for f in self.fills}
            return score_table(self.rows, self.interval, ranks).csv()
        return (as_text if format == "text" else as_markdown)(self.tables(measures, rank_by), self.remarks)

    def tables(self, measures: Sequence[str] | None = None, rank_by: str | None = None) -> list[Table[Row]]:
        """The tables that :meth:`table` writes as text or Markdown, one for each fill, without the notes."""
        columns = tuple(measures) if measures is not None else tuple(m for m in SHOWN if m in self.measures)
        rank_by = rank_by or next(iter(columns), None)
        for measure in (*columns, *([rank_by] if rank_by else [])):
            self._check(measure, self.fills[0])
        with_wins = "average_drop" in self.measures and bool(self.scored)
        tables = []
        for fill in self.fills:
            wins = self.wins(fill) if with_wins else None
            percents = {} if wins is None else dict(zip(wins.methods, wins.percent.tolist(), strict=True))
            ranks = self.ranks(rank_by, fill) if rank_by else {}
            tables.append(fill_table(fill, self.rows, columns, self.interval, percents, ranks, rank_by))
        return tables

    @property
    def remarks(self) -> list[str]:
        """The sentences below a table: notes, what no test can tell, methods that failed, flagged maps."""
        return [*self.notes, *([self.undecidable] if self.undecidable else []), *remarks_of(self.rows)]

    def plot(self, measure: str | None = None, fills: Sequence[str] | None = None) -> Any:
        """One measure of all rows as a figure: values with their intervals, a panel for each fill.

        Args:
            measure: one of ``measures``. Default: the first.
            fills: some of ``fills``. Default: all.

        Returns:
            A :class:`matplotlib.figure.Figure`, see :func:`captum_canonical.visualization.show_benchmark`.

        Raises:
            CanonicalError: there is no such measure or fill.
        """
        from captum_canonical.visualization.benchmark import show_benchmark  # matplotlib takes long to import

        measure = next(iter(self.measures), None) if measure is None else measure
        told = MEASURES.get(measure or "")
        title = f"{told.title} ({told.direction} is better)" if told else None
        return show_benchmark(self, measure, fills, axis_title=title)

    def to_json(self, path: str | PathLike[str] | None = None, *, per_image: bool = False) -> str:
        """Settings, notes, rows, comparisons and wins. NaN is written as null.

        Args:
            path: a file to write as well.
            per_image: the values of single images, too: :meth:`from_json` needs them.
        """
        return write(self, path, per_image)

    @staticmethod
    def from_json(source: str | PathLike[str]) -> BenchmarkResult:
        """The result that :meth:`to_json` wrote with ``per_image=True``: the same tables, intervals and tests.

        Args:
            source: the file, or its text. The file holds no maps: ``mean_maps`` is empty.

        Raises:
            CanonicalError: it is no such file.
        """
        return read(source)

    @staticmethod
    def join(results: Mapping[str, BenchmarkResult]) -> BenchmarkResult:
        """One result with the rows of several runs on the same photographs, to compare what one run cannot vary.

        Args:
            results: what to write behind the names of each run's methods -> the run; ``""`` for nothing. The controls
                are those of the first.

        Raises:
            CanonicalError: photographs, clean scores, identities or the way of scoring differ, or two rows have the
                same name.
        """
        return join(results)

    def _check(self, measure: str, fill: str) -> None:
        if measure not in self.measures or fill not in self.fills:
            raise CanonicalError(
                f"expected one of the measures {list(self.measures)} and one of the fills {list(self.fills)}, got "
                f"{measure!r} and {fill!r}."
            )
