"""Shapes: any number of photographs on a face of any size, also of one pixel or of nobody."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from captum_canonical import CanonicalFace, ModelSaliency, compare_groups, compare_models, region_table
from captum_canonical.statistics.units import unit_means

SIDES = st.integers(1, 12)
CLUSTERS = st.sampled_from([False, "mass", "extent"])


def drawn(count: int, height: int, width: int, seed: int, people: int) -> ModelSaliency:
    """Maps of some people, parts of which are not covered and then NaN."""
    generator = torch.Generator().manual_seed(seed)
    face = CanonicalFace.default(16).resized((height, width))
    maps = torch.randn(count, 1, height, width, generator=generator)
    coverage = torch.randint(0, 3, maps.shape, generator=generator)
    maps[coverage == 0] = math.nan
    names = [f"{number}.jpg" for number in range(count)]
    return ModelSaliency.from_maps(maps, coverage, face, [number % people for number in range(count)], name=names)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 9), SIDES, SIDES, st.integers(0, 99), st.integers(1, 4), st.sampled_from([False, "mass", "extent"])
)
def test_of_one_result(count: int, height: int, width: int, seed: int, people: int, clusters: bool) -> None:
    result = drawn(count, height, width, seed, people)
    whole = (1, height, width)
    assert all(getattr(result, name).shape == whole for name in ("mean", "variance", "count", "coverage"))
    found = result.significance(99, clusters=clusters)
    assert found.t.shape == found.p_values.shape == found.mask.shape == found.tested.shape == whole
    assert found.t.dtype == found.p_values.dtype == torch.float64 and found.mask.dtype == torch.bool
    assert torch.equal(found.t.isnan(), found.p_values.isnan())
    known = found.p_values[~found.p_values.isnan()]
    assert bool((known > 0).all()) and bool((known <= 1).all()) and found.sentence
    table = region_table(result)
    assert [row.region for row in table.rows] == list(result.canonical_face.regions)
    for each in (found, table, result.concentration()):
        json.dumps(each.as_json(), allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), SIDES, SIDES, st.integers(0, 99), st.booleans())
def test_of_two_results(first: int, second: int, height: int, width: int, seed: int, clusters: bool) -> None:
    one, other = drawn(first, height, width, seed, first), drawn(second, height, width, seed + 1, second)
    strangers = ModelSaliency.from_maps(other.photos.maps, other.photos.coverage, one.canonical_face)
    pairs = drawn(first, height, width, seed + 2, first)
    whole = (1, height, width)
    comparisons = []
    if one.n > 1 and strangers.n > 1:
        comparisons.append(compare_groups(one, strangers, permutations=99, clusters=clusters))
    if {*one.records["name"]} & {*pairs.records["name"]}:
        comparisons.append(compare_models(one, pairs, permutations=99, clusters=clusters))
    for found in comparisons:
        assert found.difference.shape == found.effect_size.shape == found.p_values.shape == whole
        assert len(found.regions) == len(one.canonical_face.regions) and found.verdict
        json.dumps(found.as_json(), allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), SIDES, SIDES, st.integers(0, 99))
def test_halves_add_up_and_files_hold_what_was_saved(count: int, height: int, width: int, seed: int) -> None:
    import tempfile

    result = drawn(count, height, width, seed, 3)
    parts = list(result.strata(["odd" if number % 2 else "even" for number in range(result.n)]).values())
    total = parts[0] + parts[1] if len(parts) == 2 else result
    with tempfile.TemporaryDirectory() as folder:
        loaded = ModelSaliency.load(total.save(Path(folder) / "total.npz"))
    for each in (total, loaded):
        for name in ("mean", "variance", "count", "coverage"):
            assert_close(getattr(each, name), getattr(result, name), equal_nan=True)
        assert each.n == result.n


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 7), st.integers(1, 5), st.integers(0, 99))
def test_means_of_units_equal_a_loop(count: int, pixels: int, people: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    covered = torch.rand(count, pixels, generator=generator) > 0.4
    values = torch.where(covered, torch.randn(count, pixels, generator=generator), 0.0)
    names = torch.randint(people, (count,), generator=generator)
    units = names.unique(return_inverse=True)[1]
    means, seen = unit_means(values, covered, units)
    assert means.shape == seen.shape == (len(units.unique()), pixels)
    for unit in range(len(means)):
        for pixel in range(pixels):
            own = [float(values[n, pixel]) for n in range(count) if units[n] == unit and covered[n, pixel]]
            assert bool(seen[unit, pixel]) == bool(own)
            assert_close(float(means[unit, pixel]), sum(own) / len(own) if own else 0.0, rtol=1e-5, atol=1e-6)
