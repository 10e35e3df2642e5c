"""The table of regions, the two sides of the face, and how concentrated the map is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_canonical.comparisons.result import NO_DIFFERENCE, GroupComparison
from captum_canonical.reporting.findings import COLUMNS, Findings, Strata
from captum_canonical.reporting.page import Cell, ComparisonView, Row, Section, Tab, Table, number_cell
from captum_canonical.reporting.pictures import Panel, RegionNames, Scale, panel_of, seen_values, signed_scale
from captum_canonical.reporting.words import counted, interval, number
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.region_table import RegionTable

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


def group_section(findings: Findings, unit: str, regions: RegionNames | None) -> Section:
    """A tab for each column; maps of a tab, and differences of its groups, share one scale."""
    tabs = [
        _tab(name, strata, findings.comparisons if name == "group" else (), unit, regions)
        for name, strata in findings.strata.items()
    ]
    return Section("groups", "Groups of photographs", tabs=tabs, reasons=findings.reasons.get("groups", ()))


def verdict_in_short(comparison: GroupComparison) -> str:
    """Whether anything was detected, and in how many regions; the whole verdict stands with the maps."""
    (first, second), (one, two) = comparison.names, comparison.n
    sides = f"{first} ({counted(one, 'photograph')}) and {second} ({number(two)})"
    if not comparison.different:
        return f"Between {sides}: {NO_DIFFERENCE}."
    regions = f" in {len(comparison.different_regions)} of {len(comparison.regions)} regions"
    return f"{sides} differ{regions if comparison.different_regions else ''}."


def comparison_section(comparisons: Sequence[GroupComparison], unit: str, regions: RegionNames | None) -> Section:
    """Comparisons that a user made."""
    maps = [_values(each) for each in comparisons]
    scale = signed_scale(maps, f"difference, {unit}")
    views = [comparison_view(each, scale, regions) for each in comparisons]
    return Section("comparisons", "Comparisons", tabs=[Tab("Comparisons", comparisons=views)])


def _tab(
    name: str, strata: Strata, comparisons: Sequence[GroupComparison], unit: str, regions: RegionNames | None
) -> Tab:
    maps = {stratum: seen_values(each.mean, each.count) for stratum, each in strata.items()}
    scale = signed_scale([*maps.values(), *(_values(each) for each in comparisons)], unit)
    panels = [
        panel_of(values, scale, stratum, regions, counted(strata[stratum].n, "photograph"))
        for stratum, values in maps.items()
    ]
    views = [comparison_view(each, scale, regions) for each in comparisons]
    texts = ["All maps here, differences too, share one scale."]
    return Tab(COLUMNS.get(name, name), texts=texts, panels=panels, comparisons=views)


def comparison_view(comparison: GroupComparison, scale: Scale, regions: RegionNames | None) -> ComparisonView:
    """The difference of two maps, where it was detected, its size in standard deviations, and its regions."""
    first, second = comparison.names
    told = f"Red: more for {first}; blue: more for {second}."
    difference = _values(comparison)
    panels: list[Panel] = [panel_of(difference, scale, "Difference", regions, told)]
    mask = comparison.significance.mask.reshape(difference.shape).numpy()
    if mask.any():
        detected = np.where(np.isfinite(difference) & ~mask, 0.0, difference)
        where = f"Where p is at most {comparison.significance.alpha:g}, corrected over pixels; white elsewhere."
        panels.append(panel_of(detected, scale, "Detected differences", regions, where))
    sizes = comparison.effect_size.reshape(difference.shape).numpy()
    if np.isfinite(sizes).any():
        effect = signed_scale([sizes], "Hedges' g, standard deviations between people")
        panels.append(panel_of(sizes, effect, "Effect size", regions, told))
    return ComparisonView(
        f"{first} and {second}", comparison.verdict, panels, _regions_group_section(comparison), comparison.notes
    )


def _values(comparison: GroupComparison) -> np.ndarray:
    height, width = comparison.difference.shape[-2:]
    return comparison.difference.reshape(height, width).double().numpy()


def _regions_group_section(comparison: GroupComparison) -> Table | None:
    first, second = comparison.names
    rows = [
        Row(
            [
                Cell(region_name(row.region)),
                number_cell(number(row.mean_difference), row.mean_difference, interval(*row.mean_interval)),
                number_cell(number(row.mean_p), row.mean_p),
                number_cell(number(row.effect_size), row.effect_size),
                number_cell(
                    number(100 * row.share_difference),
                    row.share_difference,
                    interval(*(100 * end for end in row.share_interval)),
                ),
                number_cell(number(row.share_p), row.share_p),
            ]
        )
        for row in sorted(comparison.regions, key=lambda row: (row.p_value != row.p_value, row.p_value))
    ]
    header = ("Region", "Difference of means", "p", "Hedges' g", "Difference of shares, %", "p of shares")
    note = f"{first} minus {second}; p values are corrected over all regions and both measures, intervals are not."
    return Table(f"Regions: {first} and {second}", header, rows, note) if rows else None
