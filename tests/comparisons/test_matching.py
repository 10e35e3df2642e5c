"""Matching: pairs equal those of a greedy loop, and take away differences that come from pose."""

from __future__ import annotations

import math

import numpy as np
import torch

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.matching import matched
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people

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
