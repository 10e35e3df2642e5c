"""Differences between two model-level maps, per pixel and per region, with effect sizes and corrected p values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_canonical.comparisons.result import GroupComparison, RegionDifference
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.mean_map import check_same_face
from captum_canonical.saliency.regions import RegionMasks, RegionValues, region_values, regions_version
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import PermutationTest
from captum_canonical.saliency.single_maps import differing_settings, format_differences
from captum_canonical.saliency.units import Bands
from captum_canonical.statistics.bootstrap import Estimate

EVERYBODY_ONCE = "Every person counts once here, also those who are on many of the photographs."


class RegionNumbers(NamedTuple):
    """What is known about R regions of two maps.

    Attributes:
        names: of the regions.
        means: (R,) each, the mean of each region in the first and the second map.
        shares: (R,) each, the share of the positive mass.
        mean_difference: first minus second.
        share_difference: first minus second.
        sample: (U, R) the mean of each region in the map of each unit, whose spread scales the effect size.
        tested: (U, 2 R) numbers of each unit that are tested: those of the means, then those of the shares.
    """

    names: list[str]
    means: tuple[Tensor, Tensor]
    shares: tuple[Tensor, Tensor]
    mean_difference: Estimate
    share_difference: Estimate
    sample: Tensor
    tested: Tensor


def compare(
    a: ModelSaliency,
    b: ModelSaliency,
    test: PermutationTest,
    bands: Bands,
    regions: RegionNumbers | None,
    names: tuple[str, str],
    **rest: Any,
) -> GroupComparison:
    """Tests all pixels and all regions.

    Args:
        a, b: the two results.
        test: of their groups of units, or of the signs of differences of pairs.
        bands: (U, P) values of all units, of the first group and then the second, or the differences of pairs.
        regions: None if the face has no regions.
        names: of the two results.
        **rest: further attributes of the comparison.
    """
    face = a.face("a comparison")
    differences, effects = [], []

    def recorded() -> Bands:
        for pixels, values, covered in bands:
            difference, effect = effect_size(values, covered, test.first, test.settings.share)
            differences.append(difference)
            effects.append(effect)
            yield pixels, values, covered

    significance = test.of_pixels(recorded(), face, f"difference between {names[0]} and {names[1]}")
    return GroupComparison(
        names=names,
        n=(a.n, b.n),
        difference=torch.cat(differences).reshape(1, *face.size),
        effect_size=torch.cat(effects).reshape(1, *face.size),
        significance=significance,
        regions=() if regions is None else _compare_regions(regions, test),
        correlation=correlation(a, b),
        canonical_face=face,
        regions_version=None if regions is None else regions_version(face),
        **rest,
    )


def _compare_regions(regions: RegionNumbers, test: PermutationTest) -> tuple[RegionDifference, ...]:
    """P values are corrected over the means and shares of all regions."""
    _, effects = effect_size(regions.sample, ~regions.sample.isnan(), test.first)
    p_values = test.of_numbers(regions.tested)
    of_mean, of_share = regions.mean_difference, regions.share_difference
    return tuple(
        RegionDifference(
            region=name,
            mean=(float(regions.means[0][row]), float(regions.means[1][row])),
            mean_difference=float(of_mean.value[row]),
            mean_interval=(float(of_mean.low[row]), float(of_mean.high[row])),
            effect_size=float(effects[row]),
            mean_p=p_values[row],
            share=(float(regions.shares[0][row]), float(regions.shares[1][row])),
            share_difference=float(of_share.value[row]),
            share_interval=(float(of_share.low[row]), float(of_share.high[row])),
            share_p=p_values[len(regions.names) + row],
        )
        for row, name in enumerate(regions.names)
    )


def effect_size(values: Tensor, covered: Tensor, first: int | None, share: float = 0.0) -> tuple[Tensor, Tensor]:
    """(P,) difference of the means and Hedges' g, NaN where they are not defined.

    Args:
        values, covered: (U, P) of one group, whose mean is the difference, or of the first group and then the second.
        first: number of units in the first group, or None.
        share: of each group that must cover a pixel for g.

    Example::

        >>> values = torch.tensor([[3.0], [5.0], [1.0], [3.0]])
        >>> effect_size(values, torch.ones(4, 1, dtype=torch.bool), first=2)  # 2 / sqrt(2) x (1 - 3 / (4 x 2 - 1))
        (tensor([2.], dtype=torch.float64), tensor([0.8081], dtype=torch.float64))
    """
    groups = (
        [(values, covered)] if first is None else [(values[:first], covered[:first]), (values[first:], covered[first:])]
    )
    means, squares, freedom, enough = [], [], [], []
    for part, seen in groups:
        count = seen.sum(0).double()
        mean = torch.where(count > 0, part.double().sum(0) / count, torch.nan)
        means.append(mean)
        squares.append((torch.where(seen, part - mean, 0.0).square()).sum(0))
        freedom.append(count - 1)
        enough.append((count >= 2) & (count >= share * len(part)))
    degrees = torch.stack(freedom).sum(0)
    difference = means[0] if first is None else means[0] - means[1]
    deviation = (torch.stack(squares).sum(0) / degrees).sqrt()
    effect = difference / deviation * (1 - 3 / (4 * degrees - 1))
    defined = torch.stack(enough).all(0) & (deviation > 0)
    return difference, torch.where(defined, effect, torch.nan)


def values_about_common_shares(
    a: ModelSaliency, b: ModelSaliency, regions: RegionMasks, units: int, scales: Sequence[float] = (1.0, 1.0)
) -> list[Tensor]:
    """For both results (U, 2 R): the mean of each region, and the deviation of its share from that in both together.

    The positive pixels are those of the mean map of both results together. The numbers of a person therefore do not
    depend on which side the person is on, as a permutation test requires.

    Args:
        a, b: with single maps.
        regions: of their face.
        units: number of people on both sides.
        scales: factors of the maps of each side.
    """
    counts = [side.count.reshape(-1).double() for side in (a, b)]
    total_count = counts[0] + counts[1]
    means = [side.mean.reshape(-1) * scale for side, scale in zip((a, b), scales, strict=True)]
    mean = (counts[0] * means[0] + counts[1] * means[1]) / total_count.clamp(min=1)
    sides = [
        region_values(side, regions, mean / scale, total_count / units).scaled(scale)
        for side, scale in zip((a, b), scales, strict=True)
    ]
    total = torch.cat([side.total for side in sides]).mean(0)
    mass = torch.cat([side.mass for side in sides]).mean(0)
    share = torch.where(total > 0, mass / total, torch.nan)

    def numbers(side: RegionValues) -> Tensor:
        return torch.cat([side.means, (side.mass - share * side.total) / total], 1)

    return [numbers(side) for side in sides]


def correlation(a: ModelSaliency, b: ModelSaliency) -> float:
    """Of two mean maps over the pixels that both cover; NaN if one of them is constant there."""
    both = ((a.count > 0) & (b.count > 0)).reshape(-1)
    pair = torch.stack([side.mean.reshape(-1)[both] for side in (a, b)])
    if both.sum() < 2 or bool((pair == pair[:, :1]).all(1).any()):
        return float("nan")
    return float(torch.corrcoef(pair)[0, 1])


def check_comparable(a: ModelSaliency, b: ModelSaliency, who: str) -> CanonicalFace:
    """The face of both.

    Raises:
        CanonicalError: they are on different faces, or only one is pooled.
    """
    face, _ = (side.face(who) for side in (a, b))
    check_same_face(a, b, who)
    return face


def check_names(names: object) -> None:
    """Raises CanonicalError unless the names of the two sides are two different texts."""
    texts = tuple(names) if isinstance(names, (tuple, list)) else ()
    if len(texts) != 2 or not all(isinstance(name, str) and name for name in texts) or texts[0] == texts[1]:
        raise CanonicalError(f"names: expected two different texts, such as ('men', 'women'), got {names!r}.")


def provenance_notes(a: ModelSaliency, b: ModelSaliency, expected: Sequence[str] = ()) -> list[str]:
    """A sentence if the maps of both results were made with different settings, other than the expected ones."""
    different = differing_settings(a.photos, b.photos)
    different = {name: pair for name, pair in different.items() if name not in expected}
    if not different:
        return []
    settings = format_differences(different)
    return [f"The maps of the two sides were made with different settings: {settings}. Differences may come from that."]
