"""Whether a network looks at two groups of photographs in different places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from captum_canonical.comparisons.matching import Matching, matched
from captum_canonical.comparisons.result import GroupComparison, RegionDifference
from captum_canonical.comparisons.sides import (
    Bands,
    Moments,
    Regions,
    check_sides,
    correlation,
    effect_size,
    p_values_of_numbers,
    rows_of,
    settings_note,
)
from captum_canonical.errors import CanonicalError
from captum_canonical.saliency.concentration import Units, pixels_at_once, unit_bands, units_of
from captum_canonical.saliency.regions import own_region_values, region_masks, regions_version
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Clusters, GroupSignificance, Settings, significance_of
from captum_canonical.statistics.bootstrap import Estimate, check_level, difference, ratios
from captum_canonical.statistics.max_t import TwoSamples
from captum_canonical.statistics.permutation import Patterns, group_patterns


class Group(NamedTuple):
    """One side, and its people."""

    result: ModelSaliency
    units: Units


def compare_groups(
    a: ModelSaliency,
    b: ModelSaliency,
    match: str | Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("a", "b"),
    caliper: float = 0.2,
    permutations: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
    clusters: Clusters = False,
    forming: float = 0.001,
    share: float = 0.5,
    level: float = 0.95,
) -> GroupComparison:
    """Whether two groups of people differ in what is looked at, and where on the face.

    Two families of tests, each with the family-wise error alpha: all pixels (or clusters), and all regions with their
    means and shares of positive mass together. P values are those of Welch's t, corrected by the largest of all
    (max-T) over random ways to deal the same people out to the two groups. All photographs of a person stay together
    and, in the test of pixels, count once together. Shares are tested by the influence of each person on the share in
    the mean map of both groups, whose positive pixels are held fixed.

    Where the smaller group is much more spread out, groups with the same mean are said to differ too often in spite of
    Welch's t: in 9 % instead of 5 % of simulations with 15 and 45 people and three times the spread
    (``benchmarks/calibration.py``).

    A difference between groups need not come from the groups: with ``match``, only photographs that have a partner
    alike in pose or confidence are compared (as two samples, not as pairs, which is a little cautious).

    Args:
        a, b: results with single maps, of one network and different people, such as two of :meth:`strata`.
        match: "pose" (yaw and pitch), "confidence" (score), other columns of numbers, or several of these.
        names: of the groups, for the verdict.
        caliper: by how much partners may differ in each number, in standard deviations of both groups together.
        permutations, alpha, seed, clusters, forming, share: as in :meth:`ModelSaliency.significance`.
        level: coverage that intervals of the regions' differences aim at; they are not corrected for their number.

    Raises:
        CanonicalError: a side has no single maps or fewer than two people, the same person or photograph is on both
            sides, they are on different faces, nothing matches, or an argument does not fit.

    Example::

        >>> from captum_canonical.faces.canonical_face import CanonicalFace
        >>> face = CanonicalFace.default(size=32)
        >>> maps = 1 + torch.randn(40, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> maps[:20, :, face.region_mask("chin")] += 2
        >>> sides = ModelSaliency.from_maps(maps, None, face, group=["men"] * 20 + ["women"] * 20).strata("group")
        >>> found = compare_groups(sides["men"], sides["women"], names=("men", "women"), permutations=999)
        >>> [(region.region, region.mean_p) for region in found.different_regions]
        [('chin', 0.001)]
    """
    settings = Settings(permutations, alpha, seed, clusters, forming, share)
    check_level(level)
    face = check_sides(a, b, "compare_groups")
    sides = [side.single_maps("compare_groups") for side in (a, b)]
    shared = sides[0].shared(sides[1])
    if shared or a is b:
        raise CanonicalError(
            f"compare_groups: expected different photographs, but {shared or a.n} are in both groups; compare_models "
            "compares two networks on the same ones."
        )
    told: Matching | None = None
    if match is not None:
        kept_a, kept_b, told = matched(a.records, b.records, [match] if isinstance(match, str) else match, caliper)
        a = ModelSaliency.of_photos(sides[0].subset(kept_a), face, a.symmetric)
        b = ModelSaliency.of_photos(sides[1].subset(kept_b), face, b.symmetric)
    first, second = _group(a, names[0]), _group(b, names[1])
    _check_people(first.units, second.units)
    patterns = group_patterns(first.units.count, second.units.count, permutations, seed)
    moments = Moments(first.units.count, share)
    words = f"{first.units.word} and {second.units.word}"
    significance = significance_of(
        moments.of(_bands(first, second)),
        face.size,
        patterns,
        TwoSamples,
        settings,
        words,
        f"difference between {names[0]} and {names[1]}",
        GroupSignificance,
    )
    maps = moments.maps(face.size)
    return GroupComparison(
        names=names,
        n=(a.n, b.n),
        difference=maps[0],
        effect_size=maps[1],
        significance=significance,
        regions=_regions(first, second, patterns, settings, level) if face.regions else (),
        correlation=correlation(a, b.mean.reshape(-1), b.count.reshape(-1) > 0),
        matching=told,
        notes=_notes(first, second, told),
        canonical_face=face,
        regions_version=regions_version(face) if face.regions else None,
        level=level,
    )


def _group(result: ModelSaliency, name: str) -> Group:
    units = units_of(result.single_maps("compare_groups"))
    if units.count < 2:
        raise CanonicalError(
            f"compare_groups: expected at least two people in each group, got {units.word} in {name!r}; how much "
            "people of one group differ cannot be told from fewer."
        )
    return Group(result, units)


def _check_people(first: Units, second: Units) -> None:
    both = {name for name in first.names if name is not None} & {name for name in second.names if name is not None}
    if both:
        raise CanonicalError(
            f"compare_groups: expected different people in the two groups, but {len(both)} are in both, such as "
            f"{sorted(map(str, both))[:3]}; leave their photographs out of one, or compare by a property of people."
        )


def _bands(first: Group, second: Group) -> Bands:
    size, symmetric = first.result.face("compare_groups").size, first.result.symmetric
    pixels = pixels_at_once(first.result.n + second.result.n)
    pair = [
        unit_bands(side.result.single_maps("compare_groups"), side.units, size, symmetric, pixels)
        for side in (first, second)
    ]
    for (pixels, *one), (_, *other) in zip(*pair, strict=True):
        values, covered = (torch.cat(each) for each in zip(one, other, strict=True))
        yield pixels, values, covered


def _regions(
    first: Group, second: Group, patterns: Patterns, settings: Settings, level: float
) -> tuple[RegionDifference, ...]:
    a, b = first.result, second.result
    both = Regions(a, b, first.units.count + second.units.count)
    numbers = torch.cat(both.sides)
    p_values = p_values_of_numbers(numbers, patterns, TwoSamples, settings)
    regions = len(both.names)
    _, effects = effect_size(numbers[:, :regions], ~numbers[:, :regions].isnan(), first.units.count)
    own = [_own(side, level) for side in (first, second)]
    freedom = first.units.count - 1, second.units.count - 1
    of_mean, of_share = (difference(one, other, freedom, level) for one, other in zip(*own, strict=True))
    means, shares = zip(*[(mean.value, share.value) for mean, share in own], strict=True)
    return rows_of(both.names, means, shares, of_mean, of_share, effects, p_values)


def _own(side: Group, level: float) -> tuple[Estimate, Estimate]:
    """Means and shares of one group's own mean map."""
    values = own_region_values(side.result, *region_masks(side.result.face("compare_groups"), "compare_groups"))
    return ratios(values.means, torch.ones_like(values.total), level), ratios(values.mass, values.total, level)


def _notes(first: Group, second: Group, told: Matching | None) -> tuple[str, ...]:
    notes = settings_note(first.result, second.result) + ([] if told is None else [told.sentence])
    notes += [side.units.caution for side in (first, second) if side.units.caution]
    return tuple(dict.fromkeys(notes))
