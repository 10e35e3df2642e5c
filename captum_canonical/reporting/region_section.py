"""Regions of the face, its two sides, and how concentrated the map is."""

from __future__ import annotations

from captum_canonical.reporting.findings import Findings
from captum_canonical.reporting.page import Section
from captum_canonical.reporting.words import NOTHING, interval, number, on_page, region_name
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.region_table import RegionTable
from captum_canonical.tables import Column, Table

CONCENTRATION = {
    "entropy": "Entropy, nats",
    "effective_area": "Effective area, share of the face",
    "gini": "Gini coefficient",
}
NO_INTERVAL = (float("nan"), float("nan"))


def region_section(findings: Findings, unit: str) -> Section:
    """How much of the map lies in which region, left and right, and the concentration of the map."""
    tables: list[Table] = []
    if findings.regions is not None:
        headings = {"mean": f"Mean, {unit}", "index": "(left \u2212 right) / (left + right)"}
        tables += [on_page(each, **headings) for each in findings.regions.tables()]
    if findings.concentration is not None:
        tables.append(_concentration_table(findings.concentration))
    texts = () if findings.regions is None else findings.regions.notes
    reasons = findings.reasons.get("regions", ())
    return Section("regions", "Regions of the face", texts=texts, tables=tables, reasons=reasons)


def leading_regions(table: RegionTable, count: int = 3) -> str:
    """A sentence about the regions with the most mass for their area; empty if nothing is positive."""
    rows = [row for row in table.sorted() if row.density == row.density][:count]
    names = [f"{region_name(row.region)} ({_density(row.density, row.density_interval)})" for row in rows]
    return f"Most positive mass for their size: {', '.join(names)}." if names else ""


def _density(density: float, ends: tuple[float, float]) -> str:
    return ", ".join(each for each in (f"{number(density)} times its area's share", interval(*ends)) if each)


def _concentration_table(found: Concentration) -> Table[str]:
    # The intervals are those of the corrected values, so they stand beside these.
    corrected: Column[str] = Column(
        "corrected",
        "Corrected for noise",
        lambda name: found.corrected.get(name),
        lambda name: found.intervals.get(name, NO_INTERVAL),
        number,
        missing=NOTHING,
    )
    columns: list[Column[str]] = [
        Column("measure", "Measure", CONCENTRATION.__getitem__),
        *([corrected] if found.corrected else []),
        Column("value", "Of this map", lambda name: getattr(found, name), format=number, missing=NOTHING),
    ]
    return Table(columns, list(CONCENTRATION), "Concentration of the map", found.note, sortable=False)
