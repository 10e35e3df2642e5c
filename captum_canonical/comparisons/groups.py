"""Does a network look at two groups of photographs in different places?

The groups may be matched first: pairs of photographs that are similar in pose, confidence or other numbers.

References:
    Stuart: Matching methods for causal inference, Statistical Science 25, 2010.
    Austin: Optimal caliper widths for propensity-score matching, Pharmaceutical Statistics 10, 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from scipy.spatial import cKDTree

from captum_canonical.checks import check_number, check_several
from captum_canonical.comparisons.differences import (
    EVERYBODY_ONCE,
    RegionNumbers,
    check_comparable,
    check_names,
    compare,
    provenance_notes,
    values_about_common_shares,
)
from captum_canonical.comparisons.result import GroupComparison, Matching
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.run_folder.folder import Records
from captum_canonical.saliency.regions import RegionMasks, region_values
from captum_canonical.saliency.result import ModelSaliency, ResultLike, as_result
from captum_canonical.saliency.significance import Clusters, MaxTSettings, PermutationTest
from captum_canonical.saliency.units import Bands, Units, pixels_at_once, unit_bands, units_of
from captum_canonical.statistics.bootstrap import check_level, difference

COLUMNS = {"pose": ("yaw", "pitch"), "confidence": ("score",)}
"""Values of ``match`` that stand for columns."""


def compare_groups(
    a: ResultLike,
    b: ResultLike,
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
    """Whether a network looks at different places of the faces of two groups of people, and where.

    There are two families of tests, each with the family-wise error alpha: all pixels (or clusters), and the means and
    shares of positive mass of all regions. P values are those of Welch's t, corrected by the largest statistic (max-T)
    over random assignments of the same people to two groups of these sizes. All photographs of a person stay together
    and count once together: an audit of people is not one of the person with the most photographs. The compared maps
    are therefore those of :meth:`ModelSaliency.weighted` ``("people")``, whatever the weights of a and b. Shares are
    tested by the influence of each person on the share in the mean map of both groups, whose positive pixels are held
    fixed.

    If the smaller group has a much larger spread, groups with the same mean are found to differ too often in spite of
    Welch's t: in 8 % instead of 5 % of simulations with 15 and 45 people and three times the spread
    (``benchmarks/calibration.py``).

    A difference between groups may have other causes than the groups: with ``match``, only photographs that have a
    partner similar in pose or confidence are compared (as two samples, not as pairs, which is slightly conservative).

    Args:
        a, b: results with single maps, of one network and different people, such as two of :meth:`strata`.
        match: "pose" (yaw and pitch), "confidence" (score), other columns of numbers, or several of these.
        names: of the groups, for the verdict.
        caliper: largest difference of partners in each number, in standard deviations of both groups together.
        permutations, alpha, seed, clusters, forming, share: as in :meth:`ModelSaliency.significance`.
        level: nominal coverage of the intervals of the regions' differences; not corrected for their number.

    Raises:
        CanonicalError: a group has no single maps or fewer than two people, a person or photograph is in both groups,
            the groups are on different faces, no photographs match, or an argument is not valid.

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
    settings = MaxTSettings(permutations, alpha, seed, clusters, forming, share)
    check_level(level)
    check_names(names)
    a, b = as_result(a, "compare_groups"), as_result(b, "compare_groups")
    face = check_comparable(a, b, "compare_groups")
    _check_different_photographs(a, b)
    matching: Matching | None = None
    if match is not None:
        a, b, matching = _matched(a, b, match, caliper)
    a, b = a.weighted("people"), b.weighted("people")
    settings = settings.within(min(a.evaluated, b.evaluated))
    units = _units(a, names[0]), _units(b, names[1])
    _check_different_people(*units)
    notes = provenance_notes(a, b) + ([] if matching is None else [matching.sentence])
    notes += [each.caveat for each in units if each.caveat]
    notes += [EVERYBODY_ONCE] if any(each.imbalance for each in units) else []
    return compare(
        a,
        b,
        PermutationTest.of_groups(*units, settings),
        _bands(a, b, units),
        _region_numbers(a, b, units, face, level) if face.regions else None,
        names,
        matching=matching,
        notes=tuple(dict.fromkeys(notes)),
        level=level,
    )


def _check_different_photographs(a: ModelSaliency, b: ModelSaliency) -> None:
    shared = a.single_maps("compare_groups").count_shared(b.single_maps("compare_groups"))
    if shared or a is b:
        raise CanonicalError(
            f"compare_groups: expected different photographs, but {shared or a.n} are in both groups; compare_models "
            "compares two networks on the same ones."
        )


def _matched(
    a: ModelSaliency, b: ModelSaliency, by: str | Sequence[str], caliper: float
) -> tuple[ModelSaliency, ModelSaliency, Matching]:
    columns = (by,) if isinstance(by, str) else check_several("match", by, "'pose', 'confidence' or columns of numbers")
    *kept, matching = matched(a.records, b.records, columns, caliper)
    first, second = (
        ModelSaliency.of_photos(
            side.single_maps("compare_groups").subset(numbers), side.face("compare_groups"), side.symmetric
        )
        for side, numbers in zip((a, b), kept, strict=True)
    )
    return first, second, matching


def _units(result: ModelSaliency, name: str) -> Units:
    units = units_of(result.single_maps("compare_groups"))
    if units.count < 2:
        raise CanonicalError(
            f"compare_groups: expected at least two people in each group, got {units.description} in {name!r}; fewer "
            "do not show how much the people of a group differ."
        )
    return units


def _check_different_people(first: Units, second: Units) -> None:
    both = {name for name in first.names if name is not None} & {name for name in second.names if name is not None}
    if both:
        raise CanonicalError(
            f"compare_groups: expected different people in the two groups, but {len(both)} are in both, such as "
            f"{sorted(map(str, both))[:3]}; leave their photographs out of one, or compare by a property of people."
        )


def _bands(a: ModelSaliency, b: ModelSaliency, units: tuple[Units, Units]) -> Bands:
    """The values of the units of both groups, one group below the other."""
    size, at_once = a.face("compare_groups").size, pixels_at_once(a.n + b.n)
    sides = [
        unit_bands(side.single_maps("compare_groups"), each, size, a.symmetric, at_once)
        for side, each in zip((a, b), units, strict=True)
    ]
    for (pixels, *one), (_, *other) in zip(*sides, strict=True):
        values, covered = (torch.cat(each) for each in zip(one, other, strict=True))
        yield pixels, values, covered


def _region_numbers(
    a: ModelSaliency, b: ModelSaliency, units: tuple[Units, Units], face: CanonicalFace, level: float
) -> RegionNumbers:
    regions = RegionMasks.of(face, "compare_groups")
    tested = torch.cat(values_about_common_shares(a, b, regions, units[0].count + units[1].count))
    own = [region_values(side, regions) for side in (a, b)]
    means, shares = [side.mean_estimates(level) for side in own], [side.share_estimates(level) for side in own]
    return RegionNumbers(
        names=regions.names,
        means=(means[0].value, means[1].value),
        shares=(shares[0].value, shares[1].value),
        mean_difference=difference(means[0], means[1], level),
        share_difference=difference(shares[0], shares[1], level),
        sample=tested[:, : len(regions.names)],
        tested=tested,
    )


def matched(
    first: Records, second: Records, by: Sequence[str], caliper: float
) -> tuple[list[int], list[int], Matching]:
    """The photographs of both groups that have a partner, in the order of the groups, and how they were matched.

    The closest two photographs become a pair, then the closest of the rest, as far as the caliper allows; ties go to
    the earlier photograph. Nothing is random. A photograph with an unknown number has no partner.

    Args:
        first, second: column -> one entry for each photograph.
        by: "pose" (yaw and pitch), "confidence" (score) or other columns of numbers.
        caliper: see :class:`Matching`.

    Raises:
        CanonicalError: a column is missing or holds no numbers, or there is no pair.

    Example::

        >>> a, b = {"score": [0.1, 0.5, 0.9]}, {"score": [0.52, 0.6, 0.11]}
        >>> matched(a, b, ["score"], caliper=0.2)[:2]
        ([0, 1], [0, 2])
    """
    check_number("caliper", caliper, above=0)
    names = [column for name in ([by] if isinstance(by, str) else by) for column in COLUMNS.get(name, (name,))]
    if not names:
        raise CanonicalError("match: expected 'pose', 'confidence' or columns of numbers, or None, got no column.")
    sides = [np.stack([_numbers(records, name) for name in names], 1) for records in (first, second)]
    spread = np.nanstd(np.concatenate(sides), axis=0)
    scaled = [side / np.where(spread > 0, spread, 1.0) for side in sides]
    pairs = _nearest_pairs(scaled[0], scaled[1], float(caliper))
    if not pairs:
        raise CanonicalError(
            f"match: expected photographs of both groups that are similar in {', '.join(names)}, but no two are within "
            f"{caliper:g} standard deviations; give a larger caliper, or compare without matching."
        )
    kept = sorted(one for one, _ in pairs), sorted(other for _, other in pairs)
    left_out = len(sides[0]) - len(pairs), len(sides[1]) - len(pairs)
    before = np.nanmean(scaled[0], 0) - np.nanmean(scaled[1], 0)
    after = scaled[0][kept[0]].mean(0) - scaled[1][kept[1]].mean(0)
    differences = [dict(zip(names, each.tolist(), strict=True)) for each in (before, after)]
    return *kept, Matching(tuple(names), float(caliper), len(pairs), left_out, *differences)


def _nearest_pairs(first: np.ndarray, second: np.ndarray, caliper: float) -> list[tuple[int, int]]:
    known = [np.flatnonzero(np.isfinite(side).all(1)) for side in (first, second)]
    if not all(map(len, known)):
        return []
    one, other = first[known[0]], second[known[1]]
    near = cKDTree(other).query_ball_point(one, caliper, p=np.inf)
    candidates = sorted(
        (float(np.linalg.norm(one[left] - other[right])), left, right)
        for left, found in enumerate(near)
        for right in found
    )
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, left, right in candidates:
        if left not in taken[0] and right not in taken[1]:
            taken[0].add(left)
            taken[1].add(right)
            pairs.append((int(known[0][left]), int(known[1][right])))
    return pairs


def _numbers(records: Records, name: str) -> np.ndarray:
    column = records.get(name)
    if column is None or not any(isinstance(value, Real) for value in column):
        raise CanonicalError(
            f"match: expected numbers in the column {name!r} of both groups, got "
            f"{'none' if column is None else repr(column[:3])}; columns are {sorted(records)}."
        )
    return np.array([value if isinstance(value, Real) else np.nan for value in column], np.float64)
