"""Entropy, effective area and Gini coefficient: by hand, corrected for noise, and how often intervals hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.concentration import NOISE, PAIRS, WITHOUT, measures, slopes
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


def test_slopes_are_those_of_the_measures() -> None:
    means = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    covered = torch.arange(40) % 5 > 0
    found = slopes(means, covered)
    for number, pixel in enumerate(torch.nonzero(covered).flatten().tolist()):
        step = 1e-6 * torch.eye(40, dtype=torch.float64)[pixel]
        expected = (measures(means + step, covered) - measures(means - step, covered)) / 2e-6
        torch.testing.assert_close(found[:, :, number], expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(found[:, 0] == 0, means[:, covered] <= 0)


def test_the_cubic_through_the_noise_ends_at_none() -> None:
    for power, value in ((0, 1.0), (1, 0.0), (2, 0.0), (3, 0.0)):
        assert sum(w * s**power for s, w in zip(NOISE, WITHOUT, strict=True)) == pytest.approx(value, abs=1e-12)


def test_corrected_concentration_equals_a_loop(face: CanonicalFace) -> None:
    """Noise of the people's own covariance is added, person by person and draw by draw."""
    generator = torch.Generator().manual_seed(6)
    maps, who = people(face, 21, generator, photos=2, elsewhere=0.0)
    coverage = torch.rand(maps.shape, generator=generator) > 0.2
    found = ModelSaliency.from_maps(maps, coverage.float(), face, who).concentration(level=0.9)
    values, seen = maps[:, 0].double().numpy(), coverage[:, 0].numpy()
    hits = seen.sum(0).clip(1)
    mean = (values * seen).sum(0) / hits
    names = list(dict.fromkeys(who))
    rows = [[n for n in range(42) if who[n] == name] for name in names]
    added = [((values[own] - mean) * seen[own]).sum(0) / hits for own in rows]
    draws = torch.randn(PAIRS, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    noises = [math.sqrt(21 / 20) * sum(w * a for w, a in zip(row, added, strict=True)) for row in draws]
    noises += [-noise for noise in noises]

    def measures_of(mean: np.ndarray) -> np.ndarray:
        share = mean.clip(0)[seen.any(0)]
        share = share / share.sum()
        entropy = -sum(s * math.log(s) for s in share if s > 0)
        gini = ((2 * np.arange(1, len(share) + 1) - len(share) - 1) * np.sort(share)).sum() / len(share)
        return np.array([entropy, math.exp(entropy) / len(share), gini])

    def extended(mean: np.ndarray) -> np.ndarray:
        levels = [measures_of(mean)]
        levels += [
            np.mean([measures_of(mean + math.sqrt(s**2 - 1) * noise) for noise in noises], 0) for s in (1.5, 2, 2.5)
        ]
        return np.array([np.polyval(np.polyfit([1, 1.5, 2, 2.5], column, 3), 0) for column in np.transpose(levels)])

    corrected = extended(mean)
    influence = np.array([(extended(mean + 1e-6 * each) - extended(mean - 1e-6 * each)) / 2e-6 for each in added])
    margin = stats.t.ppf(0.95, 20) * np.sqrt(21 / 20 * (influence**2).sum(0))
    for name, value, half in zip(("entropy", "effective_area", "gini"), corrected, margin, strict=True):
        assert found.corrected[name] == pytest.approx(value)
        most = math.log(SIZE * SIZE) if name == "entropy" else 1.0
        assert found.intervals[name] == pytest.approx((max(0.0, value - half), min(most, value + half)), rel=1e-3)


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


def test_noise_whose_correction_leads_too_far_has_no_interval(face: CanonicalFace) -> None:
    """A map that is the same everywhere, whose entropy cannot be larger."""
    maps = 0.15 + torch.randn(200, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = ModelSaliency.from_maps(maps, None, face).concentration()
    for name, (low, high) in found.intervals.items():
        assert 0 <= low < high and low <= found.corrected[name] <= high
    lost = {"entropy", "effective_area", "gini"} - found.intervals.keys()
    assert "entropy" in lost and lost.isdisjoint(found.corrected)
    assert "None of entropy, effective area: corrected for the noise in the map, they lie beyond what" in found.note


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
