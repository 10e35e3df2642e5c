"""All numbers of a page, as the methods of a result give them: the page computes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TypeVar

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.errors import CanonicalError
from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.region_table import RegionTable, region_table
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Significance
from captum_canonical.saliency.strata import UNKNOWN

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
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Findings:
    """What the methods of a result, and the functions that take one, return with their default settings.

    Attributes:
        significance: where the map differs from 0.
        regions: what :func:`region_table` returns.
        concentration: of the map.
        strata: column -> its strata.
        comparisons: of all pairs of groups, if there are at most :data:`MOST_GROUPS`.
        reasons: "map", "regions" or "groups" -> why something is not available.
    """

    significance: Significance | None
    regions: RegionTable | None
    concentration: Concentration | None
    strata: dict[str, Strata]
    comparisons: Sequence[GroupComparison]
    reasons: dict[str, list[str]] = field(default_factory=dict)


def findings_of(result: ModelSaliency, columns: Sequence[str] | None) -> Findings:
    """Collects the findings of a result.

    Args:
        result: with a map.
        columns: that photographs are sorted by. Default: those of :data:`COLUMNS` with strata of their own.

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
    groups = {name: each for name, each in strata.get("group", {}).items() if name != UNKNOWN}
    pairs = list(combinations(groups, 2)) if len(groups) <= MOST_GROUPS else []
    compared = [attempt("groups", partial(_compared, groups, pair)) for pair in pairs]
    return Findings(
        attempt("map", result.significance) if has_single_maps else None,
        attempt("regions", lambda: region_table(result)),
        attempt("regions", result.concentration),
        strata,
        [each for each in compared if each is not None],
        reasons,
    )


def chosen_strata(result: ModelSaliency, columns: Sequence[str] | None) -> dict[str, Strata]:
    """Column -> its strata. By default, columns that divide the photographs like another column are left out."""
    if columns is not None:
        return {name: result.strata(name) for name in columns}
    found: dict[str, Strata] = {}
    partitions = []
    for name in COLUMNS:
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


def _compared(groups: Strata, pair: tuple[str, str]) -> GroupComparison:
    first, second = pair
    try:
        return compare_groups(groups[first], groups[second], names=pair)
    except CanonicalError as error:
        raise CanonicalError(f"{first} and {second}: {error}") from error


def _places(stratum: ModelSaliency) -> list[list[int]]:
    return stratum.single_maps("strata").places.tolist()
