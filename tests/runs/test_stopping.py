"""How many photographs are enough: what the rules read, what they foretell, and a real network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import captum_canonical as cc
from captum_canonical.data.records import FaceBatch
from captum_canonical.runs.stopping import FIRST, Verdict, checkpoints
from captum_canonical.statistics.split_half import split_half_correlation
from run_tools import explain, photographs
from studies.face_nets.networks import load

SIDE = 32
Rule = cc.StandardError | cc.SplitHalf


@pytest.fixture(scope="module")
def face() -> cc.CanonicalFace:
    return cc.CanonicalFace.default(SIDE)


class Population:
    """Smooth maps: one pattern, whose variance over the pixels is about 1, and noise of another variance."""

    def __init__(self, noise: float, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._noise = noise
        pattern = self._smooth(1)
        self.pattern = (pattern - pattern.mean()) / pattern.std(correction=0)

    def maps(self, count: int) -> Tensor:
        return self.pattern + math.sqrt(self._noise) * self._smooth(count)

    def _smooth(self, count: int) -> Tensor:
        window = torch.hann_window(9, periodic=False, dtype=torch.float64)[1:-1]
        kernel = torch.outer(window, window)[None, None]
        drawn = torch.randn(count, 1, SIDE, SIDE, generator=self._generator, dtype=torch.float64)
        return F.conv2d(drawn, kernel / kernel.square().sum().sqrt(), padding=3)


# -------------------------------------------------------------------------------------------------- what they read
def test_standard_error_beside_the_spread_of_the_map(face: cc.CanonicalFace) -> None:
    maps = Population(4.0, 0).maps(50)
    coverage = torch.ones_like(maps)
    coverage[:30, :, :, :4] = 0  # seen in 20 of 50, too few to be judged
    monitor = cc.StandardError(0.1).begin(face, False, 0)
    for part in (slice(0, 7), slice(7, 50)):
        monitor.update(maps[part], coverage[part], [None] * len(maps[part]))
    judged = maps[:, 0, :, 4:]
    errors = judged.var(0) / 50
    expected = math.sqrt(float(errors.mean()) / float(judged.mean(0).var(correction=0)))
    verdict = monitor.verdict()
    assert verdict.value == pytest.approx(expected, rel=1e-9) and verdict.photos == 50
    assert verdict.noise == pytest.approx(4.0, rel=0.5)


def test_split_half_is_that_of_the_statistics(face: cc.CanonicalFace) -> None:
    """Other halves at random, so alike only."""
    maps = Population(30.0, 1).maps(80)
    coverage = torch.ones_like(maps)
    monitor = cc.SplitHalf(0.9).begin(face, False, 3)
    for start in range(0, 80, 5):
        monitor.update(maps[start : start + 5], coverage[start : start + 5], [None] * 5)
    expected = split_half_correlation(maps, splits=200).spearman_brown
    assert monitor.verdict().value == pytest.approx(expected, abs=0.05)
    again = cc.SplitHalf(0.9).begin(face, False, 3)
    again.update(maps, coverage, [None] * 80)
    assert again.verdict().value == pytest.approx(monitor.verdict().value, rel=1e-12)  # whatever the chunks


def test_a_person_is_in_one_half(face: cc.CanonicalFace) -> None:
    """Maps without a pattern in common, each person's in four photographs, which come in any order."""
    maps = Population(1.0, 4)._smooth(30).repeat(4, 1, 1, 1)
    values = {}
    for name, people in (("people", [f"person {n % 30}" for n in range(120)]), ("photographs", [None] * 120)):
        monitor = cc.SplitHalf(0.5).begin(face, False, 0)
        for start in range(0, 120, 8):
            part = slice(start, start + 8)
            monitor.update(maps[part], torch.ones_like(maps[part]), people[part])
        values[name] = monitor.verdict().value
    expected = split_half_correlation(maps, splits=200, identities=[n % 30 for n in range(120)]).spearman_brown
    assert values["people"] == pytest.approx(expected, abs=0.1) and abs(values["people"]) < 0.25
    assert values["photographs"] > 0.6


@pytest.mark.parametrize("rule", [cc.StandardError(0.2), cc.SplitHalf(0.6)])
def test_pooled_maps_need_fewer(face: cc.CanonicalFace, rule: Rule) -> None:
    population = Population(10.0, 2)
    population.pattern = population.pattern + population.pattern.flip(-1)
    maps = population.maps(64)
    verdicts = []
    for symmetric in (False, True):
        monitor = rule.begin(face, symmetric, 0)
        monitor.update(maps, torch.ones_like(maps), [None] * len(maps))
        verdicts.append(monitor.verdict())
    assert verdicts[1].needed < 0.8 * verdicts[0].needed


@pytest.mark.parametrize("rule", [cc.StandardError(0.2), cc.SplitHalf(0.6)])
def test_where_nothing_is_known_yet(face: cc.CanonicalFace, rule: Rule) -> None:
    few, constant, unseen = (rule.begin(face, False, 0) for _ in range(3))
    few.update(torch.rand(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE), [None])
    constant.update(torch.ones(40, 1, SIDE, SIDE), torch.ones(40, 1, SIDE, SIDE), [None] * 40)
    unseen.update(torch.zeros(40, 1, SIDE, SIDE), torch.zeros(40, 1, SIDE, SIDE), [None] * 40)
    for monitor in (few, constant, unseen):
        verdict = monitor.verdict()
        assert not verdict.met and verdict.needed is None and "the number needed is unknown" in str(verdict)
        json.dumps(verdict.as_json(), allow_nan=False)


def test_arguments_and_checkpoints() -> None:
    for wrong in (0, 1, -0.5, 2, "0.1", True, float("nan")):
        with pytest.raises(cc.CanonicalError, match="above 0 and below 1"):
            cc.StandardError(wrong)  # type: ignore[arg-type]
        with pytest.raises(cc.CanonicalError, match="above 0 and below 1"):
            cc.SplitHalf(wrong)  # type: ignore[arg-type]
    assert list(islice(checkpoints(), 8)) == [32, 48, 64, 96, 128, 192, 256, 384] and FIRST == 32
    for rule in (cc.StandardError(0.07), cc.SplitHalf(0.93)):  # the formulas are each other's inverse
        needed = rule.needed(11.0)
        assert rule.met(rule.expected(11.0, needed)) and not rule.met(rule.expected(11.0, needed - 1))
    assert "64 would bring" in str(Verdict(cc.SplitHalf(0.6), 32, 0.8, 8.0))


# --------------------------------------------------------------------------------------------- what they foretell
@pytest.mark.parametrize(("rule", "noise"), [(cc.SplitHalf(0.95), 10.0), (cc.StandardError(0.1), 3.0)])
def test_predicted_and_true_number_agree_within_a_quarter(face: cc.CanonicalFace, rule: Rule, noise: float) -> None:
    """Predicted from the first 96; the true number is where the same run meets the rule, 8 at a time."""
    shares = []
    for seed in range(20):
        population, monitor, predicted = Population(noise, seed), rule.begin(face, False, seed), None
        for photos in range(8, 1000, 8):
            maps = population.maps(8)
            monitor.update(maps, torch.ones_like(maps), [None] * len(maps))
            if photos == 96:
                predicted = monitor.verdict().needed
            if photos >= 96 and monitor.verdict().met:
                break
        assert photos > 130 and predicted is not None
        shares.append(predicted / photos)
    agree = torch.tensor(shares)
    assert float(((agree - 1).abs() <= 0.25).double().mean()) >= 0.9, shares
    assert abs(float(agree.median()) - 1) <= 0.15, shares


@pytest.mark.parametrize("rule", [cc.SplitHalf(0.9), cc.StandardError(0.2)])
def test_what_is_predicted_for_partly_covered_faces_is_what_is_read(face: cc.CanonicalFace, rule: Rule) -> None:
    """Photographs that show 60 % of the pixels each: as many more are needed as if each were as much noisier."""
    population, monitor = Population(4.0, 7), rule.begin(face, False, 0)
    coverage = (torch.rand(96, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.6).double()
    monitor.update(population.maps(96) * coverage, coverage, [None] * 96)
    verdict = monitor.verdict()
    assert verdict.expected(96) == pytest.approx(verdict.value, rel=0.02)


def test_a_run_stops_and_may_go_on(tmp_path: Path) -> None:
    """Judged on whole batches; what was computed beyond stays for a later call with another rule."""
    images, faces, labels = photographs(70)
    images[:, :, 8:24, 12:20] += 0.1
    data = (images, faces, labels)
    stopped = explain(tmp_path / "run", data=data, until=cc.SplitHalf(0.3), batch_size=6)
    verdicts = stopped.run.stopping["verdicts"]
    assert [verdict["photos"] for verdict in verdicts] == [36, 48, 66] and stopped.n == 66  # 32 and 64 in sixes
    assert [verdict["met"] for verdict in verdicts] == [False, False, True] and stopped.run.complete
    assert verdicts[-1]["says"] in repr(stopped)
    whole = explain(tmp_path / "run", data=data, batch_size=6)
    assert whole.n == 70 and whole.run.stopping == {}
    back = explain(tmp_path / "run", data=data, until=cc.SplitHalf(0.3), batch_size=6)
    assert back.n == 66 and torch.equal(back.mean, stopped.mean)
    never = explain(tmp_path / "run", data=data, until=cc.SplitHalf(0.99), batch_size=6)
    assert never.n == 70 and never.run.complete and "not met" in repr(never)


def test_a_run_is_judged_by_its_people(tmp_path: Path) -> None:
    """All photographs of one person are in one half; two halves, of which nobody is in both, are needed to judge."""
    images, faces, labels = photographs(70)
    images[:, :, 8:24, 12:20] += 0.1
    nobody = [None] * 70
    data = FaceBatch(images, faces, labels, nobody, nobody, [f"{n}" for n in range(70)], torch.arange(70))
    arguments = {"until": cc.SplitHalf(0.3), "batch_size": 6}
    assert explain(tmp_path / "run", data=data, **arguments).run.stopping["stopped_at"] == 66
    later = explain(tmp_path / "run", data=replace(data, identities=["Ann"] * 70), **arguments)  # they are used at once
    assert later.run.complete and later.n == 70
    assert {verdict["value"] for verdict in later.run.stopping["verdicts"]} == {None}


def test_the_expression_network_stops_early_and_other_photographs_agree(shared: Path, tmp_path: Path) -> None:
    """Log-odds of a real network; its map is compared with one of the photographs that it did not use."""
    photos = sorted((shared / "data/celeba_prnet/images").iterdir())
    cache = tmp_path / "faces"
    network = load(shared / "models", "face_expression")
    confidence = cc.ClassConfidence(network, link="log_odds")
    arguments = {"baselines": network.normalize.mean, "patch_size": 15, "num_points": 64, "show_progress": False}
    data = cc.AlignedFaces(photos, size=112, margin=0.01, cache=cache)
    stopped = cc.explain_dataset(confidence, data, tmp_path / "run", until=cc.SplitHalf(0.85), **arguments)
    assert stopped.n < len(data) == 60
    verdict = stopped.run.stopping["verdicts"][-1]
    assert verdict["met"] and verdict["value"] >= 0.85
    used = set(stopped.run.records["place"])
    others = [path for place, path in enumerate(photos) if place not in used]
    rest = cc.AlignedFaces(others, size=112, margin=0.01, cache=cache)
    fresh = cc.explain_dataset(confidence, rest, tmp_path / "others", **arguments)
    assert fresh.n == 60 - stopped.n
    both = (stopped.count[0] >= stopped.n / 2) & (fresh.count[0] >= fresh.n / 2)
    agreement = float(torch.corrcoef(torch.stack([stopped.mean[0][both], fresh.mean[0][both]]))[0, 1])
    print(f"stopped at {stopped.n} with {verdict['value']:.3f}; {fresh.n} others: {agreement:.3f}")
    noise = verdict["noise"]
    predicted = 1 / math.sqrt((1 + noise / stopped.n) * (1 + noise / fresh.n))
    assert agreement > 0.8 and abs(agreement - predicted) < 0.1
