"""compare_groups: people are compared, not photographs, only those of two groups, and matched if asked."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from captum_canonical.comparisons.groups import compare_groups, matched
from captum_canonical.comparisons.models import compare_models
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from saliency_tools import two_groups
from simulated_maps import SIZE, people

FACE_SIZE = SIZE


def test_swapped_groups_change_signs_only(face: CanonicalFace) -> None:
    _, result = two_groups(face, seed=1, effect=0.2)
    sides = result.strata("group")
    one = compare_groups(sides["a"], sides["b"], permutations=199)
    other = compare_groups(sides["b"], sides["a"], permutations=199)
    assert_close(one.difference, -other.difference)
    assert_close(one.effect_size, -other.effect_size)
    assert_close(one.significance.t, -other.significance.t, rtol=1e-3, atol=1e-3, equal_nan=True)
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
    assert_close(right.significance.t, single.significance.t, rtol=0.1, atol=0.1, equal_nan=True)


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
    with pytest.raises(CanonicalError, match=r"compare_groups: expected a ModelSaliency, .*got a Tensor"):
        compare_groups(one, maps)
    for bad in ({"alpha": 0}, {"permutations": 0}, {"share": 2}, {"clusters": "size"}, {"seed": -1}, {"level": 1}):
        with pytest.raises(CanonicalError, match=f"{next(iter(bad))}: expected"):
            compare_groups(one, two, **bad)
    two_and_two = ModelSaliency.from_maps(maps[:2], None, face), ModelSaliency.from_maps(maps[2:4], None, face)
    found = compare_groups(*two_and_two)
    assert not found.different and "too few for a test: no p value can be below 0.333" in found.verdict


FACE_SIZE = SIZE


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


def test_sides_may_be_paths_and_mistakes_are_named(face: CanonicalFace, tmp_path: Path) -> None:
    sides = two_groups(face)[1].strata("group")
    for names in ((), ("a",), ("a", "a"), ("a", ""), "ab", (1, 2), None):
        with pytest.raises(CanonicalError, match="names: expected two different texts"):
            compare_groups(sides["a"], sides["b"], names=names)  # type: ignore[arg-type]
        with pytest.raises(CanonicalError, match="names: expected two different texts"):
            compare_models(sides["a"], sides["a"], names=names)  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="match: expected 'pose', 'confidence' or columns"):
        compare_groups(sides["a"], sides["b"], match=[])
    saved = sides["a"].save(tmp_path / "a.npz")
    with pytest.raises(CanonicalError, match="maps of single photographs"):  # it was read, and holds none
        compare_groups(saved, sides["b"])
    with pytest.raises(CanonicalError, match=r"compare_groups: expected a ModelSaliency.*got a NoneType"):
        compare_groups(sides["a"], None)  # type: ignore[arg-type]
