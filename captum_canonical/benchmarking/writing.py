"""How a benchmark's result is written: as tables, as CSV, and as JSON, which can be read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.scores import BenchmarkRow, BenchmarkScores
from captum_canonical.checks import check_path
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.files import json_text, read_regular, write_file
from captum_canonical.tables import Column, Interval, Table

NOTHING = "-"
GetInterval = Callable[[str, str, str], Interval]
"""Label of a row, measure, fill -> interval."""


def fill_table(
    fill: str,
    rows: Sequence[BenchmarkRow],
    measures: Sequence[str],
    interval: GetInterval,
    wins: Mapping[str, float],
    ranks: Mapping[str, str],
    rank_by: str | None,
) -> Table[BenchmarkRow]:
    """All rows with one fill.

    Args:
        fill: its name.
        rows: those that failed too.
        measures: the columns.
        interval: of a row, see :meth:`BenchmarkResult.interval`.
        wins: label -> Win %; without any, there is no such column.
        ranks: label -> rank.
        rank_by: the measure that ranks are about; None for no such column.
    """

    def rank(row: BenchmarkRow) -> str:
        return ranks.get(row.label, NOTHING if row.failure is None else "failed, see below")

    columns: list[Column[BenchmarkRow]] = [
        Column("method", "Method", lambda row: f"{row.name} (control)" if row.control else row.name),
        Column("maps", "Maps", "kind"),
        *(_measure_column(measure, fill, interval) for measure in measures),
    ]
    if wins:
        columns.append(Column("wins", "Win %", lambda row: wins.get(row.label), format=".1f", missing=NOTHING))
    if rank_by:
        columns.append(Column("rank", f"Rank by {MEASURES[rank_by].title}", rank))
    columns += [
        Column("evaluations", "Evaluations", missing="not counted"),
        Column("seconds", "Seconds", format=".1f"),
    ]
    return Table(columns, rows, f"Fill: {fill}")


def _measure_column(measure: str, fill: str, interval: GetInterval) -> Column[BenchmarkRow]:
    known = MEASURES[measure]
    return Column(
        measure,
        f"{known.title} ({known.direction})",
        lambda row: row.value(measure, fill),
        lambda row: interval(row.label, measure, fill),
        format=".1f" if known.percent else ".3f",
        missing=NOTHING,
    )


class Score(NamedTuple):
    """One line of the CSV file: a row, fill and measure, or a row that failed."""

    method: str
    maps: str
    control: int
    fill: str | None = None
    measure: str | None = None
    direction: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    rank: str | None = None
    evaluations: int | None = None
    seconds: float | None = None
    failure: str | None = None


def score_table(
    rows: Sequence[BenchmarkRow], interval: GetInterval, ranks: Mapping[tuple[str, str], Mapping[str, str]]
) -> Table:
    """One line for each row, fill and measure; ``ranks`` are by measure and fill, then by label."""
    scores = []
    for row in rows:
        score = Score(row.name, row.kind, int(row.control), evaluations=row.evaluations, seconds=row.seconds)
        if row.failure is not None:
            scores.append(score._replace(failure=row.failure))
            continue
        for (measure, fill), values in row.per_image.items():
            low, high = interval(row.label, measure, fill)
            scores.append(
                score._replace(
                    fill=fill,
                    measure=measure,
                    direction=MEASURES[measure].direction,
                    value=row.value(measure, fill),
                    low=low,
                    high=high,
                    n=int((~values.isnan()).sum()),
                    rank=ranks[measure, fill][row.label],
                )
            )
    return Table([Column(name) for name in Score._fields], scores)


def remarks_of(rows: Sequence[BenchmarkRow]) -> list[str]:
    """Sentences about methods that failed, and flagged maps."""
    failed = [f"{row.label} failed: {row.failure}" for row in rows if row.failure is not None]
    flags = [
        f"{row.label}: " + ", ".join(f"{count} maps flagged {flag!r}" for flag, count in row.flags.items()) + "."
        for row in rows
        if row.flags
    ]
    return failed + flags


def as_text(tables: Sequence[Table[BenchmarkRow]], remarks: Sequence[str]) -> str:
    """One block for each fill, then the remarks."""
    parts = [f"{table.title}\n{table.text(rule=True)}\n" for table in tables]
    return "\n".join([*parts, *remarks]) + "\n"


def as_markdown(tables: Sequence[Table[BenchmarkRow]], remarks: Sequence[str]) -> str:
    """One table for each fill; the remarks are a list."""
    parts = [f"**{table.title}**\n\n{table.markdown()}\n" for table in tables]
    return "\n".join([*parts, *(f"- {remark}" for remark in remarks)]) + "\n"


FACTS = ("name", "kind", "control", "failure", "flags", "evaluations", "seconds", "scoring_evaluations")
"""Fields of a row that stand in the JSON as they are."""


def write(result: BenchmarkScores, path: str | PathLike[str] | None, per_image: bool) -> str:
    """The result as JSON, and into a file; see :meth:`BenchmarkResult.to_json`."""
    document = _document(result) | ({"images": images_of(result)} if per_image else {})
    text = json_text(document)
    if path is not None:
        write_file(path, text + "\n")
    return text


def _document(result: BenchmarkScores) -> dict[str, Any]:
    pairs = [(measure, fill) for measure in result.measures for fill in result.fills]
    return {
        "settings": result.settings,
        "notes": list(result.notes),
        "smallest_corrected_p": result.smallest_corrected_p,
        "left_out": {str(row): why for row, why in result.left_out.items()},
        "rows": [_scores(result, row, pairs) for row in result.rows],
        "comparisons": [
            {"measure": measure, "fill": fill, **vars(comparison)}
            for measure, fill in pairs
            for comparison in result.comparisons(measure, fill)
        ],
        "wins": _wins(result),
    }


def _scores(result: BenchmarkScores, row: BenchmarkRow, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    scores = []
    for measure, fill in pairs if row.failure is None else []:
        low, high = result.interval(row.label, measure, fill)
        n = int((~row.per_image[measure, fill].isnan()).sum()) if (measure, fill) in row.per_image else 0
        direction = MEASURES[measure].direction
        value = row.value(measure, fill)
        scores.append(
            {
                "measure": measure,
                "fill": fill,
                "direction": direction,
                "value": value,
                "low": low,
                "high": high,
                "n": n,
            }
        )
    curves = {
        fill: {"fractions": c.fractions.tolist(), "morf": c.morf.mean(0).tolist(), "lerf": c.lerf.mean(0).tolist()}
        for fill, c in row.curves.items()
    }
    return {**{fact: getattr(row, fact) for fact in FACTS}, "scores": scores, "mean_curves": curves}


def _wins(result: BenchmarkScores) -> list[dict[str, Any]]:
    if "average_drop" not in result.measures:
        return []
    found = []
    for fill in result.fills:
        wins = result.wins(fill)
        percent = dict(zip(wins.methods, wins.percent.tolist(), strict=True))
        found.append(
            {"fill": fill, "explanation": "negative", "percent": percent, "ties": wins.ties, "n": wins.n}
            | {"pairwise": wins.pairwise.tolist()}
        )
    return found


def images_of(result: BenchmarkScores) -> dict[str, Any]:
    """The values of single images, which tests and intervals need, as values for JSON (NaN as None)."""
    return {
        "clean_scores": result.clean_scores.tolist(),
        "units": result.units.tolist(),
        "interval_units": result.interval_units.tolist(),
        "rows": [
            {
                "values": [[*key, _listed(values)] for key, values in row.per_image.items()],
                "explained": [[*key, _listed(values)] for key, values in row.explained.items()],
                "curves": [
                    [fill, curve.space, curve.fractions.tolist(), curve.morf.tolist(), curve.lerf.tolist(), curve.flags]
                    for curves in (row.curves, row.canonical_curves)
                    for fill, curve in curves.items()
                ],
            }
            for row in result.rows
        ],
    }


def read(source: str | PathLike[str]) -> dict[str, Any]:
    """The fields of the result in a JSON file, or in a string that holds one.

    Raises:
        CanonicalError: it is none, or was written without the values of single images.
    """
    inline = isinstance(source, str) and source.lstrip().startswith("{")
    try:
        text = str(source) if inline else read_regular(check_path("source", source)).decode("utf-8")
    except OSError as error:
        raise CanonicalError(f"source: expected the JSON file of a benchmark, but {error}.") from error
    try:
        document = json.loads(text)
        images = document["images"]
        rows = tuple(_row(facts, own) for facts, own in zip(document["rows"], images["rows"], strict=True))
        numbers = {name: torch.tensor(images[name]) for name in ("units", "interval_units")}
        return dict(
            rows=rows,
            settings=document["settings"],
            notes=tuple(document["notes"]),
            clean_scores=_tensor(images["clean_scores"]),
            left_out={int(place): why for place, why in document["left_out"].items()},
            **numbers,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CanonicalError(
            f"expected a benchmark's JSON with the values of single images (to_json(path, per_image=True)): "
            f"{type(error).__name__}: {error}"
        ) from error


def _row(facts: dict[str, Any], own: dict[str, Any]) -> BenchmarkRow:
    row = BenchmarkRow(**{fact: facts[fact] for fact in FACTS})
    row.per_image = {(measure, fill): _tensor(values) for measure, fill, values in own["values"]}
    unknown = {measure for measure, _ in row.per_image} - set(MEASURES)
    if unknown:
        raise ValueError(f"unknown measures {sorted(unknown)}")
    row.explained = {(explanation, fill): _tensor(values) for explanation, fill, values in own["explained"]}
    for fill, space, fractions, morf, lerf, flags in own["curves"]:
        curves = row.curves if space == "image" else row.canonical_curves
        curves[fill] = RemovalCurves(_tensor(fractions), _tensor(morf), _tensor(lerf), tuple(flags), fill, space)
    return row


def _listed(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _tensor(values: list[Any]) -> Tensor:
    return torch.tensor(
        [float("nan") if value is None else value for value in values] if not _nested(values) else values,
        dtype=torch.float64,
    )


def _nested(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], list)
