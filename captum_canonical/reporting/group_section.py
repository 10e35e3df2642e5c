"""Strata of photographs on one scale, and whether groups differ, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_canonical.comparisons import NO_DIFFERENCE, GroupComparison
from captum_canonical.reporting.findings import COLUMNS, Findings, Strata
from captum_canonical.reporting.page import Cell, ComparisonView, Row, Section, Tab, Table, number_cell
from captum_canonical.reporting.pictures import Panel, RegionNames, Scale, panel_of, seen_values, signed_scale
from captum_canonical.reporting.region_section import region_name
from captum_canonical.reporting.words import counted, interval, number


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
    return ComparisonView(f"{first} and {second}", comparison.verdict, panels, _regions(comparison), comparison.notes)


def _values(comparison: GroupComparison) -> np.ndarray:
    height, width = comparison.difference.shape[-2:]
    return comparison.difference.reshape(height, width).double().numpy()


def _regions(comparison: GroupComparison) -> Table | None:
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
