"""Rotating points: which photograph evaluates what, whatever happens to the run, and what the mean is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.point_sets import point_sets
from captum_canonical.runs.stopping import SplitHalf, StandardError
from run_tools import COUNT, Network, explain, face, photographs, start, summary, together

NUMBER = 200  # points of each photograph at most: six sets of 170 or 171 of the 1,024


def rotating(out: Path, **arguments: Any) -> cc.ModelSaliency:
    return explain(out, **{"num_points": NUMBER, "points": "rotating", **arguments})


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> cc.ModelSaliency:
    return rotating(tmp_path_factory.mktemp("rotating") / "run")


# ------------------------------------------------------------------------------------------------ single maps
def expected_map(place: int, row: int, count: int) -> tuple[Tensor, Tensor]:
    """The map of one photograph in a run, in a plain loop over the pixels of the patches of its set."""
    images, faces, _ = photographs()
    network, canonical = Network(), face()
    x, mesh = images[place : place + 1], faces[place : place + 1]
    with torch.no_grad():
        target = int(network(x).argmax())
        clean = network(x)[0, target].double()
        total, hits = torch.zeros(32, 32, dtype=torch.float64), torch.zeros(32, 32, dtype=torch.float64)
        sets = point_sets(canonical.points(canonical.vertices), count, 0)
        for point in torch.nonzero(sets == row % count).flatten().tolist():
            if not canonical.points_seen(mesh.visible)[0, point]:
                continue
            here, there = canonical.points(mesh.vertices)[0, point], canonical.points(canonical.vertices)[point]
            box, painted = (
                [range(max(0, low), min(32, low + 7)) for low in torch.floor(at[:2] - 3.0).int().tolist()]
                for at in (here, there)
            )
            hidden = x.clone()
            for column in box[0]:
                for line in box[1]:
                    hidden[0, :, line, column] = 0
            drop = clean - network(hidden)[0, target].double()
            for column in painted[0]:
                for line in painted[1]:
                    total[line, column] += drop
                    hits[line, column] += 1
    return torch.where(hits > 0, total / hits.clamp(min=1), 0.0), hits


@pytest.mark.parametrize("row", [0, 5, COUNT - 1])
def test_each_photograph_has_the_drops_of_its_set(result: cc.ModelSaliency, row: int) -> None:
    values, hits = expected_map(result.records["place"][row], row, 6)
    assert_close(torch.tensor(result.photos.maps[row, 0]).double(), values, rtol=1e-4, atol=1e-6)
    assert_close(torch.tensor(result.photos.coverage[row, 0]).double(), hits, rtol=0, atol=0)


def test_the_mean_is_over_the_photographs_that_evaluate_a_place(result: cc.ModelSaliency) -> None:
    maps, hits = torch.from_numpy(result.photos.maps.copy()).double(), torch.from_numpy(result.photos.coverage.copy())
    for line, column in [(16, 16), (10, 12), (22, 17)]:
        known = [float(maps[n, 0, line, column]) for n in range(COUNT) if hits[n, 0, line, column] > 0]
        assert int(result.count[0, line, column]) == len(known)
        assert float(result.mean[0, line, column]) == pytest.approx(sum(known) / len(known), abs=1e-12)
    assert 0 < float(result.count.double().mean()) < COUNT


def test_single_maps_say_what_they_are_made_of(result: cc.ModelSaliency, tmp_path: Path) -> None:
    assert result.photos.approximation == result.run.approximation == "171 of 1,024 points"
    assert explain(tmp_path / "run").photos.approximation == ""
    page = cc.report(result, tmp_path / "page.html").read_text()
    assert "Photographs in which the place is evaluated." in page and "not finished" not in page
    assert "each photograph evaluates 171 of 1,024 points" in page
    assert "each from 171 of 1,024 points" in page


def test_as_many_points_as_there_are_give_the_complete_run(tmp_path: Path) -> None:
    complete, one_set = explain(tmp_path / "a", num_points=None), rotating(tmp_path / "b", num_points=1024)
    assert_close(one_set.mean, complete.mean, rtol=0, atol=0)
    assert_close(one_set.count, complete.count, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------- resume, processes
def test_a_run_that_was_cut_off_goes_on_with_the_same_sets(result: cc.ModelSaliency, tmp_path: Path) -> None:
    calls = []

    def stop(number: int) -> None:
        calls.append(number)
        if len(calls) > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotating(tmp_path / "run", network=Network(stop))
    assert 0 < len(cc.ModelSaliency.open(tmp_path / "run").photos) < COUNT
    rotating(tmp_path / "run")
    assert summary(tmp_path / "run") == summary(result.run.path)


def test_several_processes_evaluate_the_same_points(tmp_path: Path) -> None:
    options = {"num_points": NUMBER, "points": "rotating"}
    start(tmp_path / "output.txt", "explain", out=tmp_path / "alone", **options).join()
    codes, output = together(tmp_path, "explain", 2, out=tmp_path / "run", **options)
    assert codes == [0, 0], output
    assert summary(tmp_path / "run") == summary(tmp_path / "alone")


@pytest.mark.parametrize("other", [{"points": "fixed"}, {"num_points": 100}, {"seed": 1}])
def test_no_run_goes_on_with_other_points(tmp_path: Path, other: dict[str, Any]) -> None:
    rotating(tmp_path / "run")
    with pytest.raises(CanonicalError, match=r"arguments|points|seed"):
        rotating(tmp_path / "run", **other)


def test_photographs_that_fail_leave_the_sets_of_others(tmp_path: Path, result: cc.ModelSaliency) -> None:
    def fail(number: int) -> None:
        if number == bad:
            raise ValueError("not to my taste")

    bad = result.records["place"][3]
    found = rotating(tmp_path / "run", network=Network(fail))
    assert found.run.records["status"].count("failed") == 1
    others = [row for row in range(COUNT) if row != 3]
    assert_close(found.photos.coverage, result.photos.coverage[others], rtol=0, atol=0)
    assert_close(found.photos.maps, result.photos.maps[others], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------- what follows
def test_rules_judge_places_that_half_as_many_evaluate_as_can_be(tmp_path: Path) -> None:
    images, faces, targets = photographs(40)
    for rule in (StandardError(0.5), SplitHalf(0.5)):
        found = rotating(tmp_path / str(rule), data=(images, faces, targets), until=rule)
        verdict = found.run.stopping["verdicts"][0]
        assert verdict["value"] is not None and 0 < verdict["value"] < 10


def test_what_rotates_is_tested_where_enough_evaluate_it(tmp_path: Path) -> None:
    assert explain(tmp_path / "fixed", num_points=20, patch_size=3).evaluated == 1
    result = rotating(tmp_path / "run", num_points=20, patch_size=3)
    assert 0 < result.evaluated < 0.9
    assert result.evaluated == float(result.count.max()) / COUNT
    found = result.significance(permutations=99)
    assert found.tested.any()
    enough = result.count.double() >= 0.5 * result.evaluated * COUNT
    assert torch.equal(found.tested, enough & (result.count >= 2) & face().raster.covered)


def test_two_networks_are_compared_on_the_same_points(tmp_path: Path, result: cc.ModelSaliency) -> None:
    other = Network()
    with torch.no_grad():
        other.layer.weight *= 2
        other.layer.bias *= 2
    twice = rotating(tmp_path / "run", network=other, target=1)
    once = rotating(tmp_path / "once", target=1)
    found = cc.compare_models(twice, once, permutations=99)
    covered = once.count > 0
    assert_close(found.difference[covered], once.mean[covered], rtol=1e-4, atol=1e-6)
    assert found.significance.tested.any()


def test_rotating_and_fixed_maps_are_not_added(tmp_path: Path, result: cc.ModelSaliency) -> None:
    with pytest.raises(CanonicalError, match=r"arguments\.points"):
        result + explain(tmp_path / "run", num_points=NUMBER)


# ---------------------------------------------------------------------------------------------------- mistakes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_points": None}, "num_points: expected with points"),
        ({"num_points": 5000}, "num_points: expected with points"),
        ({"points": "turning"}, "points: expected"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        rotating(tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_only_occlusion_has_points(tmp_path: Path) -> None:
    from captum.attr import Saliency

    with pytest.raises(CanonicalError, match="expects CanonicalOcclusion"):
        rotating(tmp_path / "run", method=Saliency(Network()))


@pytest.mark.parametrize("points", [torch.ones(7, dtype=torch.bool), torch.ones(1024), "all"])
def test_points_of_a_call_are_checked(points: Any) -> None:
    images, faces, _ = photographs(2)
    with pytest.raises(CanonicalError, match=r"points: expected a bool tensor of shape \(2, 1024\) or \(1024,\)"):
        cc.CanonicalOcclusion(Network(), faces, face()).attribute(images, 0, points=points)
