"""compare_groups and compare_models: who is compared with whom, and what is said about it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, ModelSaliency, compare_groups, compare_models, region_table
from captum_canonical.comparisons.matching import matched
from captum_canonical.comparisons.result import GroupComparison
from simulated_maps import SIZE, people


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIZE)


def two_groups(face: CanonicalFace, seed: int = 0, effect: float = 0.0, **columns) -> tuple[Tensor, ModelSaliency]:
    maps, _ = people(face, 60, torch.Generator().manual_seed(seed))
    maps[:30, :, face.region_mask("chin")] += effect
    return maps, ModelSaliency.from_maps(maps, None, face, group=["a"] * 30 + ["b"] * 30, **columns)


# --------------------------------------------------------------------------------------------------------- numbers
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


def test_sides_swapped_say_the_same_the_other_way_round(face: CanonicalFace) -> None:
    _, result = two_groups(face, seed=1, effect=0.2)
    sides = result.strata("group")
    one = compare_groups(sides["a"], sides["b"], permutations=199)
    other = compare_groups(sides["b"], sides["a"], permutations=199)
    assert_close(one.difference, -other.difference)
    assert_close(one.effect_size, -other.effect_size)
    assert_close(one.significance.t, -other.significance.t, rtol=1e-3, atol=1e-3)
    for first, second in zip(one.regions, other.regions, strict=True):
        assert first.mean_difference == pytest.approx(-second.mean_difference)
        assert first.share_interval == pytest.approx([-end for end in reversed(second.share_interval)])


def test_photographs_of_one_person_are_dealt_out_together(face: CanonicalFace) -> None:
    """Ten people a side, each photographed six times alike: the p value cannot be that of sixty."""
    own, _ = people(face, 20, torch.Generator().manual_seed(2))
    maps = own.repeat_interleave(6, 0) + 0.01 * torch.randn(120, 1, SIZE, SIZE)
    who = [f"person {number // 6}" for number in range(120)]
    clustered = ModelSaliency.from_maps(maps, None, face, who, group=["a"] * 60 + ["b"] * 60).strata("group")
    naive = ModelSaliency.from_maps(maps, None, face, group=["a"] * 60 + ["b"] * 60).strata("group")
    right, wrong = (compare_groups(sides["a"], sides["b"], permutations=199) for sides in (clustered, naive))
    assert right.significance.units == "10 people and 10 people"
    assert float(wrong.significance.p_values.nanmean()) < float(right.significance.p_values.nanmean())
    assert wrong.different and not right.different  # there is no difference between the groups, only between people
    assert any("Identities are not known" in note for note in wrong.notes) and not right.notes
    once = ModelSaliency.from_maps(own, None, face, group=["a"] * 10 + ["b"] * 10).strata("group")
    single = compare_groups(once["a"], once["b"], permutations=199)
    assert_close(right.significance.t, single.significance.t, rtol=0.1, atol=0.1)


def test_the_same_everywhere_is_no_difference_detected(face: CanonicalFace) -> None:
    _, result = two_groups(face, seed=3)
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], permutations=199)
    assert not found.different and not found.different_regions
    assert "no difference detected, which does not show that there is none" in found.verdict
    assert "no difference " not in found.verdict.replace("no difference detected", "")


def test_pixels_and_regions_that_one_side_does_not_cover(face: CanonicalFace) -> None:
    maps, _ = two_groups(face)
    coverage = torch.ones_like(maps)
    coverage[:30, :, face.region_mask("forehead")] = 0
    coverage[:, :, 0] = 0
    maps[coverage == 0] = math.nan
    sides = ModelSaliency.from_maps(maps, coverage, face).strata(["a"] * 30 + ["b"] * 30)
    found = compare_groups(sides["a"], sides["b"], permutations=199)
    unseen = face.region_mask("forehead")[None]
    assert found.difference[unseen].isnan().all() and found.p_values[unseen].isnan().all()
    assert found.p_values[0, 0].isnan().all() and found.significance.tested.any()
    json.dumps(found.as_json(), allow_nan=False)
    assert len(found.regions) == len(face.regions) and "not defined" in found.table()


def test_clusters(face: CanonicalFace) -> None:
    _, result = two_groups(face, effect=0.5)
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], permutations=199, clusters=True)
    assert found.significance.clusters and "somewhere in each of" in found.verdict
    row, column = found.significance.clusters[0].peak
    assert face.region_mask("chin")[row, column]
    beyond = found.significance.t.abs() > stats.norm.ppf(1 - 0.001 / 2)  # forming=0.001, two-sided
    assert sum(cluster.pixels for cluster in found.significance.clusters) == int(beyond.sum()) > 0


def test_text_markdown_and_json(face: CanonicalFace) -> None:
    _, result = two_groups(face, effect=0.5, score=torch.rand(60).tolist())
    sides = result.strata("group")
    found = compare_groups(sides["a"], sides["b"], "confidence", permutations=199)
    for text in (str(found), found.table("markdown")):
        assert found.verdict in text and "chin" in text and "Matched on score" in text
    values = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert values["regions_version"].startswith("mediapipe-468-") and values["matching"]["pairs"] > 0
    with pytest.raises(CanonicalError, match="format: expected 'text' or 'markdown'"):
        found.table("html")


# -------------------------------------------------------------------------------------------------------- matching
def test_matching_equals_a_greedy_loop() -> None:
    generator = np.random.default_rng(0)
    sides = [{"score": generator.normal(shift, 1, 40), "yaw": generator.normal(0, 10, 40)} for shift in (0.0, 1.0)]
    records = [{name: column.tolist() for name, column in side.items()} for side in sides]
    records[0]["score"][3] = None
    got_a, got_b, told = matched(*records, ["confidence", "yaw"], caliper=0.3)
    points = []
    for side in records:
        points.append(np.array([[math.nan if v is None else v for v in side[name]] for name in ("score", "yaw")]).T)
    spread = np.nanstd(np.concatenate(points), axis=0)
    scaled = [each / spread for each in points]
    left, right = set(range(40)) - {3}, set(range(40))
    pairs = []
    while True:
        near = [
            (float(np.linalg.norm(scaled[0][i] - scaled[1][j])), i, j)
            for i in left
            for j in right
            if np.abs(scaled[0][i] - scaled[1][j]).max() <= 0.3
        ]
        if not near:
            break
        _, i, j = min(near)
        left.remove(i)
        right.remove(j)
        pairs.append((i, j))
    assert got_a == sorted(i for i, _ in pairs) and got_b == sorted(j for _, j in pairs)
    assert told.pairs == len(pairs) and told.left_out == (40 - len(pairs), 40 - len(pairs))
    assert abs(told.after["score"]) < 0.2 < abs(told.before["score"])


def test_matching_takes_away_a_difference_that_comes_from_pose(face: CanonicalFace) -> None:
    maps, _ = people(face, 120, torch.Generator().manual_seed(5), noise=0.2)
    yaw = torch.randn(120, generator=torch.Generator().manual_seed(6)) * 10
    yaw[:60] += 12
    maps[:, :, face.region_mask("cheek_left")] += 0.05 * yaw[:, None, None]
    sides = ModelSaliency.from_maps(
        maps, None, face, yaw=yaw.tolist(), pitch=[0.0] * 120, group=["a"] * 60 + ["b"] * 60
    ).strata("group")
    plain = compare_groups(sides["a"], sides["b"], permutations=199)
    alike = compare_groups(sides["a"], sides["b"], ("pose",), permutations=199)
    assert [row.region for row in plain.different_regions][:1] == ["cheek_left"]
    assert "cheek_left" not in [row.region for row in alike.different_regions]
    assert alike.n[0] == alike.n[1] == alike.matching.pairs < 60 and alike.matching.columns == ("yaw", "pitch")


# ----------------------------------------------------------------------------------------------------- two networks
def test_paired_maps_are_compared_pair_by_pair(face: CanonicalFace) -> None:
    maps, _ = people(face, 20, torch.Generator().manual_seed(7))
    other = maps + 0.02 * torch.randn(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(8))
    other[:, :, face.region_mask("nose_tip")] -= 0.05  # far less than people differ by
    names = [f"{number}.jpg" for number in range(20)]
    order = torch.randperm(20)
    one = ModelSaliency.from_maps(maps, None, face, name=names)
    two = ModelSaliency.from_maps(other[order], None, face, name=[names[number] for number in order.tolist()])
    found = compare_models(one, two, permutations=499, names=("new", "old"))
    assert [row.region for row in found.different_regions] == ["nose_tip"]
    assert_close(found.difference, (maps - other).double().mean(0), rtol=1e-4, atol=1e-6)
    differences = (maps - other).double()
    want = differences.mean(0) / differences.std(0) * (1 - 3 / (4 * 19 - 1))
    assert_close(found.effect_size, want, rtol=1e-3, atol=1e-3)
    values = differences[:, 0][:, face.region_mask("nose_tip")].mean(1).numpy()
    row = found.different_regions[0]
    assert row.mean_interval == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-4)
    unpaired = one.strata(["a"] * 20)["a"]
    assert not compare_groups(unpaired, ModelSaliency.from_maps(other, None, face), permutations=199).different_regions


def test_photographs_of_one_side_only_are_left_out_and_counted(face: CanonicalFace) -> None:
    maps, _ = people(face, 12, torch.Generator().manual_seed(9))
    one = ModelSaliency.from_maps(maps[:10], None, face, name=list("abcdefghij"))
    two = ModelSaliency.from_maps(maps[3:], None, face, name=list("defghijkl"))
    found = compare_models(one, two)
    assert found.n == (7, 7) and found.notes[0] == "3 and 2 photographs that only one side has are left out."
    assert not found.different and found.correlation == pytest.approx(1.0)


def test_other_units_are_normalised_away(face: CanonicalFace) -> None:
    maps, _ = people(face, 20, torch.Generator().manual_seed(10))
    one, two = (ModelSaliency.from_maps(maps * scale, None, face) for scale in (1.0, 7.0))
    assert compare_models(one, two, permutations=199).different
    found = compare_models(one, two, permutations=199, normalise=True)
    assert found.normalised and not found.different and float(found.p_values.nan_to_num(1).min()) == 1
    assert max(abs(row.share_difference) for row in found.regions) < 1e-9


@pytest.mark.parametrize("count", [150, 200, 250])
def test_a_difference_that_is_the_same_for_all_is_found(face: CanonicalFace, count: int) -> None:
    """Where nothing is left but the mean, rounding must not take the rest of the squares below 0."""
    maps = 1 + 0.5 * torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    chin = face.region_mask("chin")
    other = maps.clone()
    other[:, :, chin] -= 0.7
    one, two = (ModelSaliency.from_maps(each, None, face) for each in (maps, other))
    found = compare_models(one, two, permutations=199)
    assert found.significance.tested.all() and torch.equal(found.significance.mask[0], chin)
    assert [row.region for row in found.different_regions if row.mean_p <= 0.01] == ["chin"]


def test_each_side_may_have_lost_another_photograph(face: CanonicalFace) -> None:
    """Maps without names pair up by the places at which they were given, not by those that are left."""
    maps, _ = people(face, 20, torch.Generator().manual_seed(4))
    coverage = torch.ones(2, *maps.shape)
    coverage[0, 3], coverage[1, 15] = 0, 0
    one, two = (ModelSaliency.from_maps(m, c, face) for m, c in zip((maps, maps + 0.5), coverage, strict=True))
    found = compare_models(one, two, permutations=99)
    assert found.n == (18, 18) and "1 and 1 photographs" in " ".join(found.notes)
    assert_close(found.difference, torch.full((1, SIZE, SIZE), -0.5).double(), rtol=0, atol=1e-5)
    with pytest.raises(CanonicalError, match="expected names of the photographs"):
        compare_models(one, ModelSaliency.from_maps(maps[:19].clone(), None, face))


def test_maps_are_normalised_where_both_are_known(face: CanonicalFace) -> None:
    """A map that says 0 beyond the face, and one that says nothing there, do not differ on it."""
    inside = face.raster.covered.float().expand(20, 1, SIZE, SIZE)
    maps = people(face, 20, torch.Generator().manual_seed(5))[0].abs()
    one, everywhere = (ModelSaliency.from_maps(maps * inside, c, face) for c in (inside, None))
    for other in (one.mean.nan_to_num(), everywhere):
        found = compare_models(one, other, permutations=99, normalise=True)
        assert not found.different and float(found.difference[0][face.raster.covered].abs().max()) < 1e-6


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


def test_a_map_from_elsewhere_can_be_one_side(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(11)
    maps, who = people(face, 40, generator)
    result = ModelSaliency.from_maps(maps, None, face, who)
    same = compare_models(result, 3 * result.mean, names=("network", "people"), permutations=499)
    assert not same.different and same.correlation == pytest.approx(1.0) and same.n == (40, 1)
    fixations = result.mean.clone()
    fixations[0][face.region_mask("eye_left")] = 0
    fixations[0, :4] = math.nan  # not known there
    found = compare_models(result, fixations.numpy(), names=("network", "people"), permutations=499)
    assert "eye_left" in [row.region for row in found.different_shares]
    assert found.difference[0, :4].isnan().all() and found.normalised
    assert "network (40 photographs) and people (1) differ" in found.verdict


# -------------------------------------------------------------------------------------------------------- bad input
def test_groups_that_cannot_be_compared(face: CanonicalFace) -> None:
    maps, who = people(face, 8, torch.Generator().manual_seed(12))
    one = ModelSaliency.from_maps(maps[:4], None, face, who[:4])
    two = ModelSaliency.from_maps(maps[4:], None, face, who[4:])
    with pytest.raises(CanonicalError, match="at least two people in each group, got 1 person in 'b'"):
        compare_groups(one, ModelSaliency.from_maps(maps[4:5], None, face, who[4:5]))
    with pytest.raises(CanonicalError, match="at least two people in each group, got 0 photographs in 'a'"):
        compare_groups(ModelSaliency.from_maps(maps[:0], None, face), two)
    with pytest.raises(CanonicalError, match=r"2 are in both, such as \['person 0', 'person 1'\]"):
        compare_groups(one, ModelSaliency.from_maps(maps[4:], None, face, [*who[:2], *who[6:]]))
    with pytest.raises(CanonicalError, match="4 are in both groups; compare_models"):
        compare_groups(one, one)
    with pytest.raises(CanonicalError, match="expected maps with the same"):
        compare_groups(one, ModelSaliency.from_maps(torch.ones(3, 1, 16, 16), None, CanonicalFace.default(16)))
    with pytest.raises(CanonicalError, match="merely streamed or loaded"):
        compare_groups(one, ModelSaliency(two.mean, two.variance, two.count, two.coverage, 4, canonical_face=face))
    with pytest.raises(CanonicalError, match="numbers in the column 'yaw'"):
        compare_groups(one, two, "pose")
    with pytest.raises(CanonicalError, match="two ModelSaliency, got a Tensor"):
        compare_groups(one, maps)
    for bad in ({"alpha": 0}, {"permutations": 0}, {"share": 2}, {"clusters": "size"}, {"seed": -1}, {"level": 1}):
        with pytest.raises(CanonicalError, match=f"{next(iter(bad))}: expected"):
            compare_groups(one, two, **bad)
    two_and_two = ModelSaliency.from_maps(maps[:2], None, face), ModelSaliency.from_maps(maps[2:4], None, face)
    found = compare_groups(*two_and_two)
    assert not found.different and "too few for a test: no p value can be below 0.333" in found.verdict


def test_models_that_cannot_be_compared(face: CanonicalFace) -> None:
    maps, _ = people(face, 6, torch.Generator().manual_seed(13))
    one = ModelSaliency.from_maps(maps, None, face, name=list("abcdef"))
    with pytest.raises(CanonicalError, match="no photograph is in both"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face, name=list("uvwxyz")))
    with pytest.raises(CanonicalError, match="names of the photographs of both sides"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face))
    with pytest.raises(CanonicalError, match="a name of its own"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face, name=list("aabcde")))
    with pytest.raises(CanonicalError, match="expected a ModelSaliency as the first side, got a Tensor"):
        compare_models(maps, one)
    with pytest.raises(CanonicalError, match="vertices lie in other places"):
        moved = replace(face, vertices=face.vertices + 1)
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, moved, name=list("abcdef")))
    with pytest.raises(CanonicalError, match="level: expected a number above 0 and below 1, got 95"):
        compare_models(one, one, level=95)
    with pytest.raises(CanonicalError, match="one map of the canonical face's size"):
        compare_models(one, torch.ones(8, 8))
    with pytest.raises(CanonicalError, match="one map as a tensor or array, got a str"):
        compare_models(one, "fixations.png")
    with pytest.raises(CanonicalError, match="NaN everywhere"):
        compare_models(one, torch.full((SIZE, SIZE), math.nan))
    with pytest.raises(CanonicalError, match="positive values in the map of 'b' to normalise"):
        compare_models(one, -torch.ones(SIZE, SIZE))
