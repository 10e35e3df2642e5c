"""Photographs that are read smaller than they are: where their pixels lie in the file, and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import fraction_of, load_photo, read_photo

SPOT = (52.0, 36.0)  # x, y of the upright photograph
WIDTH, HEIGHT = 133, 91  # no multiples of 2


def spot_photo(path: Path, orientation: int = 1, **options: object) -> Path:
    """A bright spot in a dark photograph that is upright after its EXIF orientation."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    bright = 230 * np.exp(-((x - SPOT[0]) ** 2 + (y - SPOT[1]) ** 2) / (2 * 9.0**2))
    stored = {1: bright, 2: bright[:, ::-1], 3: bright[::-1, ::-1], 4: bright[::-1], 5: bright.T}
    stored |= {6: np.rot90(bright), 7: bright[::-1, ::-1].T, 8: np.rot90(bright, -1)}
    pixels = stored[orientation].round().astype(np.uint8)[..., None].repeat(3, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, **options)
    return path


def centre_of(pixels: np.ndarray) -> np.ndarray:
    """(x, y) of the bright spot."""
    weights = pixels[..., 1].astype(float) * (pixels[..., 1] > 40)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pixels_lie_where_they_lie_in_the_file(tmp_path: Path, orientation: int, factor: int) -> None:
    path = spot_photo(tmp_path / "spot.jpg", orientation, quality=95)
    photo = load_photo(path, -(-WIDTH // factor) * -(-HEIGHT // factor))
    assert (photo.factor, photo.size) == (factor, (HEIGHT, WIDTH))
    there = np.array(photo.origin) + factor * centre_of(photo.pixels)
    np.testing.assert_allclose(there, SPOT, atol=0.1 * factor)
    corner = torch.tensor([[[*centre_of(photo.pixels), 3.0]] * 3]).float() + torch.eye(3)
    mesh = FaceMesh(corner, image_size=photo.pixels.shape[:2])
    moved = photo.mesh_in_file(mesh)
    assert moved.image_size == (HEIGHT, WIDTH)
    np.testing.assert_allclose(moved.vertices[0, 2, :2], SPOT, atol=0.1 * factor)
    torch.testing.assert_close(moved.vertices[..., 2], mesh.vertices[..., 2] * factor)
    back = photo.mesh_of(moved)
    torch.testing.assert_close(back.vertices, mesh.vertices)
    assert back.image_size == mesh.image_size
    box = photo.box_of((*SPOT, *SPOT))
    np.testing.assert_allclose(box, [*centre_of(photo.pixels)] * 2, atol=0.15)


def test_pixels_are_means_of_those_in_the_file(tmp_path: Path) -> None:
    smooth = np.kron(np.random.default_rng(0).integers(0, 256, (8, 10, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    small, whole = load_photo(tmp_path / "a.jpg", 5120), read_photo(tmp_path / "a.jpg").astype(float)
    assert small.factor == 2 and small.pixels.shape == (64, 80, 3)
    means = whole.reshape(64, 2, 80, 2, 3).mean((1, 3))
    assert np.abs(small.pixels - means).mean() < 1


def test_the_largest_fraction_that_fits_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (160, 80), "teal").save(tmp_path / "a.jpg")
    expected = {12_800: 1, 12_799: 2, 3_200: 2, 3_199: 4, 800: 4, 799: 8, 200: 8}
    assert {limit: fraction_of(tmp_path / "a.jpg", limit) for limit in expected} == expected
    with pytest.raises(CanonicalError, match="12,800 pixels, more than max_pixels=199; make it smaller"):
        fraction_of(tmp_path / "a.jpg", 199)
    Image.new("RGB", (160, 80)).save(tmp_path / "a.png")
    for call in (fraction_of, load_photo):
        with pytest.raises(CanonicalError, match="12,800 pixels, more than max_pixels=12,799"):
            call(tmp_path / "a.png", 12_799)
    assert fraction_of(tmp_path / "absent.jpg", 1) == 1


MEASURE = """
import json, resource, sys
from captum_canonical.faces.photos import load_photo
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
load_photo(sys.argv[1])
before = peak()
photo = load_photo(sys.argv[2], int(sys.argv[3]))
print(json.dumps([photo.factor, peak() - before]))
"""


@pytest.mark.parametrize(("limit", "factor", "copies"), [(9_000_000, 2, 2.6), (36_000_000, 1, 2.6)])
def test_memory_is_that_of_the_pixels_that_are_decoded(tmp_path: Path, limit: int, factor: int, copies: float) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "small.jpg")
    Image.new("RGB", (6000, 6000), "teal").save(tmp_path / "large.jpg")
    command = [sys.executable, "-c", MEASURE, tmp_path / "small.jpg", tmp_path / "large.jpg", str(limit)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found[0] == factor
    assert found[1] < copies * 3 * 36_000_000 / factor**2
