"""Benchmarks as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from captum_canonical.benchmarking.scoring import Row
from captum_canonical.benchmarking.settings import MEASURES

if TYPE_CHECKING:
    from captum_canonical.benchmarking.result import BenchmarkResult

NOTHING = "-"


def text_table(result: BenchmarkResult, measures: tuple[str, ...], rank_by: str | None) -> str:
    """Columns of equal width, one block for each fill."""
    parts = []
    for fill in result.fills:
        lines = lines_of(result, measures, rank_by, fill)
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        parts.append(f"Fill: {fill}")
        for number, line in enumerate(lines):
            parts.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
            if not number:
                parts.append("  ".join("-" * width for width in widths))
        parts.append("")
    return "\n".join(parts + remarks_of(result)) + "\n"


def markdown_table(result: BenchmarkResult, measures: tuple[str, ...], rank_by: str | None) -> str:
    """One table for each fill; the notes are a list."""
    parts = []
    for fill in result.fills:
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines_of(result, measures, rank_by, fill)]
        parts += [f"**Fill: {fill}**", "", _markdown(lines[0]), _markdown(["---"] * len(lines[0]))]
        parts += [*map(_markdown, lines[1:]), ""]
    return "\n".join(parts + [f"- {remark}" for remark in remarks_of(result)]) + "\n"


def csv_table(result: BenchmarkResult) -> str:
    """One line for each row, fill and measure; a row that failed has one line, with its reason."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(
        "method maps control fill measure direction value low high n rank evaluations seconds failure".split()
    )
    ranks = {(m, f): result.ranks(m, f) for m in result.measures for f in result.fills}
    for row in result.rows:
        who = [row.name, row.kind, int(row.control)]
        cost = ["" if row.evaluations is None else row.evaluations, f"{row.seconds:.3f}"]
        if row.failure is not None:
            writer.writerow([*who, *[""] * 8, *cost, row.failure])
        for (measure, fill), values in row.per_image.items() if row.failure is None else ():
            low, high = result.interval(row.label, measure, fill)
            numbers = [_plain(x) for x in (row.value(measure, fill), low, high)]
            direction, rank = MEASURES[measure].direction, ranks[measure, fill][row.label]
            count = int((~values.isnan()).sum())
            writer.writerow([*who, fill, measure, direction, *numbers, count, rank, *cost, ""])
    return target.getvalue()


def lines_of(result: BenchmarkResult, measures: tuple[str, ...], rank_by: str | None, fill: str) -> list[list[str]]:
    """Header and rows of one fill."""
    percent = "average_drop" in result.measures and bool(result.scored)
    wins = dict(zip(*result.wins(fill)[:2], strict=True)) if percent else {}
    ranks = result.ranks(rank_by, fill) if rank_by else {}
    header = ["Method", "Maps"] + [f"{MEASURES[m].title} ({MEASURES[m].direction})" for m in measures]
    header += (["Win %"] if wins else []) + ([f"Rank by {MEASURES[rank_by].title}"] if rank_by else [])
    lines = [header + ["Evaluations", "Seconds"]]
    for row in result.rows:
        cells = [_cell(result, row, measure, fill) for measure in measures]
        if wins:
            cells.append(f"{float(wins[row.label]):.1f}" if row.label in wins else NOTHING)
        if rank_by:
            cells.append(ranks.get(row.label, "failed, see below" if row.failure is not None else NOTHING))
        cost = ["not counted" if row.evaluations is None else str(row.evaluations), f"{row.seconds:.1f}"]
        name = f"{row.name} (control)" if row.control else row.name
        lines.append([name, row.kind, *cells, *cost])
    return lines


def _cell(result: BenchmarkResult, row: Row, measure: str, fill: str) -> str:
    value = row.value(measure, fill)
    if value != value:
        return NOTHING
    low, high = result.interval(row.label, measure, fill)
    digits = 1 if MEASURES[measure].percent else 3
    return f"{value:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if low == low else "")


def remarks_of(result: BenchmarkResult) -> list[str]:
    """The sentences below a table: notes, what no test can tell, methods that failed, flagged maps."""
    failed = [f"{row.label} failed: {row.failure}" for row in result.rows if row.failure is not None]
    flags = [
        f"{row.label}: " + ", ".join(f"{count} maps flagged {flag!r}" for flag, count in row.flags.items()) + "."
        for row in result.rows
        if row.flags
    ]
    limits = [result.undecidable] if result.undecidable else []
    return [*result.notes, *limits, *failed, *flags]


def _markdown(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(value: float) -> str:
    return "" if value != value else f"{value:.10g}"
