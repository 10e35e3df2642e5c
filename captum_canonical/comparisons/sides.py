"""What both kinds of comparison need of their two sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from captum_canonical.comparisons.result import RegionDifference
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.compatible import check_same_faces, differing_settings, in_words
from captum_canonical.saliency.regions import RegionValues, region_masks, region_values
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Settings
from captum_canonical.statistics.bootstrap import Estimate
from captum_canonical.statistics.max_t import MaxT, Statistic, max_t
from captum_canonical.statistics.permutation import Patterns

Bands = Iterator[tuple[slice, Tensor, Tensor]]


def check_sides(a: ModelSaliency, b: ModelSaliency, who: str) -> CanonicalFace:
    """The face of both.

    Raises:
        CanonicalError: a side is no result, they are on different faces, or only one is pooled.
    """
    for side in (a, b):
        if not isinstance(side, ModelSaliency):
            raise CanonicalError(f"{who}: expected two ModelSaliency, got a {type(side).__name__}.")
    faces = [side.face(who) for side in (a, b)]
    check_same_faces(a, b, who)
    return faces[0]


def settings_note(a: ModelSaliency, b: ModelSaliency, expected: Sequence[str] = ()) -> list[str]:
    """What to say where the maps of both sides were not made alike.

    Args:
        a, b: the sides.
        expected: settings that differ anyway.
    """
    different = {name: pair for name, pair in differing_settings(a, b).items() if name not in expected}
    told = f"The maps of the two sides were not made alike: {in_words(different)}. A difference may come from that."
    return [told] if different else []


def correlation(first: ModelSaliency, mean: Tensor, covered: Tensor) -> float:
    """Of a mean map with another (H * W), over the pixels that both cover; NaN if one is constant there."""
    both = (first.count.reshape(-1) > 0) & covered
    pair = torch.stack([first.mean.reshape(-1)[both], mean[both]])
    if both.sum() < 2 or bool((pair == pair[:, :1]).all(1).any()):
        return float("nan")
    return float(torch.corrcoef(pair)[0, 1])


class Moments:
    """Means and spread of the pixels of one or two groups of units, taken from bands that pass by.

    Args:
        first: number of units of the first group; None for one group.
        share: of each group that must cover a pixel for an effect size.
    """

    def __init__(self, first: int | None, share: float) -> None:
        self._first, self._share = first, share
        self._difference: list[Tensor] = []
        self._effect: list[Tensor] = []

    def of(self, bands: Bands) -> Iterable[tuple[slice, Tensor, Tensor]]:
        """The same bands."""
        for pixels, values, covered in bands:
            difference, effect = effect_size(values, covered, self._first, self._share)
            self._difference.append(difference)
            self._effect.append(effect)
            yield pixels, values, covered

    def maps(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(1, H, W) difference and Hedges' g."""
        return tuple(torch.cat(each).reshape(1, *size) for each in (self._difference, self._effect))  # type: ignore[return-value]


def effect_size(values: Tensor, covered: Tensor, first: int | None, share: float = 0.0) -> tuple[Tensor, Tensor]:
    """(P,) difference of the means and Hedges' g, NaN where they are not defined.

    Args:
        values, covered: (U, P) of one group, whose mean is the difference, or of the first group and then the second.
        first: number of units of the first group, or None.
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
    good = torch.stack(enough).all(0) & (deviation > 0)
    return difference, torch.where(good, effect, torch.nan)


class Regions:
    """Both sides by region, with the pixels that count as positive fixed by both maps together.

    So that which side a person is on changes nothing of the person's own numbers, as a test of permutations needs.

    Args:
        a, b: with single maps.
        units: how many people there are on both sides.
        scales: what the maps of each side are multiplied by.
    """

    def __init__(self, a: ModelSaliency, b: ModelSaliency, units: int, scales: Sequence[float] = (1.0, 1.0)) -> None:
        self.names, masks = region_masks(a.face("regions"), "regions")
        counts = [side.count.reshape(-1).double() for side in (a, b)]
        total_count = counts[0] + counts[1]
        means = [side.mean.reshape(-1) * scale for side, scale in zip((a, b), scales, strict=True)]
        mean = (counts[0] * means[0] + counts[1] * means[1]) / total_count.clamp(min=1)
        sides = [
            region_values(side, self.names, masks, mean > 0, mean / scale, total_count / units).scaled(scale)
            for side, scale in zip((a, b), scales, strict=True)
        ]
        total = torch.cat([side.total for side in sides]).mean(0)
        mass = torch.cat([side.mass for side in sides]).mean(0)
        share = torch.where(total > 0, mass / total, torch.nan)
        self.sides = [self._numbers(side, share, total) for side in sides]

    def _numbers(self, side: RegionValues, share: Tensor, total: Tensor) -> Tensor:
        """(U, 2 R): the mean of each region, then by how much the share of each is other than that of both together."""
        return torch.cat([side.means, (side.mass - share * side.total) / total], 1)


def p_values_of_numbers(
    numbers: Tensor, patterns: Patterns, statistic: type[Statistic], settings: Settings
) -> list[float]:
    """Corrected p values of (U, K) numbers of units; NaN where they are not known."""
    known = ~numbers.isnan().any(0)
    filled = torch.where(known, numbers, 0.0)
    found: MaxT = max_t(
        [(filled[:, known], torch.ones_like(filled[:, known], dtype=torch.bool))], patterns, statistic, 0
    )
    p_values = torch.full((numbers.shape[1],), torch.nan, dtype=torch.float64)
    p_values[known] = found.p_values
    return p_values.tolist()


def rows_of(
    names: list[str],
    means: tuple[Tensor, Tensor],
    shares: tuple[Tensor, Tensor],
    of_mean: Estimate,
    of_share: Estimate,
    effects: Tensor,
    p_values: list[float],
) -> tuple[RegionDifference, ...]:
    """A row for each region; p values of all means come before those of all shares."""
    return tuple(
        RegionDifference(
            region=name,
            mean=(float(means[0][row]), float(means[1][row])),
            mean_difference=float(of_mean.value[row]),
            mean_interval=(float(of_mean.low[row]), float(of_mean.high[row])),
            effect_size=float(effects[row]),
            mean_p=p_values[row],
            share=(float(shares[0][row]), float(shares[1][row])),
            share_difference=float(of_share.value[row]),
            share_interval=(float(of_share.low[row]), float(of_share.high[row])),
            share_p=p_values[len(names) + row],
        )
        for row, name in enumerate(names)
    )
