"""All that is asked of a result, in one place: the page computes nothing of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
"""Columns that are shown if nobody says which, and what they are called."""
MOST_STRATA = 9  # of a column that nobody asked for
MOST_GROUPS = 4  # that are compared two by two
Strata = dict[str, ModelSaliency]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Findings:
    """What the methods of a result and the functions about results say, with their default settings.

    Attributes:
        significance: where the map is other than 0.
        regions: :func:`region_table`.
        concentration: of the map.
        strata: column -> its strata.
        comparisons: of all pairs of groups, if they are few.
        reasons: why something cannot be had: "map", "regions" or "groups" -> sentences.
    """

    significance: Significance | None
    regions: RegionTable | None
    concentration: Concentration | None
    strata: dict[str, Strata]
    comparisons: Sequence[GroupComparison]
    reasons: dict[str, list[str]] = field(default_factory=dict)


def findings_of(result: ModelSaliency, columns: Sequence[str] | None) -> Findings:
    """Asks the result.

    Args:
        result: with a map.
        columns: to sort photographs by. Default: those of :data:`COLUMNS` that tell photographs apart.

    Raises:
        CanonicalError: a column that was asked for is unknown or empty.
    """
    reasons: dict[str, list[str]] = {}

    def asked(part: str, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except CanonicalError as error:
            reasons.setdefault(part, []).append(str(error))
            return None

    single = result.photos is not None  # else the page says so once, at the top
    strata = chosen_strata(result, columns) if single else {}
    groups = {name: each for name, each in strata.get("group", {}).items() if name != UNKNOWN}
    pairs = list(combinations(groups, 2)) if len(groups) <= MOST_GROUPS else []
    answers = [asked("groups", lambda pair=pair: _compared(groups, pair)) for pair in pairs]  # type: ignore[misc]
    return Findings(
        asked("map", result.significance) if single else None,
        asked("regions", lambda: region_table(result)),
        asked("regions", result.concentration),
        strata,
        [each for each in answers if each is not None],
        reasons,
    )


def chosen_strata(result: ModelSaliency, columns: Sequence[str] | None) -> dict[str, Strata]:
    """Column -> its strata; of columns that nobody asked for, those that tell photographs apart in a new way."""
    if columns is not None:
        return {name: result.strata(name) for name in columns}
    found: dict[str, Strata] = {}
    partitions = []
    for name in COLUMNS:
        try:
            strata = result.strata(name)
        except CanonicalError:
            continue  # nothing is known about it
        partition = sorted(_numbers(each) for each in strata.values())
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


def _numbers(stratum: ModelSaliency) -> list[list[int]]:
    return stratum.single_maps("strata").places.tolist()
