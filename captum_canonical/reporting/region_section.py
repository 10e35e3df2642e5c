"""The table of regions, the two sides of the face, and how concentrated the map is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from captum_canonical.comparisons.result import NO_DIFFERENCE, GroupComparison
from captum_canonical.reporting.findings import COLUMNS, Findings, Strata
from captum_canonical.reporting.page import ComparisonView, Section, Tab
from captum_canonical.reporting.pictures import Panel, RegionNames, Scale, panel_of, seen_values, signed_scale
from captum_canonical.reporting.words import NOTHING, counted, interval, number
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.region_table import RegionTable
from captum_canonical.tables import Column, Table

MEASURES = {
    "entropy": "Entropy, nats",
    "effective_area": "Effective area, share of the face",
    "gini": "Gini coefficient",
}
NO_ENDS = (float("nan"), float("nan"))


def region_section(findings: Findings, unit: str) -> Section:
    """How much lies where."""
    table, concentration = findings.regions, findings.concentration
    headings = {"mean": f"Mean, {unit}", "index": "(left \u2212 right) / (left + right)"}
    tables = [] if table is None else [on_page(each, **headings) for each in table.tables()]
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


def on_page(table: Table, **headings: str) -> Table:
    """A result's own table with names in words, three significant digits, and headings that a page adds to."""
    columns = [
        replace(
            column,
            heading=headings.get(column.name, column.heading),
            format=region_name if column.name == "region" else column.format,
        )
        for column in table.columns
    ]
    return replace(table, columns=columns).with_numbers(number, NOTHING)


def _concentration(found: Concentration) -> Table[str]:
    """Intervals stand beside what they are about, the corrected values; those of the map itself come last."""
    columns: list[Column[str]] = [
        Column("measure", "Measure", MEASURES.__getitem__),
        Column(
            "corrected",
            "Corrected for noise",
            lambda name: found.corrected.get(name),
            lambda name: found.intervals.get(name, NO_ENDS),
            number,
            missing=NOTHING,
        ),
        Column("value", "Of this map", lambda name: getattr(found, name), format=number, missing=NOTHING),
    ]
    shown = columns if found.corrected else [columns[0], columns[2]]
    return Table(shown, list(MEASURES), "Concentration of the map", found.note, sortable=False)


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
    table = on_page(comparison.region_differences()) if comparison.regions else None
    return ComparisonView(f"{first} and {second}", comparison.verdict, panels, table, comparison.notes)


def _values(comparison: GroupComparison) -> np.ndarray:
    height, width = comparison.difference.shape[-2:]
    return comparison.difference.reshape(height, width).double().numpy()
