"""The result of a benchmark: its scores, its mean maps, and the files and tables that are written of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor

from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.scores import BenchmarkRow, BenchmarkScores
from captum_canonical.benchmarking.writing import as_markdown, as_text, fill_table, read, remarks_of, score_table, write
from captum_canonical.checks import check_choice
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.tables import Table

SHOWN = ("average_drop", "increase_rate", "mean_drop", "deletion_auc", "insertion_auc")
"""Measures of a table if nobody says which."""
SCORING_SETTINGS = ("budget", "sign", "fractions", "spaces", "unbounded", "seed", "resamples", "permutations", "level")
"""Settings that must agree for rows to stand in one table."""


@dataclass(frozen=True, eq=False)
class BenchmarkResult(BenchmarkScores):
    """The rows of a benchmark, and everything that is needed to compare them.

    Intervals, tests and ranks are found when they are asked for, from the values of single images and the seed: the
    same each time, and a row's values and interval do not depend on the other rows.

    Attributes:
        rows: one for each method and control, and for each the canonical mean of its maps.
        settings: all that the benchmark was run with, versions included, as it stands in the JSON.
        notes: what a reader of the table must know, in sentences.
        clean_scores: (N,) float64, scores of the images themselves.
        units: (N,) int64, the identity of each image (each its own where they were not given): what tests flip.
        interval_units: (N,) int64, what intervals go by: the same.
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

    mean_maps: dict[str, Tensor] = field(default_factory=dict)
    canonical_faces: dict[str, CanonicalFace] = field(default_factory=dict)

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
        check_choice("format", format, ("text", "markdown", "csv"))
        if format == "csv":
            ranks = {(m, f): self.ranks(m, f) for m in self.measures for f in self.fills}
            return score_table(self.rows, self.interval, ranks).csv()
        return (as_text if format == "text" else as_markdown)(self.tables(measures, rank_by), self.remarks)

    def tables(self, measures: Sequence[str] | None = None, rank_by: str | None = None) -> list[Table[BenchmarkRow]]:
        """The tables that :meth:`table` writes as text or Markdown, one for each fill, without the notes."""
        columns = tuple(measures) if measures is not None else tuple(m for m in SHOWN if m in self.measures)
        rank_by = rank_by or next(iter(columns), None)
        for measure in (*columns, *([rank_by] if rank_by else [])):
            self.check_names(measure, self.fills[0])
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
        known = MEASURES.get(measure or "")
        title = f"{known.title} ({known.direction} is better)" if known else None
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
        return BenchmarkResult(**read(source))

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
        return _joined(results)


def _joined(results: Mapping[str, BenchmarkResult]) -> BenchmarkResult:
    first = next(iter(results.values()), None)
    if first is None:
        raise CanonicalError("join: expected one or more results.")
    rows: list[BenchmarkRow] = []
    for name, result in results.items():
        _check_alike(name, first, result)
        rows += [
            replace(row, name=f"{row.name}, {name}" if name else row.name) for row in result.rows if not row.control
        ]
    rows += [row for row in first.rows if row.control]
    labels = [row.label for row in rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise CanonicalError(f"join: expected results with names of their own, got {twice} more than once.")
    return replace(
        first,
        rows=tuple(rows),
        settings={**first.settings, "joined": {name: result.settings for name, result in results.items()}},
        notes=(*first.notes, "Rows of several runs on the same photographs; the controls are those of the first."),
        mean_maps=_renamed(results, "mean_maps"),
        canonical_faces=_renamed(results, "canonical_faces"),
    )


def _renamed(results: Mapping[str, BenchmarkResult], attribute: str) -> dict[str, Any]:
    return {
        f"{method}, {name}" if name else method: value
        for name, result in results.items()
        for method, value in getattr(result, attribute).items()
    }


def _check_alike(name: str, first: BenchmarkResult, other: BenchmarkResult) -> None:
    one, two = first.clean_scores, other.clean_scores
    same = (
        # Runs may differ by rounding: which routine a library takes depends on where tensors lie in memory.
        one.shape == two.shape
        and float((one - two).abs().max()) <= 1e-5 * float(one.abs().max())
        and torch.equal(first.units, other.units)
        and first.fills == other.fills
        and all(first.settings[key] == other.settings[key] for key in SCORING_SETTINGS)
    )
    if not same:
        raise CanonicalError(
            f"join: {name!r} is not about the same photographs, clean scores, identities, fills, budget, sign, "
            "fractions and seed as the first result."
        )
