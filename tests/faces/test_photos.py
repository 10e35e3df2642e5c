"""Listing and reading photographs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photos import list_photos, read_photo
from dataset_tools import stored


# ---------------------------------------------------------------------------------------------------- listing
def test_folder_is_listed_by_name_without_hidden_files_and_other_types(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.tiff", ".d.jpg", "notes.txt", "._a.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_photos(tmp_path)] == ["a.png", "b.JPG", "c.tiff"]
    assert list_photos(str(tmp_path / "b.JPG")) == [tmp_path / "b.JPG"]


def test_list_of_paths_is_kept_as_given() -> None:
    assert list_photos(["z.jpg", Path("a.bmp"), "z.jpg"]) == [Path("z.jpg"), Path("a.bmp"), Path("z.jpg")]


def test_folder_without_photographs_and_missing_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CanonicalError, match="found none in this folder"):
        list_photos(tmp_path)
    with pytest.raises(CanonicalError, match="nowhere"):
        list_photos(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------------- reading
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, colours: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored(colours, orientation)).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), colours)


def test_grey_of_8_and_16_bits_and_two_colours_become_rgb(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 257, 30_000, 65_535]], np.uint16)
    expected = np.rint(wide / 65_535 * 255).astype(np.uint8)
    Image.fromarray(expected).save(tmp_path / "grey8.png")
    Image.fromarray(wide).save(tmp_path / "grey16.png")
    Image.fromarray(wide).save(tmp_path / "grey16.tif")
    for name in ("grey8.png", "grey16.png", "grey16.tif"):
        photo = read_photo(tmp_path / name)
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, expected[..., None].repeat(3, 2), err_msg=name)
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "bits.png")[..., 1], [[255, 0]])


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_files_that_hold_fewer_bits_are_not_black(bits: int, dtype: type, tmp_path: Path) -> None:
    grey = np.linspace(0, 2**bits - 1, 52).round().astype(dtype)[None]
    Image.fromarray(grey).save(tmp_path / "photo.tif")
    photo = read_photo(tmp_path / "photo.tif")
    np.testing.assert_allclose(photo[0, :, 1], np.linspace(0, 255, 52), atol=1)
    Image.fromarray(np.array([[0, 2**16]], np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(CanonicalError, match="expected 8 or 16 bits, got whole numbers from 0 to 65536"):
        read_photo(tmp_path / "wide.tif")


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    photo = read_photo(tmp_path / "rgba.png")
    np.testing.assert_array_equal(photo[0, :2], [[10, 20, 30], [255, 255, 255]])
    assert abs(int(photo[0, 2, 0]) - 127) <= 1
    Image.fromarray(np.array([[[40, 0], [40, 255]]], np.uint8)).save(tmp_path / "grey_alpha.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "grey_alpha.png")[0, :, 2], [255, 40])


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([200, 100, 50, 1, 2, 3])
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "holes.png", transparency=1)
    np.testing.assert_array_equal(read_photo(tmp_path / "plain.png")[0], [[200, 100, 50], [1, 2, 3]])
    np.testing.assert_array_equal(read_photo(tmp_path / "holes.png")[0], [[200, 100, 50], [255, 255, 255]])


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    red, green, blue = (int(value) for value in read_photo(tmp_path / "print.jpg")[1, 1])
    assert red > 200 and green < 40 and blue < 40


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_truncated_and_damaged_files_are_errors_that_name_the_file(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.9, 0.5, 0.1):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CanonicalError, match=f"{name}: .*(cannot be read|not an image)"):
            read_photo(tmp_path / name)


def test_unreadable_files_are_errors_that_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (50, 50)).save(tmp_path / "huge.png")
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / "wide.tif")
    for name, reason in {
        "empty.jpg": "empty .0 bytes",
        "text.jpg": "not an image",
        "absent.jpg": "no such file",
        "floats.tif": "floating point",
        "wide.tif": "70000",
    }.items():
        with pytest.raises(CanonicalError, match=f"{name}: .*{reason}"):
            read_photo(tmp_path / name)
    with pytest.raises(CanonicalError, match="got a folder"):
        read_photo(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(CanonicalError, match=r"huge.png: .*too large"):
        read_photo(tmp_path / "huge.png")


def test_only_formats_that_pillow_decodes_itself_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    picture = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    for name in ("EPS", "PCX", "TGA"):
        picture.save(tmp_path / "face.jpg", format=name)
        with pytest.raises(CanonicalError, match="not an image in a format that is read"):
            read_photo(tmp_path / "face.jpg")
    for name in ("PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF", "JPEG"):  # whatever the file is called
        picture.save(tmp_path / "face.jpg", format=name)
        assert abs(int(read_photo(tmp_path / "face.jpg").mean()) - 90) <= 2


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "good.png")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(CanonicalError, match=f"{name}: .*regular file"):
            read_photo(tmp_path / name)
    assert read_photo(tmp_path / "link.png").shape == (4, 4, 3)
