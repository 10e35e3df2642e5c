"""Differences, effect sizes and intervals by hand, in any unit and shape."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.testing import assert_close

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.models import compare_models
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.result import ModelSaliency
from saliency_tools import drawn_result, two_groups
from simulated_maps import SIZE

FACE_SIZE = SIZE


def test_difference_effect_size_and_intervals_by_hand(face: CanonicalFace) -> None:
    maps, result = two_groups(face, effect=0.5)
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], permutations=499, names=("men", "women"))
    one, other = maps[:30].double(), maps[30:].double()
    assert_close(found.difference, one.mean(0) - other.mean(0), rtol=1e-5, atol=1e-6)
    pooled = ((one.var(0) * 29 + other.var(0) * 29) / 58).sqrt()
    hedges = (one.mean(0) - other.mean(0)) / pooled * (1 - 3 / (4 * 58 - 1))
    assert_close(found.effect_size, hedges, rtol=1e-4, atol=1e-5)
    chin = next(row for row in found.regions if row.region == "chin")
    inside = face.region_mask("chin")
    values = [side[:, 0][:, inside].mean(1).numpy() for side in (one, other)]
    welch = stats.ttest_ind(*values, equal_var=False).confidence_interval(0.95)
    assert chin.mean_interval == pytest.approx((welch.low, welch.high), rel=1e-4)
    assert chin.mean == pytest.approx([float(each.mean()) for each in values], rel=1e-5)
    tables = [region_table(side) for side in (sides["a"], sides["b"])]
    shares = [next(row.share for row in table.rows if row.region == "chin") for table in tables]
    assert chin.share == pytest.approx(shares) and chin.share_difference == pytest.approx(shares[0] - shares[1])
    assert found.different and found.different_regions[0] is chin and chin.mean_p == 1 / 500
    assert "men (30 photographs) and women (30) differ" in found.verdict and "chin (more for men" in found.verdict


@pytest.mark.parametrize("unit", [1e-18, 1e-6, 1e6])
@pytest.mark.parametrize("compare", [compare_groups, compare_models])
def test_no_test_depends_on_the_unit(face: CanonicalFace, compare: Callable[..., GroupComparison], unit: float) -> None:
    maps, _ = two_groups(face, seed=6, effect=0.7)
    want, got = (
        compare(*(ModelSaliency.from_maps(part * scale, None, face) for part in maps.split(30)), permutations=99)
        for scale in (1, unit)
    )
    for one, two in zip(want.regions, got.regions, strict=True):
        assert (one.mean_p, one.share_p) == (two.mean_p, two.share_p)
    assert torch.equal(want.significance.mask, got.significance.mask) and want.significance.mask.any()


SIDES = st.integers(1, 12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), SIDES, SIDES, st.integers(0, 99), st.booleans())
def test_of_two_results(first: int, second: int, height: int, width: int, seed: int, clusters: bool) -> None:
    one, other = drawn_result(first, height, width, seed, first), drawn_result(second, height, width, seed + 1, second)
    strangers = ModelSaliency.from_maps(other.photos.maps, other.photos.coverage, one.canonical_face)
    pairs = drawn_result(first, height, width, seed + 2, first)
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
