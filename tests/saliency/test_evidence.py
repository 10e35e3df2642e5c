"""Significance and concentration of model-level maps."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, ModelSaliency
from simulated_maps import SIZE, people, smooth_noise, true_map


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
    beyond = clusters.t.abs() > stats.t.ppf(1 - 0.001 / 2, 39)  # forming=0.001, two-sided
    assert sum(cluster.pixels for cluster in clusters.clusters) == int(beyond.sum()) > 0
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
        if len(means) >= 6:
            assert float(found.t[0, r, c]) == pytest.approx(stats.ttest_1samp(means, 0).statistic, rel=1e-3, abs=1e-4)
        else:
            assert math.isnan(found.t[0, r, c]) and math.isnan(found.p_values[0, r, c])


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
    assert not found.intervals and found.note == "No intervals: 1 photograph, and 20 are needed."
    negative = ModelSaliency.from_maps(-torch.ones(3, 1, SIZE, SIZE), None, face).concentration()
    assert math.isnan(negative.entropy) and math.isnan(negative.gini) and not negative.intervals
    assert negative.as_json()["gini"] is None


def test_corrected_concentration_equals_a_loop(face: CanonicalFace) -> None:
    """Each person left out in turn; pixels that truly have nothing are shrunk by their noise."""
    generator = torch.Generator().manual_seed(6)
    maps, who = people(face, 21, generator, photos=2, elsewhere=0.0)
    coverage = torch.rand(maps.shape, generator=generator) > 0.2
    found = ModelSaliency.from_maps(maps, coverage.float(), face, who).concentration(level=0.9)
    values, seen = maps[:, 0].double().numpy(), coverage[:, 0].numpy()

    def mean_of(kept: list[int]) -> np.ndarray:
        return (values * seen)[kept].sum(0) / seen[kept].sum(0).clip(1)

    def measures_of(mean: np.ndarray, noise: np.ndarray) -> np.ndarray:
        shrunk = np.array([max(m - v / m, 0.0) if m > 0 else 0.0 for m, v in zip(mean.flat, noise.flat, strict=True)])
        share = shrunk / shrunk.sum()
        entropy = -sum(s * math.log(s) for s in share if s > 0)
        gini = np.abs(share[:, None] - share).sum() / (2 * len(share))
        return np.array([entropy, math.exp(entropy) / len(share), gini])

    names = list(dict.fromkeys(who))
    means = [mean_of([n for n in range(42) if who[n] != name]) for name in names]
    mean = mean_of(list(range(42)))
    noise = 20 / 21 * sum((each - mean) ** 2 for each in means)
    without = np.array([measures_of(each, noise * 21 / 20) for each in means])
    corrected = 21 * measures_of(mean, noise) - 20 * without.mean(0)
    margin = stats.t.ppf(0.95, 20) * np.sqrt(20 / 21 * ((without - without.mean(0)) ** 2).sum(0))
    for name, value, half in zip(("entropy", "effective_area", "gini"), corrected, margin, strict=True):
        assert found.corrected[name] == pytest.approx(value)
        most = math.log(SIZE * SIZE) if name == "entropy" else 1.0
        assert found.intervals[name] == pytest.approx((max(0.0, value - half), min(most, value + half)))


def test_few_people_have_no_interval_of_the_concentration(face: CanonicalFace) -> None:
    maps, who = people(face, 20, torch.Generator().manual_seed(7))
    few = ModelSaliency.from_maps(maps[1:], None, face, who[1:]).concentration()
    assert not few.intervals and not few.corrected and few.note == "No intervals: 19 people, and 20 are needed."
    assert ModelSaliency.from_maps(maps, None, face, who).concentration().intervals.keys() == {
        "entropy",
        "effective_area",
        "gini",
    }
    with pytest.raises(CanonicalError, match="level: expected a number above 0 and below 1, got 95"):
        ModelSaliency.from_maps(maps, None, face, who).concentration(level=95)


def test_noise_where_the_face_has_nothing_is_corrected_for(face: CanonicalFace) -> None:
    """40 people: noise adds 0.25 nats to the entropy of the plain map, and next to nothing to the corrected one."""
    truth = ModelSaliency.from_maps(true_map(face, 0.0)[None, None], None, face).concentration().entropy
    generator = torch.Generator().manual_seed(8)
    found = [
        ModelSaliency.from_maps(people(face, 40, generator, elsewhere=0.0)[0], None, face).concentration()
        for _ in range(40)
    ]
    assert np.mean([each.entropy for each in found]) - truth > 0.2
    assert abs(np.mean([each.corrected["entropy"] for each in found]) - truth) < 0.06


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
