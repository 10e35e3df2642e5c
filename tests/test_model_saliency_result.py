"""ModelSaliency: of maps, run folders and files; strata, significance and concentration."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_maps import SIZE, people, smooth_noise
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalModelSaliency,
    FaceMesh,
    ModelSaliency,
    explain_dataset,
    region_table,
)

PIXELS = ("mean", "variance", "count", "coverage", "standard_error")


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIZE)


def some(face: CanonicalFace, count: int = 45, seed: int = 0, **columns) -> tuple[Tensor, Tensor, ModelSaliency]:
    generator = torch.Generator().manual_seed(seed)
    maps, _ = people(face, count, generator)
    coverage = torch.randint(0, 3, maps.shape, generator=generator)
    coverage[4] = 0
    maps[coverage == 0] = math.nan
    return maps, coverage, ModelSaliency.from_maps(maps, coverage, face, **columns)


def same(one: ModelSaliency, other: ModelSaliency, rtol: float = 1e-12) -> None:
    for name in PIXELS:
        first, second = getattr(one, name), getattr(other, name)
        assert_close(first, second, rtol=rtol, atol=1e-15 if rtol < 1e-9 else 1e-9, equal_nan=True, msg=name)
    assert one.n == other.n and one.symmetric == other.symmetric


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, face: CanonicalFace) -> Path:
    """The folder of a run over 40 photographs, one of which has no face."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    found = torch.ones(40, dtype=torch.bool)
    found[7] = False
    faces = FaceMesh(
        (face.vertices * 32 / SIZE).repeat(40, 1, 1), image_size=(32, 32), topology=face.topology, found=found
    )
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval()
    data = torch.rand(40, 3, 32, 32), faces, torch.arange(40) % 2
    explain_dataset(network, data, folder, canonical_face=face, num_points=16, show_progress=False)
    return folder


# ------------------------------------------------------------------------------------------------------ of maps
@pytest.mark.parametrize("symmetric", [False, True])
def test_of_maps_in_memory_equals_the_metric(face: CanonicalFace, symmetric: bool) -> None:
    maps, coverage, _ = some(face)
    result = ModelSaliency.from_maps(maps, coverage, face, symmetric=symmetric)
    metric = CanonicalModelSaliency(face, symmetric)
    metric.update(maps, coverage)
    same(result, metric.compute())
    assert result.n == 44 and len(result.photos) == 44 and result.run is None
    np.testing.assert_array_equal(result.photos.maps, np.delete(maps.numpy(), 4, 0))


def test_maps_are_kept_not_copied_and_not_changed(face: CanonicalFace) -> None:
    maps = smooth_noise(6, torch.Generator().manual_seed(0))
    before = maps.clone()
    result = ModelSaliency.from_maps(maps, None, face)
    result.significance(99)
    result.concentration()
    region_table(result)
    assert torch.equal(maps, before) and np.shares_memory(result.photos.maps, maps.numpy())


def test_what_does_not_fit_is_refused(face: CanonicalFace) -> None:
    maps = torch.ones(3, 1, SIZE, SIZE)
    with pytest.raises(CanonicalError, match=r"one entry for each of the 3 maps, got \{'identity': 2, 'score': 4\}"):
        ModelSaliency.from_maps(maps, None, face, ["a", "b"], score=[1, 2, 3, 4], label=[0, 0, 1])
    with pytest.raises(CanonicalError, match=r"from_maps: expected maps of shape \(N, 1, 24, 24\)"):
        ModelSaliency.from_maps(maps[..., :5], None, face)
    maps[1, 0, 0, 0] = math.nan
    with pytest.raises(CanonicalError, match=r"finite maps wherever they are covered.*rows \[1\]"):
        ModelSaliency.from_maps(maps, None, face)


# --------------------------------------------------------------------------------------------------- of a run
def test_of_a_run_folder(run: Path, face: CanonicalFace) -> None:
    result = ModelSaliency.open(run)
    assert result.n == 39 and result.run.complete and len(result.photos) == 39
    assert "ModelSaliency of 39 photographs in" in repr(result) and "1 photographs left out" in repr(result)
    maps, coverage = result.photos.maps, result.photos.coverage
    assert maps.shape == (39, 1, SIZE, SIZE) and 7 not in result.records["place"]
    same(result, ModelSaliency.from_maps(np.array(maps), np.array(coverage), face), rtol=1e-9)
    assert len(result.records["score"]) == 39 and None not in result.records["score"]
    lines = result.photos.lines(3, 5)
    np.testing.assert_array_equal(lines[0].numpy(), maps[:, 0, 3:5])
    np.testing.assert_array_equal(lines[1].numpy(), coverage[:, 0, 3:5])


def test_the_summary_is_written_alike_to_the_byte_and_can_be_loaded(run: Path, tmp_path: Path) -> None:
    result = ModelSaliency.open(run)
    written = (run / "summary.npz").read_bytes()
    result.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == written
    assert result.save_summary() == run / "summary.npz" and (run / "summary.npz").read_bytes() == written
    loaded = ModelSaliency.load(run / "summary.npz")
    same(loaded, result)
    assert loaded.canonical_face.size == result.canonical_face.size and loaded.photos is None
    with np.load(run / "summary.npz", allow_pickle=False) as arrays:
        assert {"mean", "standard_error", "variance", "count", "coverage", "n"} <= set(arrays.files)


def test_pooling_is_remembered_by_the_summary(run: Path) -> None:
    pooled = ModelSaliency.open(run, symmetric=True)
    assert_close(pooled.mean, pooled.mean.flip(-1))
    written = (run / "summary.npz").read_bytes()
    pooled.save_summary()
    try:
        assert ModelSaliency.open(run).symmetric and not ModelSaliency.open(run, symmetric=False).symmetric
    finally:
        (run / "summary.npz").write_bytes(written)
    turned = CanonicalFace.from_vertices(pooled.canonical_face.image, pooled.canonical_face.vertices)
    with pytest.raises(CanonicalError, match="symmetric=True expects"):
        ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, turned, symmetric=True)


def test_files_that_are_none(tmp_path: Path, face: CanonicalFace) -> None:
    _, _, result = some(face)
    path = result.save(tmp_path / "saved.npz")
    for content in (b"", b"no zip", path.read_bytes()[:-200]):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(CanonicalError, match=r"expected a file written by ModelSaliency\.save"):
            ModelSaliency.load(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    for name in ("other.npz", "absent.npz"):
        with pytest.raises(CanonicalError, match=r"expected a file written by ModelSaliency\.save"):
            ModelSaliency.load(tmp_path / name)
    with pytest.raises(CanonicalError, match="cannot be written"):
        result.save(tmp_path / "no" / "folder.npz")
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(CanonicalError, match="expected the result of a run"):
        result.save_summary()


# ------------------------------------------------------------------------------------------------------- adding
def test_strata_add_up_to_the_whole_in_any_order(run: Path, face: CanonicalFace) -> None:
    for result in (ModelSaliency.open(run), some(face, group=[number % 3 for number in range(45)])[2]):
        parts = list(result.strata("label" if result.run else "group").values())
        total = parts[-1]
        for part in parts[:-1]:
            total = total + part
        same(total, result, rtol=1e-9)
        assert len(total.photos) == result.n and total.photos.maps.shape == result.photos.maps.shape
        assert total.significance(99).units == result.significance(99).units
        lines = total.photos.lines(2, 4)[0].numpy()
        np.testing.assert_array_equal(lines, np.array(total.photos.maps)[:, 0, 2:4])


def test_runs_over_different_photographs_add_up(run: Path, face: CanonicalFace) -> None:
    result = ModelSaliency.open(run)
    _, _, other = some(face)
    total = result + other
    assert total.n == result.n + other.n and set(total.records) >= set(result.records)
    assert total.records["name"][-1] is None and total.photos.maps.shape[0] == total.n
    streamed = ModelSaliency.load(run / "summary.npz") + other
    same(streamed, total)
    assert streamed.photos is None


def test_photographs_are_not_added_twice(run: Path, face: CanonicalFace) -> None:
    result, again = ModelSaliency.open(run), ModelSaliency.open(run)
    with pytest.raises(CanonicalError, match="different photographs, but 39 are in both"):
        result + again
    _, _, memory = some(face, label=[0] * 20 + [1] * 25)
    with pytest.raises(CanonicalError, match="but 19 are in both"):
        memory + memory.strata("label")["0"]
    with pytest.raises(CanonicalError, match="but 44 are in both"):
        memory + memory
    with pytest.raises(CanonicalError, match="expected the same"):
        memory + ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, face, symmetric=True)
    with pytest.raises(TypeError):
        memory + 1


# ----------------------------------------------------------------------------------------------------------- strata
def test_strata(face: CanonicalFace) -> None:
    maps = torch.arange(8.0)[:, None, None, None].expand(8, 1, SIZE, SIZE)
    columns = {
        "group": ["a", "a", "b", "b", "b", None, "a", "b"],
        "label": [0, 1, 1, 0, 1, 0, None, 1],
        "predicted": [0, 1, 0, 0, 1, 1, 1, 0],
        "score": [0.1, 0.9, 0.5, 0.6, 0.7, 0.2, 0.3, 0.4],
        "yaw": [-50, -10, 0, 15, 30, 90, 91, None],
    }
    result = ModelSaliency.from_maps(maps, None, face, **columns)

    def means(*arguments, **more) -> dict[str, float]:
        return {name: float(each.mean.mean()) for name, each in result.strata(*arguments, **more).items()}

    assert means("group") == {"a": 7 / 3, "b": 4.0, "not known": 5.0}
    assert means("correct") == {"correct": 2.0, "wrong": 14 / 3, "not known": 6.0}
    assert list(means("true_predicted")) == [
        "0 taken for 0",
        "0 taken for 1",
        "1 taken for 0",
        "1 taken for 1",
        "not known",
    ]
    assert {name: each.n for name, each in result.strata("confidence", bins=2).items()} == {
        "score 0.1 to 0.45": 4,
        "score 0.45 to 0.9": 4,
    }
    scores = {"score 0 to 0.25": 2.5, "score 0.25 to 0.5": 5.0, "not known": 8 / 3}
    assert means("score", bins=[0, 0.25, 0.5]) == pytest.approx(scores)
    assert means("pose") == {"yaw -90 to -15": 0, "yaw -15 to 15": 1.5, "yaw 15 to 90": 4.0, "not known": 6.5}
    assert list(means(["group", "correct"])) == ["a, correct", "b, correct", "b, wrong", "not known"]
    assert means(list("xxyyxxyy")) == {"x": 2.5, "y": 4.5}
    assert result.strata("group")["b"].records["score"] == [0.5, 0.6, 0.7, 0.4]
    for bad, message in (
        ("colour", r"a column among \['group'"),
        (["group", "colour"], "a column, several of them"),
        (list("abc"), "got 3 entries such as"),
    ):
        with pytest.raises(CanonicalError, match=message):
            result.strata(bad)
    with pytest.raises(CanonicalError, match="rising edges"):
        result.strata("score", bins=[1, 0])
    empty = ModelSaliency.from_maps(maps, None, face, group=[None] * 8)
    with pytest.raises(CanonicalError, match="nothing is known"):
        empty.strata("group")


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


def test_a_streamed_result_says_that_it_cannot(face: CanonicalFace, run: Path) -> None:
    metric = CanonicalModelSaliency(face)
    metric.update(torch.ones(3, 1, SIZE, SIZE))
    for result in (metric.compute(), ModelSaliency.load(run / "summary.npz")):
        for ask in (
            result.significance,
            lambda result=result: result.strata("group"),
            lambda result=result: result.concentration(intervals=True),
            lambda result=result: region_table(result, intervals=True),
        ):
            with pytest.raises(CanonicalError, match="maps of single photographs, which a merely streamed or loaded"):
                ask()
        assert not result.concentration().intervals and "streamed" in result.concentration().note
        assert result.records == {} and "without single maps" in repr(result)


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
    from simulated_maps import true_map

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
