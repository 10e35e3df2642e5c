"""ModelSaliency: results of maps and of run folders, and their sums."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.models import compare_models
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.runs.explain import explain_dataset
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.result import ModelSaliency
from face_tools import mesh_of
from saliency_tools import assert_same, drawn_result, result_with_gaps
from simulated_maps import SIZE

FACE_SIZE = SIZE
DIFFERENT = "The maps of the two sides were made with different settings"
SIDES = st.integers(1, 12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_of_maps_in_memory_equals_the_metric(face: CanonicalFace, symmetric: bool) -> None:
    maps, coverage, _ = result_with_gaps(face)
    result = ModelSaliency.from_maps(maps, coverage, face, symmetric=symmetric)
    metric = CanonicalModelSaliency(face, symmetric)
    metric.update(maps, coverage)
    assert_same(result, metric.compute())
    assert result.n == 44 and len(result.photos) == 44 and result.run is None
    np.testing.assert_array_equal(result.photos.maps, np.delete(maps.numpy(), 4, 0))


def test_columns_shapes_and_values_are_checked(face: CanonicalFace) -> None:
    maps = torch.ones(3, 1, SIZE, SIZE)
    with pytest.raises(CanonicalError, match=r"from_maps: identity: expected one entry for each of the 3 photo.*got 2"):
        ModelSaliency.from_maps(maps, None, face, ["a", "b"], score=[1, 2, 3, 4], label=[0, 0, 1])
    with pytest.raises(CanonicalError, match=r"from_maps: expected maps of shape \(N, 1, 24, 24\)"):
        ModelSaliency.from_maps(maps[..., :5], None, face)
    maps[1, 0, 0, 0] = math.nan
    with pytest.raises(CanonicalError, match=r"finite maps wherever they are covered.*rows \[1\]"):
        ModelSaliency.from_maps(maps, None, face)


def test_of_a_run_folder(run: Path, face: CanonicalFace) -> None:
    result = ModelSaliency.open(run)
    assert result.n == 39 and result.run.complete and len(result.photos) == 39
    assert "ModelSaliency of 39 photographs in" in repr(result) and "1 photographs left out" in repr(result)
    maps, coverage = result.photos.maps, result.photos.coverage
    assert maps.shape == (39, 1, SIZE, SIZE) and 7 not in result.records["place"]
    assert_same(result, ModelSaliency.from_maps(np.array(maps), np.array(coverage), face), rtol=1e-9)
    assert len(result.records["score"]) == 39 and None not in result.records["score"]
    lines = result.photos.lines(3, 5)
    np.testing.assert_array_equal(lines[0].numpy(), maps[:, 0, 3:5])
    np.testing.assert_array_equal(lines[1].numpy(), coverage[:, 0, 3:5])


def test_strata_add_up_to_the_whole_in_any_order(run: Path, face: CanonicalFace) -> None:
    for result in (ModelSaliency.open(run), result_with_gaps(face, group=[number % 3 for number in range(45)])[2]):
        parts = list(result.strata("label" if result.run else "group").values())
        total = parts[-1]
        for part in parts[:-1]:
            total = total + part
        assert_same(total, result, rtol=1e-9)
        assert len(total.photos) == result.n and total.photos.maps.shape == result.photos.maps.shape
        assert total.significance(99).units == result.significance(99).units
        lines = total.photos.lines(2, 4)[0].numpy()
        np.testing.assert_array_equal(lines, np.array(total.photos.maps)[:, 0, 2:4])


def test_runs_over_different_photographs_add_up(run: Path, face: CanonicalFace) -> None:
    result = ModelSaliency.open(run)
    _, _, other = result_with_gaps(face)
    total = result + other
    assert total.n == result.n + other.n and set(total.records) >= set(result.records)
    assert total.records["name"][-1] is None and total.photos.maps.shape[0] == total.n
    streamed = ModelSaliency.load(run / "summary.npz") + other
    assert_same(streamed, total)
    assert streamed.photos is None


def test_photographs_are_not_added_twice(run: Path, face: CanonicalFace) -> None:
    result, again = ModelSaliency.open(run), ModelSaliency.open(run)
    with pytest.raises(CanonicalError, match="different photographs, but 39 are in both"):
        result + again
    _, _, memory = result_with_gaps(face, label=[0] * 20 + [1] * 25)
    with pytest.raises(CanonicalError, match="but 19 are in both"):
        memory + memory.strata("label")["0"]
    with pytest.raises(CanonicalError, match="but 44 are in both"):
        memory + memory
    with pytest.raises(CanonicalError, match="expected maps with the same"):
        memory + ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, face, symmetric=True)
    with pytest.raises(TypeError):
        memory + 1


def test_maps_of_other_faces_networks_or_settings_do_not_add_up(tmp_path: Path, face: CanonicalFace) -> None:
    torch.manual_seed(1)
    faces = mesh_of(face, 8, 32)
    networks = [nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval() for _ in range(2)]

    def made(name: str, network: nn.Module, photos: int | None = None, **settings) -> ModelSaliency:
        settings = {"num_points": 8, "batch_size": 4, "seed": 0} | settings
        generator = torch.Generator().manual_seed(len(list(tmp_path.iterdir())) if photos is None else photos)
        data = torch.rand(8, 3, 32, 32, generator=generator), faces, torch.zeros(8, dtype=torch.int64)
        return explain_dataset(network, data, tmp_path / name, canonical_face=face, show_progress=False, **settings)

    one = made("one", networks[0])
    assert (one + made("other order and batches", networks[0], batch_size=3, seed=1)).n == 16
    for name, network, settings, message in (
        ("network", networks[1], {}, r"but network \([0-9a-f]+ and [0-9a-f]+\) differ"),
        ("points", networks[0], {"num_points": 9}, r"but arguments.num_points \(8 and 9\) differ"),
        ("target", networks[0], {"target": 1}, r"but target \(.* and 1\) differ"),
    ):
        other = made(name, network, **settings)
        with pytest.raises(CanonicalError, match=message):
            one + other
        with pytest.raises(CanonicalError, match="made with the same settings"):
            next(iter(one.strata("label").values())) + other
        notes = compare_groups(one, other, permutations=99).notes
        assert [note.split(":")[0] for note in notes[:1]] == [DIFFERENT]
    same_photos = made("second network", networks[1], photos=0), made("points of it", networks[1], 0, num_points=9)
    assert not any(DIFFERENT in note for note in compare_models(one, same_photos[0]).notes)
    assert f"{DIFFERENT}: arguments.num_points (8 and 9)." in compare_models(one, same_photos[1]).notes[0]
    moved = replace(face, vertices=face.vertices + torch.tensor([0.0, 1.0, 0.0]), mirror_symmetric=False)
    for other in (moved, replace(face, triangles=face.triangles[1:], regions={})):
        with pytest.raises(CanonicalError, match="vertices lie in other places"):
            one + ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, other)
    again = CanonicalFace.default(SIZE)
    nearly = replace(again, vertices=again.vertices + 1e-4)
    assert (one + ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, nearly)).n == 10


def test_streamed_results_have_no_single_maps(face: CanonicalFace, run: Path) -> None:
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


@examples(max_examples=60, deadline=None)
@given(
    st.integers(0, 9), SIDES, SIDES, st.integers(0, 99), st.integers(1, 4), st.sampled_from([False, "mass", "extent"])
)
def test_of_one_result(count: int, height: int, width: int, seed: int, people: int, clusters: bool) -> None:
    result = drawn_result(count, height, width, seed, people)
    whole = (1, height, width)
    assert all(getattr(result, name).shape == whole for name in ("mean", "variance", "count", "coverage"))
    found = result.significance(99, clusters=clusters)
    assert found.t.shape == found.p_values.shape == found.mask.shape == found.tested.shape == whole
    assert found.t.dtype == found.p_values.dtype == torch.float64 and found.mask.dtype == torch.bool
    assert torch.equal(found.t.isnan(), found.p_values.isnan())
    known = found.p_values[~found.p_values.isnan()]
    assert bool((known > 0).all()) and bool((known <= 1).all()) and found.sentence
    table = region_table(result)
    assert [row.region for row in table.rows] == list(result.canonical_face.regions)
    for each in (found, table, result.concentration()):
        json.dumps(each.as_json(), allow_nan=False)


@examples(max_examples=25, deadline=None)
@given(st.integers(1, 9), SIDES, SIDES, st.integers(0, 99))
def test_halves_add_up_and_files_hold_what_was_saved(count: int, height: int, width: int, seed: int) -> None:

    result = drawn_result(count, height, width, seed, 3)
    parts = list(result.strata(["odd" if number % 2 else "even" for number in range(result.n)]).values())
    total = parts[0] + parts[1] if len(parts) == 2 else result
    with tempfile.TemporaryDirectory() as folder:
        loaded = ModelSaliency.load(total.save(Path(folder) / "total.npz"))
    for each in (total, loaded):
        for name in ("mean", "variance", "count", "coverage"):
            assert_close(getattr(each, name), getattr(result, name), equal_nan=True)
        assert each.n == result.n
