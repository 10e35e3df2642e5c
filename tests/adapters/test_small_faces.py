"""Small faces in large photographs: tiles, each face once, and when they are looked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from captum_canonical import CanonicalFace
from captum_canonical.adapters import FaceMeshAligner, face_detection
from captum_canonical.adapters.face_boxes import distinct
from captum_canonical.adapters.face_detection import FaceSearch
from captum_canonical.adapters.face_views import View, tiles

CPU = torch.device("cpu")
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def drawing() -> np.ndarray:
    return (CanonicalFace.default().image.permute(1, 2, 0) * 255).byte().numpy()


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    wide, high = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def pasted(photos: list[tuple[np.ndarray, Box]], size: tuple[int, int], sizes: list[float], seed: int) -> tuple:
    """Photographs of a face scattered over grey so that the faces have these sizes, and the boxes of the faces."""
    generator = np.random.default_rng(seed)
    scene, boxes, places = np.full((*size, 3), 128, np.uint8), [], []
    for face_size in sorted(sizes, reverse=True):
        photo, box = photos[generator.integers(len(photos))]
        factor = face_size / max(box[2] - box[0], box[3] - box[1])
        high, wide = (round(factor * side) for side in photo.shape[:2])
        while True:
            left, top = int(generator.integers(size[1] - wide)), int(generator.integers(size[0] - high))
            place = (left, top, left + wide, top + high)
            if not any(overlap(place, other) for other in places):
                break
        places.append(place)
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        scene[top : top + high, left : left + wide] = cv2.resize(photo, (wide, high), interpolation=method)
        boxes.append(tuple(factor * side + (left, top)[i % 2] for i, side in enumerate(box)))
    return scene, boxes


def test_faces_of_every_size_in_a_group_of_real_ones(shared: Path) -> None:
    photos = []
    for path in sorted((shared / "data/lfw/images").rglob("*.jpg"))[::180]:
        photo = np.asarray(Image.open(path).convert("RGB"))
        (face, *others) = FaceSearch(CPU).faces([photo])[0]
        photos += [] if others else [(photo, face.box)]
    sizes = [float(size) for size in np.geomspace(40, 800, 20)]
    scene, boxes = pasted(photos, (4000, 6000), sizes, seed=0)
    found = [face.box for face in FaceSearch(CPU, small=True).faces([scene])[0]]
    hits = [sum(overlap(box, other) > 0.5 for other in found) for box in boxes]
    sizes.sort(reverse=True)
    assert len(photos) > 15 and max(hits) == 1  # each of them once
    assert np.mean([hit for hit, size in zip(hits, sizes, strict=True) if size > 60]) >= 0.95
    assert len(found) <= len(boxes) + 2  # strangers in the background of a photograph


@pytest.mark.parametrize("turned", [0, 2])
def test_small_faces_are_looked_for_where_no_other_is_found(drawing: np.ndarray, turned: int) -> None:
    box = FaceSearch(CPU).faces([drawing])[0][0].box
    scene, (there,) = pasted([(drawing, box)], (900, 1300), [70.0], seed=1)
    scene = np.ascontiguousarray(np.rot90(scene, turned))
    (face,) = FaceSearch(CPU).faces([scene])[0]
    assert face.turn == 90 * turned
    if not turned:
        assert overlap(face.box, there) > 0.8
        assert len(FaceMeshAligner(turned=False)([scene])) == 1


def test_tiles_are_cut_only_where_they_are_needed(drawing: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(face_detection, "tiles", lambda image, size: calls.append(image.shape) or iter(()))
    ordinary = np.full((500, 500, 3), 128, np.uint8)
    large = cv2.resize(drawing, (1000, 1000))
    for face in ("largest", "surest", "central"):
        FaceMeshAligner(face=face, on_missing="skip")([ordinary])
        assert len(FaceMeshAligner(face=face)([large])) == 1
    assert calls == []
    FaceMeshAligner(face="all")([large])
    FaceMeshAligner(on_missing="skip", turned=False)([large * 0])
    assert calls == [(1000, 1000, 3)] * 2
    FaceMeshAligner(on_missing="skip")([large * 0])
    assert len(calls) == 2 + 4


def test_a_face_has_one_mesh_whichever_are_asked_for(drawing: np.ndarray) -> None:
    box = FaceSearch(CPU).faces([drawing])[0][0].box
    scene, _ = pasted([(drawing, box)], (700, 1000), [420.0, 80.0], seed=2)
    largest, every = (FaceMeshAligner(face=face)([scene]) for face in ("largest", "all"))
    assert len(every) == 2
    torch.testing.assert_close(every.vertices[:1], largest.vertices, atol=0.02, rtol=0)


def test_the_central_face_may_be_small_beside_a_large_one(drawing: np.ndarray) -> None:
    box = FaceSearch(CPU).faces([drawing])[0][0].box
    scene, (small,) = pasted([(drawing, box)], (80, 80), [56.0], seed=0)
    canvas = np.full((800, 1200, 3), 128, np.uint8)
    canvas[360:440, 560:640] = scene
    canvas[20 : 20 + len(drawing), 20 : 20 + drawing.shape[1]] = drawing
    there = tuple(value + shift for value, shift in zip(small, (560, 360, 560, 360), strict=True))
    assert overlap(tuple(FaceMeshAligner()([canvas]).boxes[0].tolist()), there) == 0
    for turned in (True, False):
        central = FaceMeshAligner(face="central", turned=turned)([canvas])
        assert overlap(tuple(central.boxes[0].tolist()), there) > 0.7
    canvas[360:440, 560:640] = 128
    assert FaceMeshAligner(face="central", on_missing="skip")([canvas]).missing == (0,)


@pytest.mark.parametrize("shape", [(700, 900), (513, 90), (1000, 2100)])
def test_tiles_show_the_image_where_they_say_and_hold_every_small_box(shape: tuple[int, int]) -> None:
    height, width = shape
    rows, columns = np.indices(shape)
    image = np.stack([rows * 255 / height, columns * 255 / width, np.full(shape, 9)], 2).round().astype(np.uint8)
    found = list(tiles(image, 128))
    for tile in found:
        middle = tile.pixels[32, 32].astype(float)  # a quarter of the way
        x, y = tile.square.x - tile.square.side / 4, tile.square.y - tile.square.side / 4
        near = 2 + 0.01 * tile.square.side  # pixels: the sides of small levels are rounded
        if x < width and y < height:
            assert abs(middle[0] * height / 255 - y) < near + height / 255
            assert abs(middle[1] * width / 255 - x) < near + width / 255
    for side in {tile.square.side for tile in found}:
        level = [tile.square.box for tile in found if tile.square.side == side]
        small, near = int(0.35 * side), 0.01 * side
        for left in range(0, max(1, width - small), 37):
            for top in range(0, max(1, height - small), 37):
                assert any(
                    box[0] - near <= left
                    and box[1] - near <= top
                    and left + small <= box[2] + near
                    and top + small <= box[3] + near
                    for box in level
                )


def test_no_tiles_of_what_one_tile_holds() -> None:
    assert list(tiles(np.zeros((256, 200, 3), np.uint8), 128)) == []
    (tile,) = tiles(np.zeros((261, 100, 3), np.uint8), 130)
    assert tile.pixels.shape == (130, 130, 3) and tile.open_sides == (False,) * 4
    assert tile.square.box == pytest.approx((0, 0, 260, 261), abs=0.8)


def test_each_thing_once() -> None:
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, 50, (40, 2))
    boxes = [(*corner, *(corner + generator.uniform(2, 20, 2))) for corner in corners]
    expected: list[int] = []
    for number, box in enumerate(boxes):
        clash = False
        for other in (boxes[each] for each in expected):
            wide, high = (min(box[i + 2], other[i + 2]) - max(box[i], other[i]) for i in (0, 1))
            smaller = min((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
            within = max(wide, 0) * max(high, 0) / smaller
            clash |= overlap(box, other) > 0.3 or within > 0.6
        expected += [] if clash else [number]
    assert distinct(range(40), boxes) == expected and 5 < len(expected) < 40


def test_few_pixels_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_detection, "AT_ONCE", 5000)
    together: list[int] = []
    whole = FaceSearch._in_whole
    monkeypatch.setattr(
        FaceSearch, "_in_whole", lambda self, images: together.append(len(images)) or whole(self, images)
    )
    FaceSearch(CPU, turned=False).faces([np.zeros((50, 60, 3), np.uint8)] * 5)
    assert together == [2, 2, 1]
    assert View().of(np.zeros((50, 60, 3), np.uint8)).shape == (50, 60, 3)
