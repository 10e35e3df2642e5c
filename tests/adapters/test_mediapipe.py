"""MediaPipe's meshes: the real package on real photographs, both ways of running it."""

from __future__ import annotations

import io
import os
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.adapters.face_bundle import FACE_NETWORK, read_bundle, widen
from captum_canonical.adapters.mediapipe import MediaPipeAligner, _quiet
from captum_canonical.errors import CanonicalError, MissingDependencyError, NoFaceError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.images import crop_to_face, to_tensor
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import list_photos, read_photo

LEFT_EYE, RIGHT_EYE, NOSE_TIP, EARS = (33, 133, 159, 145), (263, 362, 386, 374), 4, (234, 454)


@pytest.fixture(scope="module")
def mediapipe() -> types.ModuleType:
    package = pytest.importorskip("mediapipe", reason="needs the extra mediapipe")
    if not hasattr(package, "solutions"):
        pytest.skip("needs mediapipe < 0.10.22, which carries its networks")
    return package


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[np.ndarray]:
    return [read_photo(path) for path in list_photos(shared / "data/celeba_prnet/images")]


@pytest.fixture(scope="module")
def bundle(shared: Path) -> Path:
    return shared / "models/face_landmarker.task"


@pytest.fixture(scope="module")
def meshes(mediapipe: types.ModuleType, photos: list[np.ndarray]) -> FaceMesh:
    return MediaPipeAligner(on_missing="skip")(photos)


def test_at_least_59_of_60_faces_are_found(meshes: FaceMesh) -> None:
    assert len(meshes) == 60 and meshes.num_vertices == 468 and meshes.image_size == (218, 178)
    assert len(meshes.missing) <= 1
    assert meshes.topology == "mediapipe-468" and meshes.vertices.dtype == torch.float32


def test_eyes_are_where_celeba_puts_them(meshes: FaceMesh) -> None:
    # Its aligned photographs have the eyes near (69, 111) and (108, 111).
    plane = meshes.vertices[meshes.found][..., :2]
    middle = (plane[:, LEFT_EYE].mean(1) + plane[:, RIGHT_EYE].mean(1)) / 2
    torch.testing.assert_close(middle.median(0).values, torch.tensor([88.5, 111.5]), rtol=0, atol=2.0)


def test_pixel_convention_is_the_continuous_one(photos: list[np.ndarray], meshes: FaceMesh) -> None:
    # The mesh of a mirrored or enlarged photo is the mirrored or enlarged mesh: shifts would show other conventions, of
    # half a pixel per axis where x counts from pixel centres, and of a pixel where the mirror is at W - 1.
    permutation = CanonicalFace.default().permutation
    mirrored = MediaPipeAligner(visibility=False)([photo[:, ::-1] for photo in photos[:20]])
    difference = (mirrored.vertices - meshes[:20].flipped(permutation).vertices)[..., 0]
    assert difference.mean().abs() / 2 < 0.25
    enlarged = MediaPipeAligner(visibility=False)([np.repeat(np.repeat(p, 3, 0), 3, 1) for p in photos[:20]])
    difference = enlarged.resized((218, 178)).vertices - meshes[:20].vertices
    assert difference[..., :2].mean((0, 1)).abs().max() < 0.4


def test_depth_grows_towards_the_camera_in_pixels(meshes: FaceMesh) -> None:
    vertices = meshes.vertices[meshes.found]
    depth = vertices[:, NOSE_TIP, 2] - vertices[:, EARS, 2].mean(1)
    eyes = (vertices[:, 33, :2] - vertices[:, 263, :2]).norm(dim=1)
    assert (depth > 0.5 * eyes).all() and (depth < 2 * eyes).all()


def test_visibility_is_a_depth_test_and_can_be_left_out(photos: list[np.ndarray], meshes: FaceMesh) -> None:
    hidden = 1 - meshes.visible[meshes.found].float().mean(1)
    assert 0.005 < hidden.mean() < 0.15
    vertices = meshes.vertices[meshes.found]
    yaw = (vertices[:, EARS[0], 2] - vertices[:, EARS[1], 2]).abs() / (
        vertices[:, EARS[0]] - vertices[:, EARS[1]]
    ).norm(dim=1)
    assert torch.corrcoef(torch.stack([yaw, hidden]))[0, 1] > 0.6
    assert MediaPipeAligner(visibility=False)(photos[:3]).visible.all()


def test_bundle_and_package_give_the_same_meshes(photos: list[np.ndarray], meshes: FaceMesh, bundle: Path) -> None:
    other = MediaPipeAligner(bundle)(photos[:12])
    eyes = (meshes.vertices[:12, 33] - meshes.vertices[:12, 263]).norm(dim=1)
    difference = (other.vertices - meshes.vertices[:12]).norm(dim=2).mean(1) / eyes
    assert other.num_vertices == 468 and difference.max() < 0.01


def test_tensors_and_arrays_give_the_same_meshes(photos: list[np.ndarray], meshes: FaceMesh) -> None:
    aligner = MediaPipeAligner(denormalize=(0.5, 0.25))
    mesh = aligner((to_tensor(photos[:3]) - 0.5) / 0.25)
    torch.testing.assert_close(mesh.vertices, meshes.vertices[:3])
    torch.testing.assert_close(mesh.visible, meshes.visible[:3])


@pytest.mark.parametrize("with_bundle", [False, True])
def test_several_faces(mediapipe: types.ModuleType, photos: list[np.ndarray], bundle: Path, with_bundle: bool) -> None:
    # Two faces side by side, the right one nearly twice as large. Short-range detection wants them large in the image.
    small, large = photos[0][50:200, 20:160], photos[1][40:210, 10:170]
    scene = np.full((340, 500, 3), 128, np.uint8)
    scene[100:250, 20:160] = small
    scene[:340, 180:500] = np.repeat(np.repeat(large, 2, 0), 2, 1)
    path = bundle if with_bundle else None
    both = MediaPipeAligner(path, face="all", min_detection_confidence=0.3)(scene)
    assert both.image_index is not None and both.image_index.tolist() == [0, 0]
    assert both.boxes[0, 0] > 170 > both.boxes[1, 2]
    one = MediaPipeAligner(path, min_detection_confidence=0.3)(scene)
    torch.testing.assert_close(one.vertices, both.vertices[:1])


@pytest.mark.parametrize("with_bundle", [False, True])
def test_no_face(mediapipe: types.ModuleType, bundle: Path, photos: list[np.ndarray], with_bundle: bool) -> None:
    path = bundle if with_bundle else None
    blank = np.zeros_like(photos[0])
    with pytest.raises(NoFaceError, match=r"1 \(blank.png\)"):
        MediaPipeAligner(path)([photos[0], blank], names=["face.png", "blank.png"])
    assert MediaPipeAligner(path, on_missing="skip")([blank, photos[0]]).missing == (0,)
    for shape in ((1, 1, 3), (2, 90, 3)):
        assert MediaPipeAligner(path, on_missing="skip")(np.zeros(shape, np.uint8)).missing == (0,)


def test_cropped_photo_aligns_to_the_cropped_mesh(photos: list[np.ndarray], meshes: FaceMesh) -> None:
    errors = []
    for row in range(6):
        crop, mesh = crop_to_face(photos[row], meshes[row], margin=0.35, size=256)
        again = MediaPipeAligner(visibility=False)(crop)
        eyes = (mesh.vertices[0, 33] - mesh.vertices[0, 263]).norm()
        errors.append(((again.vertices - mesh.vertices)[0, :, :2] / eyes).mean(0))
    assert torch.stack(errors).mean(0).abs().max() < 0.01


def test_detectors_are_closed_also_after_an_error(
    mediapipe: types.ModuleType, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    solution = mediapipe.solutions.face_mesh.FaceMesh

    class Watched(solution):  # type: ignore[misc, valid-type]
        def __init__(self, **options: object) -> None:
            super().__init__(**options)
            events.append("open")

        def close(self) -> None:
            super().close()
            events.append("close")

    monkeypatch.setattr(mediapipe.solutions.face_mesh, "FaceMesh", Watched)
    MediaPipeAligner()(photos[:2])
    assert events == ["open", "close"]
    monkeypatch.setattr(Watched, "process", lambda self, image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        MediaPipeAligner()(photos[:2])
    assert events == ["open", "close"] * 2


# --------------------------------------------------------------------------------------- the error stream
@pytest.mark.parametrize("with_bundle", [False, True])
def test_nothing_is_printed(
    photos: list[np.ndarray],
    mediapipe: types.ModuleType,
    bundle: Path,
    with_bundle: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    MediaPipeAligner(bundle if with_bundle else None, visibility=False)(photos[:2])
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_only_chatter_is_held_back_and_the_stream_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), _quiet():
        os.write(2, b"I0000 00:00:17.01  1 task_runner.cc:85] GPU suport\nsomebody else\n")
        raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "somebody else\nafter\n"


# ------------------------------------------------------------------------------------------ what is missing
def test_missing_package_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    # A wheel with the networks exists up to Python 3.12; no message recommends what cannot be had.
    advice = r'pip install "mediapipe<0[.]10[.]22"' if sys.version_info < (3, 13) else "face_landmarker.task file"
    with pytest.raises(MissingDependencyError, match=advice):
        MediaPipeAligner()(np.zeros((8, 8, 3), np.uint8))


def test_package_without_networks_is_an_error_that_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = types.ModuleType("mediapipe")
    newer.__version__ = "0.10.31"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mediapipe", newer)
    with pytest.raises(MissingDependencyError, match=r"mediapipe 0.10.31 .*face_landmarker.task.*model_asset_path"):
        MediaPipeAligner()(np.zeros((8, 8, 3), np.uint8))


def test_missing_and_damaged_bundles_are_errors_that_name_the_file(
    mediapipe: types.ModuleType, tmp_path: Path, bundle: Path
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(MissingDependencyError, match=r"absent[.]task"):
        MediaPipeAligner(tmp_path / "absent.task")(image)
    (tmp_path / "text.task").write_text("no bundle")
    (tmp_path / "cut.task").write_bytes(bundle.read_bytes()[:50_000])
    with zipfile.ZipFile(tmp_path / "other.task", "w") as archive:
        archive.writestr("notes.txt", "no network")
    with zipfile.ZipFile(tmp_path / "network.task", "w") as archive:
        archive.writestr(FACE_NETWORK, b"no network")
    for name in ("text.task", "cut.task", "other.task", "network.task"):
        with pytest.raises(CanonicalError, match=name):
            MediaPipeAligner(tmp_path / name)(image)


@pytest.mark.parametrize("arguments", [{"min_detection_confidence": 1.5}, {"max_faces": 0}, {"on_missing": "no"}])
def test_bad_arguments_are_errors(arguments: dict) -> None:
    with pytest.raises(CanonicalError, match=next(iter(arguments))):
        MediaPipeAligner(**arguments)


# ------------------------------------------------------------------------------- bundles with 468 landmarks
def test_network_of_468_landmarks_is_widened_and_others_are_not(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        network = archive.read(FACE_NETWORK)
    widened = widen(network)
    assert widened is not network and len(widened) > len(network)
    assert widen(widened) is widened
    repacked = io.BytesIO(read_bundle(bundle))
    with zipfile.ZipFile(repacked) as archive:
        assert archive.read(FACE_NETWORK) == widened
    whole = tmp_path / "whole.task"
    whole.write_bytes(repacked.getvalue())
    assert read_bundle(whole) == whole.read_bytes()
