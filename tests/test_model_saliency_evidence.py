"""Significance and concentration of model-level maps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from simulated_maps import SIZE, people, smooth_noise, true_map
from torch.testing import assert_close

from captum_canonical import CanonicalFace, ModelSaliency


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIZE)


# ----------------------------------------------------------------------------------------------------- significance
def test_the_mean_is_found_where_it_is(face: CanonicalFace) -> None:
    maps = smooth_noise(40, torch.Generator().manual_seed(1))
    maps[:, :, face.region_mask("chin")] += 1.5
    result = ModelSaliency.from_maps(maps, None, face)
    found = result.significance(499)
    assert found.mask[0][face.region_mask("chin")].float().mean() > 0.9
    assert found.mask[0][~face.region_mask("chin")].sum() <= 2
    assert_close(found.t, result.mean / result.standard_error, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.mask, found.p_values <= 0.05)
    assert (
        found.sentence.startswith("Mean other than 0 in ")
        and "random sign patterns of 40 photographs" in found.sentence
    )
    clusters = result.significance(199, clusters=True)
    row, column = clusters.clusters[0].peak
    assert face.region_mask("chin")[row, column] and "somewhere in each of" in clusters.sentence
    for each in (found, clusters):
        json.dumps(each.as_json(), allow_nan=False)
    assert torch.equal(found.t, result.significance(499).t) and torch.equal(found.mask, result.significance(499).mask)


def test_people_not_photographs_are_flipped(face: CanonicalFace) -> None:
    own = smooth_noise(10, torch.Generator().manual_seed(2)) + 0.8
    maps = own.repeat_interleave(8, 0)
    who = [number // 8 for number in range(80)]
    clustered = ModelSaliency.from_maps(maps, None, face, who).significance()
    single = ModelSaliency.from_maps(own, None, face).significance()
    assert clustered.units == "10 people" and clustered.exhaustive
    assert_close(clustered.p_values, single.p_values)
    naive = ModelSaliency.from_maps(maps, None, face).significance(999)
    assert naive.mask.sum() > clustered.mask.sum()


def test_too_few_people_are_said_to_be_too_few(face: CanonicalFace) -> None:
    maps = torch.ones(5, 1, SIZE, SIZE)
    found = ModelSaliency.from_maps(maps, None, face).significance()
    assert not found.mask.any() and found.smallest == 2 / 2**5
    assert found.sentence == (
        "5 photographs are too few for a test: no p value can be below 0.0625, and 0.05 is asked for."
    )
    assert ModelSaliency.from_maps(torch.ones(6, 1, SIZE, SIZE), None, face).significance().mask.all()
    for clusters in (False, True):
        nothing = ModelSaliency.from_maps(maps[:0], None, face).significance(clusters=clusters)
        assert not nothing.mask.any() and not nothing.tested.any() and nothing.t.shape == (1, SIZE, SIZE)
        assert nothing.sentence.startswith("0 photographs are too few for a test: no p value can be below 1,")


def test_pooled_maps_are_tested_pooled(face: CanonicalFace) -> None:
    maps = smooth_noise(20, torch.Generator().manual_seed(3)) + 0.3
    found = ModelSaliency.from_maps(maps, None, face, symmetric=True).significance(199)
    by_hand = ModelSaliency.from_maps((maps + maps.flip(-1)) / 2, None, face).significance(199)
    assert_close(found.p_values, by_hand.p_values)
    assert_close(found.t, found.t.flip(-1), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------- concentration
def test_concentration_by_hand(face: CanonicalFace) -> None:
    values = torch.zeros(1, 1, SIZE, SIZE)
    values[0, 0, 0, :4] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    values[0, 0, 1] = -5.0
    coverage = torch.zeros_like(values)
    coverage[:, :, :2] = 1
    found = ModelSaliency.from_maps(values, coverage, face).concentration()
    share = np.array([0.1, 0.2, 0.3, 0.4])
    assert found.entropy == pytest.approx(-(share * np.log(share)).sum())
    assert found.effective_area == pytest.approx(math.exp(found.entropy) / (2 * SIZE))
    every = np.concatenate([np.zeros(2 * SIZE - 4), share])
    gini = np.abs(every[:, None] - every).sum() / (2 * len(every) ** 2 * every.mean())
    assert found.gini == pytest.approx(gini)
    assert not found.intervals and "1 photograph" in found.note
    negative = ModelSaliency.from_maps(-torch.ones(3, 1, SIZE, SIZE), None, face).concentration()
    assert math.isnan(negative.entropy) and math.isnan(negative.gini) and not negative.intervals
    assert negative.as_json()["gini"] is None


def test_intervals_of_the_concentration_hold_the_truth(face: CanonicalFace) -> None:
    """100 data sets of 60 people; without its correction the Gini coefficient is too large in nearly all of them."""
    generator = torch.Generator().manual_seed(4)
    truth = ModelSaliency.from_maps(true_map(face)[None, None], None, face).concentration()
    held = dict.fromkeys(("entropy", "effective_area", "gini"), 0)
    for _ in range(100):
        found = ModelSaliency.from_maps(people(face, 60, generator)[0], None, face).concentration()
        for name, (low, high) in found.intervals.items():
            held[name] += low <= getattr(truth, name) <= high
    assert all(88 <= count <= 100 for count in held.values()), held


def test_a_map_on_one_spot_is_more_concentrated(face: CanonicalFace) -> None:
    narrow, wide = (torch.zeros(3, 1, SIZE, SIZE) for _ in range(2))
    narrow[:, :, face.region_mask("nose_tip")] = 1
    wide[:, :, face.region_mask("forehead")] = 1
    one, other = (ModelSaliency.from_maps(each, None, face).concentration() for each in (narrow, wide))
    assert one.entropy < other.entropy and one.effective_area < other.effective_area and one.gini > other.gini
