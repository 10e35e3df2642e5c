"""Do two networks look at different places of the same photographs? Or a network and people?"""

from __future__ import annotations

from collections.abc import Hashable
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from captum_canonical.comparisons.differences import (
    EVERYBODY_ONCE,
    RegionNumbers,
    check_comparable,
    check_names,
    compare,
    provenance_notes,
    values_about_common_shares,
)
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.regions import RegionMasks, region_values
from captum_canonical.saliency.result import ModelSaliency, ResultLike, as_result
from captum_canonical.saliency.significance import Clusters, MaxTSettings, PermutationTest
from captum_canonical.saliency.single_maps import SingleMaps
from captum_canonical.saliency.units import Bands, Units, photo_bands, pixels_at_once, units_of
from captum_canonical.statistics.bootstrap import check_level, influences, ratios
from captum_canonical.statistics.labels import labels_of
from captum_canonical.statistics.units import SAME, unit_means


def compare_models(
    a: ResultLike,
    b: ResultLike | Tensor | np.ndarray,
    *,
    names: tuple[str, str] = ("a", "b"),
    normalise: bool | None = None,
    permutations: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
    clusters: Clusters = False,
    forming: float = 0.001,
    share: float = 0.5,
    level: float = 0.95,
) -> GroupComparison:
    """Whether two networks, or a network and a given map, look at different places of the same photographs.

    The two maps of a photograph are a pair. Their differences are tested by random signs for each person and corrected
    by the largest t, in the same two families as :func:`compare_groups`; as there, people count equally. Photographs
    are paired by their place if both runs are of the same data, else by their names, else (if neither side has names)
    in order; photographs that only one side has are left out and counted.

    ``b`` may be a single map on the same canonical face, such as where people look (fixations, Bubbles). It is treated
    as known exactly, and both maps are normalised, because its unit has no meaning.

    Args:
        a: result with single maps.
        b: result with single maps of another network; or a map (H, W), (1, H, W) or (1, 1, H, W), NaN where unknown.
        names: of both, for the verdict.
        normalise: divide each map by the positive mass per pixel of its mean map, so that only the places count;
            needed for networks whose scores have different units. The divisor is treated as known exactly. Default:
            only if ``b`` is a map.
        permutations, alpha, seed, clusters, forming, share, level: as in :func:`compare_groups`.

    Raises:
        CanonicalError: a side has no single maps, photographs cannot be paired, the faces differ, a map has no
            positive mass to normalise by, or an argument is not valid.

    Example::

        >>> face = CanonicalFace.default(size=32)
        >>> maps = 1 + torch.randn(20, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> other = maps + 0.1 * torch.randn(20, 1, 32, 32, generator=torch.Generator().manual_seed(1))
        >>> other[:, :, face.region_mask("chin")] -= 1
        >>> one, two = (ModelSaliency.from_maps(each, None, face) for each in (maps, other))
        >>> found = compare_models(one, two, names=("new", "old"), permutations=999)
        >>> [(region.region, round(region.mean_difference, 1)) for region in found.different_regions]
        [('chin', 1.0)]
    """
    settings = MaxTSettings(permutations, alpha, seed, clusters, forming, share)
    check_level(level)
    check_names(names)
    a, b = as_result(a, "compare_models"), as_result(b, "compare_models") if isinstance(b, (str, PathLike)) else b
    face = a.face("compare_models")
    is_map = not isinstance(b, ModelSaliency)
    if isinstance(b, ModelSaliency):
        check_comparable(a, b, "compare_models")
        notes = provenance_notes(a, b, expected=("network", "target"))
        a, b, left_out = _paired(a, b)
        notes += left_out
    else:
        a, b, notes = a.weighted("people"), _result_of_map(b, face, a.symmetric), []
    normalised = is_map if normalise is None else bool(normalise)
    scales = _scales(a, b, names) if normalised else [1.0, 1.0]
    settings = settings.within(min(a.evaluated, b.evaluated))
    units = units_of(a.single_maps("compare_models"))
    notes += [units.caveat] if units.caveat else []
    notes += [EVERYBODY_ONCE] if units.imbalance else []
    return compare(
        a,
        b,
        PermutationTest.of_signs(units, settings),
        _bands(a, b, scales, units),
        _region_numbers(a, b, scales, units, is_map, level) if face.regions else None,
        names,
        matching=None,
        notes=tuple(notes),
        level=level,
        normalised=normalised,
    )


# ------------------------------------------------------------------------------------------------ pairs of maps
def _result_of_map(values: Tensor | np.ndarray, face: CanonicalFace, symmetric: bool) -> ModelSaliency:
    """A single given map as the result of one photograph."""
    if not isinstance(values, (Tensor, np.ndarray)):
        raise CanonicalError(
            f"compare_models: expected a ModelSaliency or one map as a tensor or array, got a {type(values).__name__}."
        )
    values = torch.as_tensor(values).detach().cpu().double()
    if values.shape[-2:] != face.size or values.numel() != face.size[0] * face.size[1]:
        raise CanonicalError(
            f"compare_models: expected a ModelSaliency or one map of the canonical face's size {face.size}, got "
            f"{tuple(values.shape)}."
        )
    values = values.reshape(1, 1, *face.size)
    if not torch.isfinite(values).any():
        raise CanonicalError("compare_models: expected a map that is known somewhere, got one that is NaN everywhere.")
    return ModelSaliency.from_maps(values, torch.isfinite(values).float(), face, symmetric=symmetric)


def _paired(a: ModelSaliency, b: ModelSaliency) -> tuple[ModelSaliency, ModelSaliency, list[str]]:
    """The photographs that both results have, in the order of the first, and a note about the others."""
    first, second = a.single_maps("compare_models"), b.single_maps("compare_models")
    keys, other_keys = _pairing_keys(first, second)
    places = {key: number for number, key in enumerate(other_keys)}
    rows = [number for number, key in enumerate(keys) if key in places]
    if not rows:
        raise CanonicalError(
            "compare_models: expected two networks explained on the same photographs, but no photograph is in both; "
            "compare_groups compares different ones."
        )
    pair = first.subset(rows), second.subset([places[keys[number]] for number in rows])
    people, differ = _common_identities(*pair)
    one, other = (
        ModelSaliency.of_photos(photos.with_column("identity", people), a.face("compare_models"), a.symmetric, "people")
        for photos in pair
    )
    left_out = len(first) - len(rows), len(second) - len(rows)
    notes = [f"{left_out[0]} and {left_out[1]} photographs that only one side has are left out."] * any(left_out)
    return one, other, notes + [differ] * bool(differ)


def _common_identities(first: SingleMaps, second: SingleMaps) -> tuple[list[Hashable | None], str]:
    """Who is on the photographs that both sides hold, and a note where the sides disagree.

    They are those of the side that knows more of them, completed by the other one.
    """
    more, less = sorted(
        (labels_of(photos.records.get("identity"), len(photos), "identity") for photos in (first, second)),
        key=lambda identities: identities.count(None),
    )
    pairs = list(zip(more, less, strict=True))
    differ = sum(None not in pair and pair[0] != pair[1] for pair in pairs)
    if differ:
        note = f"{differ} photographs have different identities on both sides; those of one side alone are used."
        return more, note
    return [other if own is None else own for own, other in pairs], ""


def _pairing_keys(first: SingleMaps, second: SingleMaps) -> tuple[list[Hashable], list[Hashable]]:
    """A unique key for each photograph of both sides; equal keys make a pair."""
    if first.count_shared(second):
        return first.photo_keys(), second.photo_keys()
    names, others = first.records.get("name"), second.records.get("name")
    if names is None and others is None and first.source_sizes() == second.source_sizes():
        return [(*place,) for place in first.places.tolist()], [(*place,) for place in second.places.tolist()]
    if names is None or others is None:
        raise CanonicalError(
            f"compare_models: expected names of the photographs of both sides to pair them by (from_maps(..., "
            f"name=...)), or as many maps on both without names, got {sum(first.source_sizes())} and "
            f"{sum(second.source_sizes())}."
        )
    for side in (names, others):
        if len(set(side)) < len(side):
            raise CanonicalError("compare_models: expected a name of its own for each photograph, got duplicates.")
    return list(names), list(others)


def _scales(a: ModelSaliency, b: ModelSaliency, names: tuple[str, str]) -> list[float]:
    """One over the positive mass per pixel of each mean map, over the pixels that both cover."""
    both = (a.count > 0) & (b.count > 0)
    scales = []
    for side, name in zip((a, b), names, strict=True):
        mass = float(side.mean[both].clamp(min=0).sum())
        if not mass > 0:
            raise CanonicalError(
                f"compare_models: expected positive values in the map of {name!r} to normalise it by, where both maps "
                "are covered, got none."
            )
        scales.append(int(both.sum()) / mass)
    return scales


# -------------------------------------------------------------------------------------------- differences of pairs
def _bands(a: ModelSaliency, b: ModelSaliency, scales: list[float], units: Units) -> Bands:
    """The mean difference of the pairs of each unit."""
    size, at_once = a.face("compare_models").size, pixels_at_once(a.n + b.n)
    rounding = _rounding(a, b, scales)
    sides = [photo_bands(side.single_maps("compare_models"), size, side.symmetric, at_once) for side in (a, b)]
    for (pixels, one, seen), (_, other, known) in zip(*sides, strict=True):
        both = seen & known
        differences = one.double() * scales[0] - other.double() * scales[1]
        differences = torch.where(both & (differences.abs() > rounding), differences, 0.0)
        yield pixels, *unit_means(differences.float(), both, units.numbers)


def _region_numbers(
    a: ModelSaliency, b: ModelSaliency, scales: list[float], units: Units, is_map: bool, level: float
) -> RegionNumbers:
    regions = RegionMasks.of(a.face("compare_models"), "compare_models")
    own = [region_values(side, regions) for side in (a, b)]
    shares = [ratios(side.mass, side.total).value for side in own]
    mean = own[0].means * scales[0] - own[1].means * scales[1]
    share = influences(own[0].mass, own[0].total) + shares[0] - shares[1]
    if is_map:  # signs cannot swap the sides: they are those of the distance from a fixed number
        tested = torch.cat([mean, share], 1)
    else:
        share = share - influences(own[1].mass, own[1].total)
        one, other = values_about_common_shares(a, b, regions, 2 * units.count, scales)
        tested = one - other
    rounding = tested.new_tensor([_rounding(a, b, scales), SAME]).repeat_interleave(len(regions.names))
    ones = torch.ones(len(mean), 1, dtype=torch.float64)
    covering = own[0].covering if is_map else torch.minimum(own[0].covering, own[1].covering)
    return RegionNumbers(
        names=regions.names,
        means=(own[0].means.mean(0) * scales[0], own[1].means.mean(0) * scales[1]),
        shares=(shares[0], shares[1]),
        mean_difference=ratios(mean, ones, level, None, covering[:-1]),
        share_difference=ratios(share, ones, level, None, covering[:-1]),
        sample=mean,
        tested=torch.where(tested.abs() > rounding, tested, tested * 0),
    )


def _rounding(a: ModelSaliency, b: ModelSaliency, scales: list[float]) -> float:
    """Smaller differences count as none: rounding makes two equal maps with different scales differ by this much."""
    return SAME * max(scale * float(side.mean.abs().max()) for side, scale in zip((a, b), scales, strict=True))
