"""All numbers of a page, as the methods of a result give them, and the sections that show them.

The page computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TypeVar

import numpy as np

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.result import NO_DIFFERENCE, GroupComparison
from captum_canonical.errors import CanonicalError
from captum_canonical.reporting.display import (
    NOTHING,
    Panel,
    RegionNames,
    Scale,
    counted,
    interval,
    number,
    on_page,
    panel_of,
    region_name,
    seen_values,
    signed_scale,
)
from captum_canonical.reporting.page import ComparisonView, Section, Tab
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.region_table import RegionTable, region_table
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Significance
from captum_canonical.saliency.strata import UNKNOWN
from captum_canonical.tables import Column, Table

COLUMNS = {
    "group": "Group",
    "correct": "Right or wrong",
    "true_predicted": "Label and prediction",
    "predicted": "Predicted class",
    "confidence": "Confidence",
    "pose": "Pose",
}
"""Columns that photographs are sorted by unless a user names others -> titles of their tabs."""
MOST_STRATA = 9  # of a column that the user did not name
MOST_GROUPS = 4  # for comparisons of all pairs
Strata = dict[str, ModelSaliency]
StratumColumns = str | tuple[str, ...]
"""A column that photographs are sorted by, or several that are crossed."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Findings:
    """What the methods of a result, and the functions that take one, return with their default settings.

    Attributes:
        significance: where the map differs from 0.
        regions: what :func:`region_table` returns.
        concentration: of the map.
        strata: column -> its strata.
        comparisons: column -> those of all pairs of its groups, for columns of groups that have at most
            :data:`MOST_GROUPS`.
        reasons: "map", "regions" or "groups" -> why something is not available.
    """

    significance: Significance | None
    regions: RegionTable | None
    concentration: Concentration | None
    strata: dict[str, Strata]
    comparisons: dict[str, list[GroupComparison]]
    reasons: dict[str, list[str]] = field(default_factory=dict)


def findings_of(result: ModelSaliency, columns: Sequence[StratumColumns] | None) -> Findings:
    """Collects the findings of a result.

    Args:
        result: with a map.
        columns: that photographs are sorted by. Default: those of :data:`COLUMNS`, and the run's columns of groups,
            with strata of their own. Groups of the column "group", and of columns of groups that are named here, are
            compared.

    Raises:
        CanonicalError: a column that was asked for is unknown or empty.
    """
    reasons: dict[str, list[str]] = {}

    def attempt(part: str, compute: Callable[[], T]) -> T | None:
        try:
            return compute()
        except CanonicalError as error:
            reasons.setdefault(part, []).append(str(error))
            return None

    has_single_maps = result.photos is not None  # otherwise a notice at the top of the page says so
    strata = chosen_strata(result, columns) if has_single_maps else {}
    comparisons = {}
    for name in _compared_columns(result, columns):
        groups = {each: part for each, part in strata.get(name, {}).items() if each != UNKNOWN}
        pairs = list(combinations(groups, 2)) if len(groups) <= MOST_GROUPS else []
        compared = [attempt("groups", partial(_compared, groups, pair)) for pair in pairs]
        comparisons[name] = [each for each in compared if each is not None]
    return Findings(
        attempt("map", result.significance) if has_single_maps else None,
        attempt("regions", lambda: region_table(result)),
        attempt("regions", result.concentration),
        strata,
        comparisons,
        reasons,
    )


def chosen_strata(result: ModelSaliency, columns: Sequence[StratumColumns] | None) -> dict[str, Strata]:
    """Column, or several joined by "and" -> strata. By default, columns that divide like another are left out."""
    if columns is not None:
        return {title_of(name): result.strata(name) for name in columns}
    found: dict[str, Strata] = {}
    partitions = []
    for name in (*COLUMNS, *_group_columns(result)):
        try:
            strata = result.strata(name)
        except CanonicalError:
            continue  # nothing is known about it
        partition = sorted(_places(each) for each in strata.values())
        known = [stratum for stratum in strata if stratum != UNKNOWN]
        if 2 <= len(known) <= MOST_STRATA and partition not in partitions:
            found[name] = strata
            partitions.append(partition)
    return found


def title_of(columns: StratumColumns) -> str:
    """What photographs are sorted by, in words.

    Example::

        >>> title_of("race"), title_of(("gender", "race"))
        ('race', 'gender and race')
    """
    return columns if isinstance(columns, str) else " and ".join(columns)


def _group_columns(result: ModelSaliency) -> list[str]:
    known = result.photos.records if result.photos is not None else {}
    return [] if result.run is None else [name for name in result.run.group_columns if name in known]


def _compared_columns(result: ModelSaliency, columns: Sequence[StratumColumns] | None) -> list[str]:
    """Names of the columns, or of several that are crossed, whose groups are compared."""
    ours = {"group", *_group_columns(result)}
    asked = ["group"] if columns is None else columns
    return [title_of(each) for each in asked if ours.issuperset([each] if isinstance(each, str) else each)]


def _compared(groups: Strata, pair: tuple[str, str]) -> GroupComparison:
    first, second = pair
    try:
        return compare_groups(groups[first], groups[second], names=pair)
    except CanonicalError as error:
        raise CanonicalError(f"{first} and {second}: {error}") from error


def _places(stratum: ModelSaliency) -> list[list[int]]:
    return stratum.single_maps("strata").places.tolist()


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


def group_section(findings: Findings, unit: str, regions: RegionNames | None) -> Section:
    """A tab for each column; the maps of a tab, and the differences of its groups, share one scale."""
    tabs = [
        _tab(name, strata, findings.comparisons.get(name, ()), unit, regions)
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
    return Tab(COLUMNS.get(name, name[:1].upper() + name[1:]), texts=texts, panels=panels, comparisons=views)


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
