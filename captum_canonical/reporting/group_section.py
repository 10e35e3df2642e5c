"""Maps of groups of photographs, and comparisons of groups or of networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_canonical.comparisons.result import NO_DIFFERENCE, GroupComparison
from captum_canonical.reporting.findings import COLUMNS, Findings, Strata
from captum_canonical.reporting.page import ComparisonView, Section, Tab
from captum_canonical.reporting.pictures import Panel, RegionNames, Scale, panel_of, seen_values, signed_scale
from captum_canonical.reporting.words import counted, number, on_page


def group_section(findings: Findings, unit: str, regions: RegionNames | None) -> Section:
    """A tab for each column; the maps of a tab, and the differences of its groups, share one scale."""
    tabs = [
        _tab(name, strata, findings.comparisons if name == "group" else (), unit, regions)
        for name, strata in findings.strata.items()
    ]
    return Section("groups", "Groups of photographs", tabs=tabs, reasons=findings.reasons.get("groups", ()))


def comparison_section(comparisons: Sequence[GroupComparison], unit: str, regions: RegionNames | None) -> Section:
    """Comparisons that a user made."""
    scale = signed_scale([_difference(each) for each in comparisons], f"difference, {unit}")
    views = [_view(each, scale, regions) for each in comparisons]
    return Section("comparisons", "Comparisons", tabs=[Tab("Comparisons", comparisons=views)])


def short_verdict(comparison: GroupComparison) -> str:
    """Whether a difference was detected, and in how many regions; the whole verdict stands beside the maps."""
    (first, second), (one, two) = comparison.names, comparison.n
    sides = f"{first} ({counted(one, 'photograph')}) and {second} ({number(two)})"
    if not comparison.different:
        return f"Between {sides}: {NO_DIFFERENCE}."
    regions = f" in {len(comparison.different_regions)} of {len(comparison.regions)} regions"
    return f"{sides} differ{regions if comparison.different_regions else ''}."


def _tab(
    name: str, strata: Strata, comparisons: Sequence[GroupComparison], unit: str, regions: RegionNames | None
) -> Tab:
    maps = {stratum: seen_values(each.mean, each.count) for stratum, each in strata.items()}
    scale = signed_scale([*maps.values(), *map(_difference, comparisons)], unit)
    panels = [
        panel_of(values, scale, stratum, regions, counted(strata[stratum].n, "photograph"))
        for stratum, values in maps.items()
    ]
    views = [_view(each, scale, regions) for each in comparisons]
    texts = ["All maps here, differences too, share one scale."]
    return Tab(COLUMNS.get(name, name), texts=texts, panels=panels, comparisons=views)


def _view(comparison: GroupComparison, scale: Scale, regions: RegionNames | None) -> ComparisonView:
    first, second = comparison.names
    colours = f"Red: more for {first}; blue: more for {second}."
    difference = _difference(comparison)
    panels: list[Panel] = [panel_of(difference, scale, "Difference", regions, colours)]
    mask = comparison.significance.mask.reshape(difference.shape).numpy()
    if mask.any():
        detected = np.where(np.isfinite(difference) & ~mask, 0.0, difference)
        where = f"Where p is at most {comparison.significance.alpha:g}, corrected over pixels; white elsewhere."
        panels.append(panel_of(detected, scale, "Detected differences", regions, where))
    sizes = comparison.effect_size.reshape(difference.shape).numpy()
    if np.isfinite(sizes).any():
        effect = signed_scale([sizes], "Hedges' g, standard deviations between people")
        panels.append(panel_of(sizes, effect, "Effect size", regions, colours))
    table = on_page(comparison.region_differences()) if comparison.regions else None
    return ComparisonView(f"{first} and {second}", comparison.verdict, panels, table, comparison.notes)


def _difference(comparison: GroupComparison) -> np.ndarray:
    height, width = comparison.difference.shape[-2:]
    return comparison.difference.reshape(height, width).double().numpy()
