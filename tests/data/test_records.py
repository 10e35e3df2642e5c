"""Photo and mesh are cut together: what is painted at a vertex is found at that vertex in the network's input."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from captum_canonical.data.records import FaceBatch, NetworkInput
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.mesh import FaceMesh
from dataset_tools import dataset


def spot(size: tuple[int, int], x: float, y: float, radius: float = 6.0) -> np.ndarray:
    """(H, W, 3) uint8, black with a soft white spot whose centre of mass is (x, y) in continuous coordinates."""
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1]) + 0.5
    grey = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (radius / 2) ** 2))
    return np.rint(grey).astype(np.uint8)[..., None].repeat(3, 2)


def centre_of_mass(image: torch.Tensor) -> tuple[float, float]:
    grey = image.double().mean(0)
    rows = torch.arange(grey.shape[0], dtype=torch.float64)[:, None] + 0.5
    columns = torch.arange(grey.shape[1], dtype=torch.float64) + 0.5
    return float((grey * columns).sum() / grey.sum()), float((grey * rows).sum() / grey.sum())


def mesh_around(x: float, y: float, size: tuple[int, int]) -> FaceMesh:
    """The point itself, and four corners of a face of 60 x 80 pixels that is not centred on it."""
    offsets = [(0, 0, 0), (-25, -30, 0), (35, -30, 4), (-25, 50, 0), (35, 50, 8)]
    vertices = torch.tensor([[(x + dx, y + dy, z) for dx, dy, z in offsets]], dtype=torch.float64)
    return FaceMesh(vertices, image_size=size)


BOXES = {
    "face": "face",
    "whole": None,
    "inside, not square": (41, 33, 150, 121),
    "beyond all borders": (-31, -17, 240, 181),
    "beyond one corner, fractions": (60.25, 50.5, 233.75, 177.125),
    "smaller than the input": (80, 60, 121, 95),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("size", [(112, 112), (97, 131), (64, 45)], ids=str)
@pytest.mark.parametrize("photo_size", [(160, 200), (151, 197)], ids=str)
def test_a_painted_point_is_at_its_vertex(box: object, size: tuple[int, int], photo_size: tuple[int, int]) -> None:
    x, y = 100.3, 77.8
    network_input = NetworkInput(size, crop=box, fill=0)  # type: ignore[arg-type]
    image, mesh = network_input(spot(photo_size, x, y), mesh_around(x, y, photo_size))
    assert image.shape == (3, *size) and mesh.image_size == size
    found = centre_of_mass(image)
    expected = mesh.vertices[0, 0, :2].tolist()
    assert abs(found[0] - expected[0]) < 0.15 and abs(found[1] - expected[1]) < 0.15


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(st.floats(-60, 70), st.floats(-60, 50), st.floats(130, 260), st.floats(105, 220)),
    st.tuples(st.integers(20, 150), st.integers(20, 150)),
)
def test_any_box_and_size(box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    x, y = 100.3, 77.8
    image, mesh = NetworkInput(size, crop=box, fill=0)(spot((160, 200), x, y), mesh_around(x, y, (160, 200)))
    found = torch.tensor(centre_of_mass(image))
    torch.testing.assert_close(found.double(), mesh.vertices[0, 0, :2], rtol=0, atol=0.3)
    # The same formula by hand: a linear map per axis, its mean for depth.
    across, down = size[1] / (box[2] - box[0]), size[0] / (box[3] - box[1])
    expected = [(x + 35 - box[0]) * across, (y + 50 - box[1]) * down, 8 * (across + down) / 2]
    torch.testing.assert_close(mesh.vertices[0, 4], torch.tensor(expected, dtype=torch.float64))


def test_whole_boxes_are_those_of_the_mesh_class() -> None:
    mesh = mesh_around(90, 70, (160, 200))
    moved = NetworkInput((50, 60), crop=(20, 10, 140, 110))(np.zeros((160, 200, 3), np.uint8), mesh)[1]
    expected = mesh.cropped(20, 10, 120, 100).resized((50, 60))
    torch.testing.assert_close(moved.vertices, expected.vertices)
    assert torch.equal(moved.visible, expected.visible) and moved.image_size == expected.image_size


def test_beyond_the_photo_is_its_border_or_a_colour() -> None:
    pixels, mesh = np.full((20, 20, 3), 200, np.uint8), mesh_around(10, 10, (20, 20))
    box = (-20, 0, 20, 20)
    edge = NetworkInput((20, 40), crop=box)(pixels, mesh)[0] * 255
    colour = NetworkInput((20, 40), crop=box, fill=(10, 20, 30))(pixels, mesh)[0] * 255
    torch.testing.assert_close(edge, torch.full((3, 20, 40), 200.0))
    torch.testing.assert_close(colour[:, 5, :19].mean(1), torch.tensor([10.0, 20.0, 30.0]))
    torch.testing.assert_close(colour[:, :, 21:], torch.full((3, 20, 19), 200.0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_that_a_camera_turned(tmp_path: Path, orientation: int) -> None:
    # The aligner and the crop both see the upright photo, whatever the way in which it is stored.
    upright = spot((120, 90), 40.5, 70.5)
    stored = {1: 0, 3: 2, 6: 1, 8: 3}.get(orientation)
    if stored is None:  # mirrored
        pixels = {
            2: upright[:, ::-1],
            4: upright[::-1],
            5: upright.transpose(1, 0, 2),
            7: upright[::-1, ::-1].transpose(1, 0, 2),
        }[orientation]
    else:
        pixels = np.rot90(upright, stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png", exif=exif)
    record = dataset(tmp_path, size=(61, 53))[0]
    x, y = centre_of_mass(record.image * (record.image > 0.3))
    middle = record.faces.vertices[0, 4, :2]  # of the box around the spot
    assert abs(middle[0] - x) < 0.6 and abs(middle[1] - y) < 0.6
    whole = dataset(tmp_path, size=(120, 90), crop=None)[0]
    torch.testing.assert_close(whole.image, torch.from_numpy(upright.copy()).permute(2, 0, 1).float() / 255)


def test_groups_and_identities_of_a_batch_are_texts_or_missing() -> None:
    images, faces = torch.zeros(3, 3, 20, 20), FaceMesh.cat([mesh_around(9, 9, (20, 20))] * 3)
    with pytest.warns(UserWarning, match="identities: 1 of 3 entries are taken as missing"):
        batch = FaceBatch(images, faces, None, [1, 1.0, math.nan], ["nan", "Ann", ""], ["a", "b", "c"], torch.arange(3))
    assert (batch.groups, batch.identities) == (["1", "1", None], [None, "Ann", None])
    unknown = replace(batch, groups=None, identities=torch.tensor([5.0, math.nan, 5.0]))
    assert (unknown.groups, unknown.identities) == ([None] * 3, ["5", None, "5"])
    with pytest.raises(CanonicalError, match="groups: expected one entry for each of the 3 photographs, got 2"):
        replace(batch, groups=["a", "b"])
