"""Whether two networks look at the same photographs in different places; or a network and people."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

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
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.concentration import Units, photo_bands, pixels_at_once, units_of
from captum_canonical.saliency.photos import Photos
from captum_canonical.saliency.regions import own_region_values, region_masks, regions_version
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Clusters, Settings, significance_of
from captum_canonical.statistics.bootstrap import check_level, influences, ratios
from captum_canonical.statistics.max_t import OneSample
from captum_canonical.statistics.permutation import Patterns, sign_patterns
from captum_canonical.statistics.units import SAME, unit_means


def compare_models(
    a: ModelSaliency,
    b: ModelSaliency | Tensor | np.ndarray,
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
    """Whether two networks look in different places of the same photographs; or a network and a map from elsewhere.

    The maps of a photograph are paired: tested are their differences, by random signs for each person and corrected by
    the largest t, in the same two families as :func:`compare_groups`. Photographs pair up by their place if both runs
    are of the same data, else by their names, else (if neither side has names) in order; those that only one side has
    are left out and counted.

    ``b`` may be a single map on the same canonical face, such as where people look (fixations, Bubbles). It counts as
    known exactly, and its unit means nothing: both maps are normalised.

    Args:
        a: result with single maps.
        b: the same of another network; or a map (H, W), (1, H, W) or (1, 1, H, W), NaN where it is not known.
        names: of both, for the verdict.
        normalise: divide each map by the mean positive mass per pixel of its own mean map, so that only the places
            count; needed for networks whose scores have different units. That number counts as known. Default: for a
            map from elsewhere only.
        permutations, alpha, seed, clusters, forming, share, level: as in :func:`compare_groups`.

    Raises:
        CanonicalError: a side has no single maps, photographs do not pair up, the faces differ, there is nothing to
            normalise by, or an argument does not fit.

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
    settings = Settings(permutations, alpha, seed, clusters, forming, share)
    check_level(level)
    if not isinstance(a, ModelSaliency):
        raise CanonicalError(f"compare_models: expected a ModelSaliency as the first side, got a {type(a).__name__}.")
    face = a.face("compare_models")
    notes: list[str] = []
    fixed = None if isinstance(b, ModelSaliency) else _fixed(b, face, a.symmetric)
    if isinstance(b, ModelSaliency):
        check_sides(a, b, "compare_models")
        notes = settings_note(a, b, expected=("network", "target"))
        a, b, left_out = _paired(a, b)
        notes += left_out
    scaled = fixed is not None if normalise is None else bool(normalise)
    other = fixed if fixed is not None else b
    assert isinstance(other, ModelSaliency)
    scales = _scales(a, other, names) if scaled else [1.0, 1.0]
    units = units_of(a.single_maps("compare_models"))
    patterns = sign_patterns(units.count, permutations, seed)
    moments = Moments(None, share)
    significance = significance_of(
        moments.of(_bands(a, other, scales, units)),
        face.size,
        patterns,
        OneSample,
        settings,
        units.word,
        f"difference between {names[0]} and {names[1]}",
    )
    maps = moments.maps(face.size)
    return GroupComparison(
        names=names,
        n=(a.n, other.n),
        difference=maps[0],
        effect_size=maps[1],
        significance=significance,
        regions=_regions(a, other, scales, units, patterns, settings, level) if face.regions else (),
        correlation=correlation(a, other.mean.reshape(-1), other.count.reshape(-1) > 0),
        matching=None,
        notes=tuple(notes + ([units.caution] if units.caution else [])),
        canonical_face=face,
        regions_version=regions_version(face) if face.regions else None,
        level=level,
        normalised=scaled,
    )


# ------------------------------------------------------------------------------------------------------ the sides
def _fixed(given: Tensor | np.ndarray, face: CanonicalFace, symmetric: bool) -> ModelSaliency:
    """A map from elsewhere as a result of one photograph."""
    if not isinstance(given, (Tensor, np.ndarray)):
        raise CanonicalError(
            f"compare_models: expected a ModelSaliency or one map as a tensor or array, got a {type(given).__name__}."
        )
    values = torch.as_tensor(given).detach().cpu().double()
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
    """The photographs that both sides have, in the order of the first."""
    one, other = a.single_maps("compare_models"), b.single_maps("compare_models")
    keys = _keys(one, other)
    places = {key: number for number, key in enumerate(keys[1])}
    rows = [number for number, key in enumerate(keys[0]) if key in places]
    if not rows:
        raise CanonicalError(
            "compare_models: expected two networks explained on the same photographs, but no photograph is in both; "
            "compare_groups compares different ones."
        )
    partners = [places[keys[0][number]] for number in rows]
    left_out = len(one) - len(rows), len(other) - len(rows)
    notes = (
        [f"{left_out[0]} and {left_out[1]} photographs that only one side has are left out."] if any(left_out) else []
    )
    pair = one.subset(rows), other.subset(partners)
    known = next((photos for photos in pair if units_of(photos).people), pair[0])
    people = known.records.get("identity", [None] * len(rows))  # of one side: they are the same photographs
    face = a.face("compare_models")
    first, second = (
        ModelSaliency.of_photos(photos.with_column("identity", people), face, a.symmetric) for photos in pair
    )
    return first, second, notes


def _keys(one: Photos, other: Photos) -> tuple[list[Hashable], list[Hashable]]:
    """What tells the photographs of each side from each other, and pairs them."""
    if one.shared(other):
        return one.keys(), other.keys()
    names, others = one.records.get("name"), other.records.get("name")
    if names is None and others is None and one.given() == other.given():
        return [(*place,) for place in one.places.tolist()], [(*place,) for place in other.places.tolist()]
    if names is None or others is None:
        raise CanonicalError(
            f"compare_models: expected names of the photographs of both sides to pair them by (from_maps(..., "
            f"name=...)), or as many maps on both without names, got {sum(one.given())} and {sum(other.given())}."
        )
    for side in (names, others):
        if len(set(side)) < len(side):
            raise CanonicalError("compare_models: expected a name of its own for each photograph, got some twice.")
    return list(names), list(others)


def _scales(a: ModelSaliency, b: ModelSaliency, names: tuple[str, str]) -> list[float]:
    """One over the positive mass per pixel of each, over the pixels that both cover."""
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


# ------------------------------------------------------------------------------------------------------- the tests
def _bands(a: ModelSaliency, b: ModelSaliency, scales: list[float], units: Units) -> Bands:
    size, pixels = a.face("compare_models").size, pixels_at_once(a.n + b.n)
    rounding = _rounding(a, b, scales)
    sides = [photo_bands(side.single_maps("compare_models"), size, side.symmetric, pixels) for side in (a, b)]
    for (pixels, one, seen), (_, other, known) in zip(*sides, strict=True):
        both = seen & known
        differences = one.double() * scales[0] - other.double() * scales[1]
        differences = torch.where(both & (differences.abs() > rounding), differences, 0.0)
        yield pixels, *unit_means(differences.float(), both, units.numbers)


def _regions(
    a: ModelSaliency,
    b: ModelSaliency,
    scales: list[float],
    units: Units,
    patterns: Patterns,
    settings: Settings,
    level: float,
) -> tuple[RegionDifference, ...]:
    names, masks = region_masks(a.face("compare_models"), "compare_models")
    own = [own_region_values(side, names, masks) for side in (a, b)]
    fixed = len(own[1].total) != len(own[0].total)
    shares = [ratios(side.mass, side.total).value for side in own]
    mean = own[0].means * scales[0] - own[1].means * scales[1]
    share = influences(own[0].mass, own[0].total) + shares[0] - shares[1]
    share = share if fixed else share - influences(own[1].mass, own[1].total)
    if fixed:  # no sides to be swapped: random signs are those of the distance from a fixed number
        tested = torch.cat([mean, share], 1)
    else:
        both = Regions(a, b, 2 * units.count, scales).sides
        tested = both[0] - both[1]
    none = tested.new_tensor([_rounding(a, b, scales), SAME]).repeat_interleave(len(names))  # means, then shares
    tested = torch.where(tested.abs() > none, tested, tested * 0)
    p_values = p_values_of_numbers(tested, patterns, OneSample, settings)
    one = torch.ones(len(mean), 1, dtype=torch.float64)
    of_mean, of_share = ratios(mean, one, level), ratios(share, one, level)
    _, effects = effect_size(mean, ~mean.isnan(), None)
    means = own[0].means.mean(0) * scales[0], own[1].means.mean(0) * scales[1]
    return rows_of(names, means, (shares[0], shares[1]), of_mean, of_share, effects, p_values)


def _rounding(a: ModelSaliency, b: ModelSaliency, scales: list[float]) -> float:
    """Differences up to this count as none: two equal maps that were scaled differ by so much."""
    return SAME * max(scale * float(side.mean.abs().max()) for side, scale in zip((a, b), scales, strict=True))
