"""ModelSaliency: of maps, run folders and files; strata, significance and concentration."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalModelSaliency,
    FaceMesh,
    ModelSaliency,
    compare_groups,
    compare_models,
    explain_dataset,
    region_table,
)
from simulated_maps import SIZE, people, smooth_noise

PIXELS = ("mean", "variance", "count", "coverage", "standard_error")

DIFFERENT = "The maps of the two sides were made with different settings"


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
    face_of_another_size = ModelSaliency(*result.pixels, result.n, canonical_face=CanonicalFace.default(16))
    with pytest.raises(CanonicalError, match=r"the shapes .* instead of \(1, 16, 16\)"):
        ModelSaliency.load(face_of_another_size.save(tmp_path / "mixed.npz"))
    with pytest.raises(CanonicalError, match="cannot be written"):
        result.save(tmp_path / "no" / "folder.npz")
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(CanonicalError, match="expected the result of a run"):
        result.save_summary()


def test_a_damaged_file_is_never_anything_but_a_canonical_error(tmp_path: Path) -> None:
    small = CanonicalFace.default(8)
    whole = ModelSaliency.from_maps(torch.ones(3, 1, 8, 8), None, small).save(tmp_path / "whole.npz").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for turn in range(300):
        content = bytearray(whole)
        place = generator.integers(len(content)) if turn % 3 == 0 else -1 - generator.integers(900)
        content[place] = generator.integers(256)
        (tmp_path / "damaged.npz").write_bytes(content)
        try:
            loaded = ModelSaliency.load(tmp_path / "damaged.npz")
            assert torch.equal(loaded.mean, torch.ones(1, 8, 8).double())  # what was hit means nothing, such as a date
        except CanonicalError:
            refused += 1
    assert refused > 100


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
    with pytest.raises(CanonicalError, match="expected maps with the same"):
        memory + ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, face, symmetric=True)
    with pytest.raises(TypeError):
        memory + 1


def test_maps_of_other_faces_networks_or_settings_do_not_add_up(tmp_path: Path, face: CanonicalFace) -> None:
    torch.manual_seed(1)
    faces = FaceMesh((face.vertices * 32 / SIZE).repeat(8, 1, 1), image_size=(32, 32), topology=face.topology)
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


# ------------------------------------------------------------------------------------------- without single maps
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
