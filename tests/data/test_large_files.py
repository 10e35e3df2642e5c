"""A data set of photographs that are read smaller than they are: the same faces, boxes and inputs as of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_canonical.faces.photos import read_photo
from dataset_tools import CornerAligner, dataset

LIMIT = 5_000  # of 200 x 100 pixels: read at a half


@pytest.fixture(params=[1, 6])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bright box from (40, 60) to (88, 120) of a photograph of 100 x 199 pixels, upright or turned by EXIF."""
    pixels = np.full((199, 100, 3), 20, np.uint8)
    pixels[60:120, 40:88] = np.linspace(120, 250, 48)[None, :, None]
    exif = Image.Exif()
    exif[0x0112] = request.param
    stored = pixels if request.param == 1 else np.ascontiguousarray(np.rot90(pixels))
    Image.fromarray(stored).save(tmp_path / "large.jpg", quality=95, exif=exif)
    return tmp_path / "large.jpg"


@pytest.mark.parametrize("crop", ["face", None, (20, 40, 100, 140)])
def test_inputs_and_boxes_are_those_of_the_whole_photograph(path: Path, crop: object) -> None:
    whole, small = (dataset([path], crop=crop, max_pixels=limit) for limit in (10**6, LIMIT))
    np.testing.assert_allclose(small.face_box(0), whole.face_box(0), atol=2)
    np.testing.assert_allclose(small.face_box(0), (40, 60, 88, 120), atol=3)
    torch.testing.assert_close(small[0].image, whole[0].image, atol=0.12, rtol=0)
    torch.testing.assert_close(small[0].faces.vertices, whole[0].faces.vertices, atol=0.8, rtol=0)
    assert small[0].faces.image_size == whole[0].faces.image_size == (24, 20)


def test_meshes_that_are_there_already_are_in_pixels_of_the_file(path: Path) -> None:
    mesh = CornerAligner()([read_photo(path)], names=[""])
    found = dataset([path], faces=mesh, max_pixels=LIMIT)
    np.testing.assert_allclose(found.face_box(0), mesh.boxes[0])
    whole = dataset([path], faces=mesh)
    torch.testing.assert_close(found[0].faces.vertices, whole[0].faces.vertices)


def test_meshes_of_another_size_have_an_entry_of_their_own_in_the_cache(path: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for limit, entries in ((LIMIT, 1), (10**6, 2), (LIMIT, 2), (2_000, 3), (10**5, 3)):
        dataset([path], max_pixels=limit, cache=cache, cache_key="corners").align()
        assert len(list(cache.iterdir())) == entries
