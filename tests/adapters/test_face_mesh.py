"""FaceMeshAligner: MediaPipe's networks and steps in PyTorch, beside MediaPipe itself."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, NoFaceError
from captum_canonical.adapters import FaceMeshAligner, MediaPipeAligner
from captum_canonical.adapters.face_boxes import anchors, decode, merge_overlapping
from captum_canonical.adapters.face_detection import FaceSearch, disagreement
from captum_canonical.adapters.face_networks import WEIGHTS
from captum_canonical.adapters.face_views import FoundFace, Square, View

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
EYES = ((33, 133), (263, 362))


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """The package's drawing on a grey ground, off the middle."""
    canvas = np.full((300, 400, 3), 128, np.uint8)
    canvas[40:264, 90:314] = (CanonicalFace.default().image.permute(1, 2, 0) * 255).byte().numpy()
    return canvas


def eye_distance(vertices: np.ndarray) -> float:
    right, left = (vertices[list(pair), :2].mean(0) for pair in EYES)
    return float(np.linalg.norm(right - left))


def test_profiles_have_the_mesh_of_the_direction_in_which_they_stand(shared: Path) -> None:
    """The detector is surest of these when they lie on their side, but their mesh is best as they stand."""
    pytest.importorskip("mediapipe.modules.face_landmark")
    names = ("1634", "2362", "4094", "4593", "3933")
    photos = [np.asarray(Image.open(shared / f"data/fairface/images/{name}.jpg")) for name in names]
    ours, theirs = FaceMeshAligner()(photos), MediaPipeAligner()(photos)
    apart = (ours.vertices - theirs.vertices)[..., :2].norm(dim=2).amax(1)
    assert (apart < 0.01 * (theirs.vertices[:, 33] - theirs.vertices[:, 263]).norm(dim=1)).all(), apart


def test_meshes_are_those_of_mediapipe(shared: Path) -> None:
    pytest.importorskip("mediapipe.modules.face_landmark")
    photos = [np.asarray(Image.open(path)) for path in sorted((shared / "data/celeba_prnet/images").glob("*.jpg"))]
    ours, theirs = FaceMeshAligner()(photos), MediaPipeAligner()(photos)
    assert len(photos) == 60 and ours.missing == theirs.missing == ()
    distance = (ours.vertices - theirs.vertices).norm(dim=2)
    eyes = torch.tensor([eye_distance(vertices.numpy()) for vertices in theirs.vertices])
    share = distance / eyes[:, None]
    assert share.mean() < 5e-4 and share.max() < 0.02
    assert (ours.visible == theirs.visible).float().mean() > 0.999


def test_turned_photographs_give_the_turned_mesh(drawn: np.ndarray) -> None:
    height, width = drawn.shape[:2]
    (upright,) = FaceSearch(CPU).faces([drawn])[0]
    assert upright.turn == 0 and upright.upright
    for quarters in (1, 2, 3):
        (found,) = FaceSearch(CPU).faces([np.ascontiguousarray(np.rot90(drawn, quarters))])[0]
        x, y = upright.vertices[:, 0], upright.vertices[:, 1]
        there = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[quarters]
        distance = np.hypot(found.vertices[:, 0] - there[0], found.vertices[:, 1] - there[1])
        assert found.turn == 90 * quarters and distance.max() < 0.05 * eye_distance(upright.vertices)


def test_turned_photographs_are_not_looked_for_on_request(drawn: np.ndarray) -> None:
    upside_down = np.ascontiguousarray(drawn[::-1, ::-1])
    found = FaceSearch(CPU, turned=False).faces([upside_down])[0]
    assert all(face.turn == 0 and not face.upright for face in found)


def test_no_real_photograph_gets_a_mesh_that_is_upside_down(shared: Path) -> None:
    with open(shared / "data/lfw/photos.csv", newline="") as table:
        paths = [shared / "data/lfw" / row["path"] for row in csv.DictReader(table)][::360]
    assert len(paths) == 13
    for number, path in enumerate(paths):
        quarters, upright = number % 3 + 1, np.asarray(Image.open(path).convert("RGB"))
        faces = FaceSearch(CPU).faces([np.ascontiguousarray(np.rot90(upright, quarters))])[0]
        assert {face.turn for face in faces} == {90 * quarters}


def test_batches_and_sizes_do_not_matter(drawn: np.ndarray) -> None:
    photos = [drawn, drawn[20:280, 60:350], np.zeros((50, 80, 3), np.uint8), drawn[:, ::-1]]
    together = FaceSearch(CPU).faces([np.ascontiguousarray(photo) for photo in photos])
    alone = [FaceSearch(CPU).faces([np.ascontiguousarray(photo)])[0] for photo in photos]
    assert [len(faces) for faces in together] == [len(faces) for faces in alone] == [1, 1, 0, 1]
    for one, other in zip(together, alone, strict=True):
        for face, same in zip(one, other, strict=True):
            assert_close(face.vertices, same.vertices, atol=0.02, rtol=0)
    aligned = FaceMeshAligner(batch_size=3)(np.stack([drawn] * 5))
    assert_close(aligned.vertices, FaceMeshAligner()(drawn[None]).vertices.expand(5, -1, -1), atol=0.02, rtol=0)


def test_a_face_that_fills_the_photograph_is_found_with_a_border(drawn: np.ndarray) -> None:
    left, top, right, bottom = FaceMeshAligner()(drawn[None]).boxes[0].round().int().tolist()
    tight = np.ascontiguousarray(drawn[top + 12 : bottom - 2, left + 4 : right - 4])
    (face,) = FaceSearch(CPU).faces([tight])[0]
    known = FaceMeshAligner()(drawn[None]).vertices[0].double().numpy() - (left + 4, top + 12, 0)
    assert np.linalg.norm((face.vertices - known)[:, :2], axis=1).mean() < 0.1 * eye_distance(known)


@given(st.integers(0, 3), st.sampled_from([0.0, 0.25]), st.integers(8, 40), st.integers(8, 40))
def test_what_is_found_in_a_view_lies_where_it_is_in_the_image(
    quarters: int, border: float, height: int, width: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    row, column = height // 3, width // 5
    image[row, column] = 255
    view = View(quarters, border)
    y, x = (int(place[0]) for place in np.nonzero(view.of(image)[:, :, 0] == 255))
    face = FoundFace(np.array([[x + 0.5, y + 0.5, 3.0]]), 1.0, 1.0, 0.0, 0.0)
    assert view.back(face, image).vertices.tolist() == [[column + 0.5, row + 0.5, 3.0]]
    assert view.back(face, image).turn == 90 * quarters


def test_a_crop_and_its_vertices_fit() -> None:
    """A bright pixel found in the crop goes back to where it lies."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[78:83, 148:153] = 255
    square = Square(140.0, 90.0, 96.0, 0.4)
    crop = square.cut(image, 192, 0).astype(float)[:, :, 0]
    rows, columns = np.indices(crop.shape)
    there = np.array([[(columns * crop).sum(), (rows * crop).sum(), 0.0]]) / crop.sum()
    x, y, _ = square.out_of_crop(there, 192)[0]
    assert abs(x - 150) < 0.3 and abs(y - 80) < 0.3
    assert square.out_of_crop(np.array([[96.0, 96.0, 192.0]]), 192)[0].tolist() == [140, 90, -96]


def test_anchors_and_boxes_by_hand() -> None:
    places = anchors()
    assert places.shape == (896, 2)
    assert places[0].tolist() == places[1].tolist() == [1 / 32, 1 / 32]
    assert places[2].tolist() == [3 / 32, 1 / 32] and places[512].tolist() == places[517].tolist() == [1 / 16, 1 / 16]
    raw = np.zeros((896, 16))
    raw[2, :6] = [12.8, 0, 64, 32, -12.8, 25.6]
    low, high, eye = decode(raw)[2, :3].tolist()
    assert decode(raw, np.arange(896) == 2).tolist() == decode(raw)[2:3].tolist()
    assert_close(
        torch.tensor([low, high, eye]), torch.tensor([[-0.05625, -0.09375], [0.44375, 0.15625], [-0.00625, 0.23125]])
    )


def test_overlapping_detections_are_the_loop() -> None:
    scores = torch.rand(40)
    low = torch.rand(40, 2)
    places = torch.cat([low[:, None], low[:, None] + torch.rand(40, 1, 2) * 0.5 + 0.05, torch.rand(40, 6, 2)], 1)
    expected, left = [], sorted(range(40), key=lambda number: -float(scores[number]))
    while left:
        first = left[0]
        same = [each for each in left if each == first or overlap(places[first], places[each]) > 0.3]
        total = sum(scores[each] for each in same)
        expected.append((float(scores[first]), sum(scores[each] * places[each] for each in same) / total))
        left = [each for each in left if each not in same]
    merged = merge_overlapping(scores.numpy(), places.numpy())
    assert [score for score, _ in merged] == [score for score, _ in expected] and len(merged) > 1
    for (_, one), (_, other) in zip(merged, expected, strict=True):
        assert_close(torch.from_numpy(one), other)


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    (left, top), (right, bottom) = one[:2].tolist()
    (left2, top2), (right2, bottom2) = other[:2].tolist()
    wide, high = min(right, right2) - max(left, left2), min(bottom, bottom2) - max(top, top2)
    shared = max(wide, 0) * max(high, 0)
    return shared / ((right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - shared)


def test_disagreement_of_a_mesh_and_its_mirror_image() -> None:
    face = CanonicalFace.default()
    permutation = face.permutation
    assert permutation is not None
    vertices = face.resized((192, 192)).vertices.double().numpy()
    mirrored = (vertices * (-1, 1, 1) + (191, 0, 0))[permutation.numpy()]
    assert disagreement(vertices, mirrored) == pytest.approx(0, abs=1e-9)
    side = np.ptp(vertices[:, :2], axis=0).max()
    assert disagreement(vertices, mirrored + (0, 19.2, 0)) == pytest.approx(19.2 / side)


def test_which_of_several_faces(drawn: np.ndarray) -> None:
    large = drawn[40:264, 90:314]
    small = np.array(Image.fromarray(large).resize((170, 170)))
    scene = np.full((330, 600, 3), 128, np.uint8)
    scene[40:264, :224], scene[80:250, 240:410] = large, small
    boxes = FaceMeshAligner(face="all")([scene]).boxes
    centres = ((boxes[:, 0] + boxes[:, 2]) / 2).tolist()
    assert len(centres) == 2 and centres[0] < 224 < centres[1]
    for which, centre in (("largest", centres[0]), ("central", centres[1])):
        left, _, right, _ = FaceMeshAligner(face=which)([scene]).boxes[0].tolist()
        assert (left + right) / 2 == pytest.approx(centre)
    scene[:, 230:] = 128
    with pytest.raises(NoFaceError, match="0 \\(group\\.jpg\\)") as error:
        FaceMeshAligner(face="central")([scene], names=["group.jpg"])
    assert error.value.reason == "faces were found, but none that contains the middle of the photograph."
    with pytest.raises(NoFaceError) as error:
        FaceMeshAligner(face="central")([0 * scene])
    assert error.value.reason == ""


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"min_score": 1.2}, "min_score: expected 0..1"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"face": "best"}, "face"),
    ],
)
def test_arguments_out_of_range(argument: dict[str, object], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        FaceMeshAligner(**argument)  # type: ignore[arg-type]


def test_what_does_not_move_vertices_is_not_in_the_cache_key() -> None:
    key = FaceMeshAligner().cache_key()
    assert FaceMeshAligner(device="cpu", batch_size=3).cache_key() == key
    assert FaceMeshAligner(turned=False).cache_key() != key != FaceMeshAligner(face="central").cache_key()


def test_random_state_and_images_are_left_alone(drawn: np.ndarray) -> None:
    before, copy = torch.random.get_rng_state(), drawn.copy()
    FaceMeshAligner()(drawn[None])
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(drawn, copy)


def test_the_weights_are_those_of_mediapipe(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe.modules.face_landmark")
    made = tmp_path / "made.safetensors"
    command = [sys.executable, str(ROOT / "tools/convert_face_networks.py"), "--out", str(made)]
    assert "706,075 weights" in subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    shipped = load_file(ROOT / "captum_canonical/adapters" / WEIGHTS)
    assert load_file(made).keys() == shipped.keys()
    for name, tensor in load_file(made).items():
        assert tensor.dtype == torch.float16 and torch.equal(tensor, shipped[name])
