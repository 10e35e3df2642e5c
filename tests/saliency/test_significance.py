"""Where a map differs from 0: people are the units, and t is that of scipy."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people, smooth_noise

FACE_SIZE = SIZE


def test_an_effect_is_found_where_it_is(face: CanonicalFace) -> None:
    maps = smooth_noise(40, torch.Generator().manual_seed(1))
    maps[:, :, face.region_mask("chin")] += 1.5
    result = ModelSaliency.from_maps(maps, None, face)
    found = result.significance(499)
    assert found.mask[0][face.region_mask("chin")].float().mean() > 0.9
    assert found.mask[0][~face.region_mask("chin")].sum() <= 2
    shown = face.raster.covered
    assert_close(found.t[0, shown], (result.mean / result.standard_error)[0, shown].double(), rtol=1e-4, atol=1e-4)
    assert torch.equal(found.mask, found.p_values <= 0.05)
    assert (
        found.sentence.startswith("Mean other than 0 in ")
        and "random sign patterns of 40 photographs" in found.sentence
    )
    clusters = result.significance(199, clusters=True)
    row, column = clusters.clusters[0].peak
    assert face.region_mask("chin")[row, column] and "somewhere in each of" in clusters.sentence
    beyond = clusters.t.abs() > stats.t.ppf(1 - 0.001 / 2, 39)  # forming=0.001, two-sided
    assert sum(cluster.pixels for cluster in clusters.clusters) == int(beyond.sum()) > 0
    for each in (found, clusters):
        json.dumps(each.as_json(), allow_nan=False)
    assert torch.equal(found.t.nan_to_num(), result.significance(499).t.nan_to_num()) and torch.equal(
        found.mask, result.significance(499).mask
    )


def test_people_not_photographs_are_flipped(face: CanonicalFace) -> None:
    own = smooth_noise(10, torch.Generator().manual_seed(2)) + 0.8
    maps = own.repeat_interleave(8, 0)
    who = [number // 8 for number in range(80)]
    clustered = ModelSaliency.from_maps(maps, None, face, who).significance()
    single = ModelSaliency.from_maps(own, None, face).significance()
    assert clustered.units == "10 people" and clustered.exhaustive
    assert_close(clustered.p_values, single.p_values, equal_nan=True)
    naive = ModelSaliency.from_maps(maps, None, face).significance(999)
    assert naive.mask.sum() > clustered.mask.sum()


def test_too_few_people_for_a_test(face: CanonicalFace) -> None:
    maps = torch.ones(5, 1, SIZE, SIZE)
    found = ModelSaliency.from_maps(maps, None, face).significance()
    assert not found.mask.any() and found.smallest == 2 / 2**5
    assert found.sentence == (
        "5 photographs are too few for a test: no p value can be below 0.0625, and 0.05 is required."
    )
    assert (
        ModelSaliency.from_maps(torch.ones(6, 1, SIZE, SIZE), None, face)
        .significance()
        .mask[0, face.raster.covered]
        .all()
    )
    for clusters in (False, True):
        nothing = ModelSaliency.from_maps(maps[:0], None, face).significance(clusters=clusters)
        assert not nothing.mask.any() and not nothing.tested.any() and nothing.t.shape == (1, SIZE, SIZE)
        assert nothing.sentence.startswith("0 photographs are too few for a test: no p value can be below 1,")


def test_pooled_maps_are_tested_pooled(face: CanonicalFace) -> None:
    maps = smooth_noise(20, torch.Generator().manual_seed(3)) + 0.3
    found = ModelSaliency.from_maps(maps, None, face, symmetric=True).significance(199)
    by_hand = ModelSaliency.from_maps((maps + maps.flip(-1)) / 2, None, face).significance(199)
    assert_close(found.p_values, by_hand.p_values, equal_nan=True)
    assert_close(found.t, found.t.flip(-1), rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("symmetric", [False, True])
def test_t_is_students_of_the_means_of_people_where_they_are_covered(face: CanonicalFace, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    maps, who = people(face, 12, generator, photos=3)
    coverage = torch.rand(maps.shape, generator=generator) > 0.6
    coverage[:15, :, 3] = False  # five of twelve people, and nobody
    coverage[:, :, :, 4] = coverage[:, :, :, SIZE - 5] = False
    hidden = torch.where(coverage, maps, math.nan)
    found = ModelSaliency.from_maps(hidden, coverage.float(), face, who, symmetric=symmetric).significance(99)
    values = hidden[:, 0].double().numpy()
    if symmetric:
        values = np.stack([values, values[..., ::-1]])
        count = np.isfinite(values).sum(0)
        values = np.where(count > 0, np.nansum(values, 0) / np.maximum(count, 1), np.nan)
    for r, c in itertools.product(range(0, SIZE, 3), range(0, SIZE, 2)):
        own = [np.array([values[n, r, c] for n in range(36) if who[n] == name]) for name in dict.fromkeys(who)]
        means = np.array([each[np.isfinite(each)].mean() for each in own if np.isfinite(each).any()])
        if len(means) >= 6 and face.raster.covered[r, c]:
            assert float(found.t[0, r, c]) == pytest.approx(stats.ttest_1samp(means, 0).statistic, rel=1e-3, abs=1e-4)
        else:
            assert math.isnan(found.t[0, r, c]) and math.isnan(found.p_values[0, r, c])


def test_only_the_face_is_tested(face: CanonicalFace) -> None:
    """Patches reach beyond its rim; there nothing is found, and nothing makes the other p values larger."""
    maps = smooth_noise(40, torch.Generator().manual_seed(1)) + 0.4
    shown = face.raster.covered
    loud = torch.where(
        shown, maps, maps - 0.4 + 3 * torch.randn(40, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    )
    loud[:, :, ~shown] += 10
    for clusters in (False, True):
        found = ModelSaliency.from_maps(loud, None, face).significance(199, clusters=clusters)
        alone = ModelSaliency.from_maps(maps, shown.expand_as(maps).float(), face).significance(199, clusters=clusters)
        assert torch.equal(found.tested[0], shown) and not found.mask[0][~shown].any()
        assert_close(found.p_values, alone.p_values, equal_nan=True)


def test_a_face_without_triangles_is_tested_everywhere() -> None:
    grid = CanonicalFace.from_vertices(torch.zeros(3, 4, 4), torch.tensor([[1.0, 1.0], [3.0, 3.0]]))
    assert not len(grid.triangles)
    assert ModelSaliency.from_maps(torch.ones(6, 1, 4, 4), None, grid).significance().mask.all()
