"""Entropy, effective area and Gini coefficient: by hand, corrected for noise, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people, true_map

FACE_SIZE = SIZE


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


def test_noise_is_corrected_for_where_the_true_map_is_zero(face: CanonicalFace) -> None:
    """40 people: noise adds 0.25 nats to the entropy of the plain map, and next to nothing to the corrected one."""
    truth = ModelSaliency.from_maps(true_map(face, 0.0)[None, None], None, face).concentration().entropy
    generator = torch.Generator().manual_seed(8)
    found = [
        ModelSaliency.from_maps(people(face, 40, generator, elsewhere=0.0)[0], None, face).concentration()
        for _ in range(40)
    ]
    assert np.mean([each.entropy for each in found]) - truth > 0.2
    assert abs(np.mean([each.corrected["entropy"] for each in found]) - truth) < 0.06


def test_intervals_of_the_concentration_contain_the_truth(face: CanonicalFace) -> None:
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
