"""The table of regions, the two sides of the face, and how concentrated the map is."""

from __future__ import annotations

from captum_canonical.model_saliency.concentration import Concentration
from captum_canonical.region_stats import RegionTable
from captum_canonical.reporting.findings import Findings
from captum_canonical.reporting.page import Cell, Row, Section, Table, number_cell
from captum_canonical.reporting.words import interval, number

MEASURES = {
    "entropy": "Entropy, nats",
    "effective_area": "Effective area, share of the face",
    "gini": "Gini coefficient",
}
NO_ENDS = (float("nan"), float("nan"))


def region_section(findings: Findings, unit: str) -> Section:
    """How much lies where."""
    table, concentration = findings.regions, findings.concentration
    tables = [] if table is None else [_regions(table, unit), *_sides(table)]
    tables += [] if concentration is None else [_concentration(concentration)]
    texts = () if table is None else table.notes
    reasons = findings.reasons.get("regions", ())
    return Section("regions", "Regions of the face", texts=texts, tables=tables, reasons=reasons)


def leading_regions(table: RegionTable, count: int = 3) -> str:
    """A sentence about the regions with the most for their area; empty if nothing is positive."""
    rows = [row for row in table.sorted() if row.density == row.density][:count]
    told = [
        f"{region_name(row.region)} ({number(row.density)} times its area's share{_with(row.density_interval)})"
        for row in rows
    ]
    return f"Most positive mass for their size: {', '.join(told)}." if told else ""


def region_name(name: str) -> str:
    """Without underscores."""
    return name.replace("_", " ")


def _with(ends: tuple[float, float]) -> str:
    told = interval(*ends)
    return f", {told}" if told else ""


def _regions(table: RegionTable, unit: str) -> Table:
    rows = [
        Row(
            [
                Cell(region_name(row.region)),
                number_cell(number(row.mean), row.mean, interval(*row.mean_interval)),
                number_cell(number(100 * row.share), row.share, interval(*(100 * end for end in row.share_interval))),
                number_cell(number(row.density), row.density, interval(*row.density_interval)),
            ]
        )
        for row in table.sorted()
    ]
    header = ("Region", f"Mean, {unit}", "Share of the positive mass, %", "Share over area")
    note = "In brackets: intervals. Share over area is 1 where a region has what its size leads to expect."
    return Table("Regions", header, rows, note)


def _sides(table: RegionTable) -> list[Table]:
    rows = [
        Row([Cell(region_name(pair.region)), number_cell(number(pair.index), pair.index, interval(*pair.interval))])
        for pair in table.asymmetries
    ]
    header = ("Pair of regions", "(left \u2212 right) / (left + right)")
    note = "Of the positive mass; \u22121: all on the person's right, 1: all on the left."
    return [Table("Left and right", header, rows, note)] if rows else []


def _concentration(found: Concentration) -> Table:
    """Intervals stand beside what they are about, the corrected values; those of the map itself come last."""
    rows = []
    for name, title in MEASURES.items():
        cells = [Cell(title)]
        if found.corrected:
            corrected = found.corrected.get(name, float("nan"))
            cells.append(number_cell(number(corrected), corrected, interval(*found.intervals.get(name, NO_ENDS))))
        value: float = getattr(found, name)
        rows.append(Row([*cells, number_cell(number(value), value)]))
    header = ("Measure", "Corrected for noise", "Of this map") if found.corrected else ("Measure", "Of this map")
    return Table("Concentration of the map", header, rows, found.note, sortable=False)
