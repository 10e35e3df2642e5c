"""A benchmark's rows as tables: what their columns show, and the sentences below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.scores import BenchmarkRow
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
