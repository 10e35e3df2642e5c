"""Records of quality in data sets, caches and runs: limits, counts by group, strata."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import captum_canonical as cc
from captum_canonical.adapters import FaceMeshAligner
from captum_canonical.data.alignment import GroupCount
from captum_canonical.data.mesh_cache import MeshCache
from captum_canonical.faces.quality import QUALITY
from captum_canonical.run_folder import RunFolder
from dataset_tools import CornerAligner, dataset, write_photos

GROUPS = ("a", "a", "b", "b")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, None, str]]:
    """The package's drawing, large, small, twice, and upside down, each mirrored or not so that no two are equal."""
    folder = tmp_path_factory.mktemp("scenes")
    drawn = (cc.CanonicalFace.default().image.permute(1, 2, 0) * 255).byte().numpy()
    small = cv2.resize(drawn, (112, 112), interpolation=cv2.INTER_AREA)
    pictures = [np.full((260, 480, 3), 128, np.uint8) for _ in GROUPS]
    pictures[0][20:244, 20:244] = drawn
    pictures[1][60:172, 60:172] = small
    pictures[2][20:244, 10:234], pictures[2][60:172, 300:412] = drawn, small
    pictures[3][20:244, 200:424] = drawn[::-1, ::-1]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return [(folder / f"{number}.png", None, group) for number, group in enumerate(GROUPS)]


def aligned(scenes: list[tuple[Path, None, str]], **more: object) -> cc.AlignedFaces:
    return cc.AlignedFaces(scenes, size=64, **more)  # type: ignore[arg-type]


def test_what_is_known_of_each_face_and_which_photographs_hold_several(scenes: list) -> None:
    data = aligned(scenes)
    quality = data.quality
    assert tuple(quality) == QUALITY and all(len(values) == 4 for values in quality.values())
    assert quality["faces"] == [1, 1, 2, 1] and quality["turn"] == [0, 0, 0, 180]
    assert quality["size"][1] == pytest.approx(quality["size"][0] / 2, rel=0.1)
    assert max(abs(value) for value in quality["yaw"]) < 10  # upside down as well
    assert data.counts() == {"a": GroupCount(2), "b": GroupCount(2, several_faces=1)}
    assert data[3].faces.quality["turn"].item() == 180
    batch = data.collate([data[2], data[3]])
    assert batch.faces.quality["faces"].tolist() == [2, 1]


def test_limits_leave_out_with_a_reason_and_are_counted_by_group(scenes: list) -> None:
    with pytest.warns(
        UserWarning, match=r"2 of 4 photographs are left out \(2 low quality; the first is 1.png: size 9"
    ):
        data = aligned(scenes, quality={"size": (150, None), "faces": (None, 1)}).align()
    assert len(data) == 2 and {place: left.kind for place, left in data.left_out.items()} == dict.fromkeys(
        (1, 2), "low quality"
    )
    assert data.left_out[2].reason == "faces 2, at most 1 asked for."
    assert data.counts() == {
        "a": GroupCount(1, low_quality=1),
        "b": GroupCount(1, low_quality=1, several_faces=1),
    }
    assert data.quality["faces"] == [1, 1, 2, 1]  # known of those that are left out, too
    assert data.fingerprint != aligned(scenes).fingerprint


def test_limits_of_what_an_aligner_does_not_tell_are_an_error(tmp_path: Path) -> None:
    write_photos(tmp_path, 2)
    assert len(dataset(tmp_path, quality={"size": (5, 50)})) == 2  # measured, whatever the aligner is
    with pytest.raises(cc.CanonicalError, match="'presence' are given, but the aligner's meshes do not tell it"):
        dataset(tmp_path, quality={"presence": (0.5, None)}).align()
    with pytest.raises(cc.CanonicalError, match="got 'width'"):
        dataset(tmp_path, quality={"width": (5, 50)})


def test_the_cache_keeps_the_quality_and_limits_need_no_new_meshes(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    first = dataset(tmp_path / "photos", cache=tmp_path / "cache").quality
    assert first["size"] == [20, 20, 20] and "presence" not in first
    with pytest.warns(UserWarning, match="3 low quality"):
        again = dataset(tmp_path / "photos", cache=tmp_path / "cache", quality={"size": (None, 10)}).align()
    assert CornerAligner.calls == [] and again.quality == first
    reopened = dataset(tmp_path / "photos", cache=tmp_path / "cache")
    assert reopened[1].faces.quality["sharpness"].item() == pytest.approx(first["sharpness"][1])


def test_another_quality_in_a_cached_file_is_noticed(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    dataset(tmp_path / "photos", cache=tmp_path / "cache").align()
    (file,) = (tmp_path / "cache").iterdir()
    arrays = dict(np.load(file))
    arrays["quality"][0] += 1
    np.savez(file, **arrays)
    with pytest.warns(UserWarning, match="cannot be used"):
        assert MeshCache(tmp_path / "cache").get(file.stem) is None
    with pytest.warns(UserWarning, match="cannot be used"):
        assert dataset(tmp_path / "photos", cache=tmp_path / "cache").quality["size"] == [20]
    assert len(CornerAligner.calls) == 1


def test_runs_hold_the_quality_also_when_they_go_on(scenes: list, tmp_path: Path) -> None:
    face = cc.CanonicalFace.default(32)

    def run(data: object, out: Path) -> cc.ModelSaliency:
        return cc.explain_dataset(
            lambda x: x.mean((1, 2, 3)),
            data,
            out,
            canonical_face=face,
            num_points=8,
            network_key="k",
            show_progress=False,
        )

    for _ in range(2):
        result = run(aligned(scenes), tmp_path / "run")
        places = result.photos.records["place"]
        assert [[1, 1, 2, 1][place] for place in places] == result.photos.records["faces"]
    sizes = result.strata("size", bins=[0, 150, 500])
    assert sorted(len(each.photos) for each in sizes.values()) == [1, 3]
    assert set(result.strata("turn")) == {"0", "180"} or set(result.strata("turn")) == {"0.0", "180.0"}
    stored = json.loads((tmp_path / "run/photographs.json").read_text())
    assert stored["quality"]["faces"] == [1, 1, 2, 1] and set(QUALITY) == set(stored["quality"])
    page = tmp_path / "report.html"
    cc.report(result, page)
    assert "several faces were found" in page.read_text()

    with pytest.raises(cc.CanonicalError, match=r"quality\.faces: nothing there, \[None, 1\.0\] now"):
        with pytest.warns(UserWarning, match="low quality"):
            run(aligned(scenes, quality={"faces": (None, 1)}), tmp_path / "run")

    data = aligned(scenes)
    batch = data.collate([data[number] for number in range(4)])
    assert run(batch, tmp_path / "other").photos.records["turn"].count(180) == 1
    meshes = cc.FaceMesh(torch.stack([face.vertices] * 2), image_size=(32, 32), topology=face.topology)
    plain = run((torch.rand(2, 3, 32, 32), meshes), tmp_path / "plain")
    assert "turn" not in plain.photos.records
    assert "quality" not in RunFolder.open(tmp_path / "plain").photographs


def test_faces_given_as_meshes_are_measured(scenes: list) -> None:
    found = aligned(scenes[:1])
    box = found.face_box(0)
    meshes = FaceMeshAligner()([np.asarray(Image.open(scenes[0][0]))])
    bare = cc.FaceMesh(meshes.vertices, meshes.visible, meshes.image_size, meshes.topology)
    given = aligned(scenes[:1], faces=bare)
    assert given.face_box(0) == pytest.approx(box, abs=0.1)
    assert given.quality["yaw"] == pytest.approx(found.quality["yaw"], abs=0.1)
    assert "faces" not in given.quality
