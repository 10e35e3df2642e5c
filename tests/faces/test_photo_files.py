"""Files of photographs by their contents, whatever they are called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.faces.photo_files import EXTENSIONS, is_photo
from captum_canonical.faces.photos import list_photos, read_photo
from dataset_tools import stored
from icc_tools import needs_format

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("camera.JPE", "JPEG"),
        ("web.jfif", "JPEG"),
        ("phone.jpg", "MPO"),
        ("wrong.png", "JPEG"),
        ("a.gif", "GIF"),
        ("a.webp", "WEBP"),
        ("a.avif", "AVIF"),
        ("a.jp2", "JPEG2000"),
        ("a.dib", "BMP"),
        ("without_extension", "PNG"),
        ("image.php", "JPEG"),
    ],
)
def test_contents_decide(tmp_path: Path, name: str, kind: str) -> None:
    needs_format(kind)
    flat = Image.new("RGB", (24, 16), (200, 90, 40))
    flat.save(tmp_path / name, format=kind)
    (tmp_path / "notes").write_text("no photograph")
    assert list_photos(tmp_path) == [tmp_path / name]
    np.testing.assert_allclose(read_photo(tmp_path / name).mean((0, 1)), (200, 90, 40), atol=4)


def test_files_with_the_name_of_a_photograph_are_expected_to_be_one(tmp_path: Path) -> None:
    for number, extension in enumerate(EXTENSIONS):
        (tmp_path / f"{number}{extension.upper()}").write_bytes(b"damaged")
    assert all(is_photo(path) for path in tmp_path.iterdir())
    assert not is_photo(tmp_path) and not is_photo(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "kind"), [("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG"), ("a.tif", "TIFF"), ("a.jpg", "MPO")]
)
def test_the_first_of_several_frames(tmp_path: Path, name: str, kind: str) -> None:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 0, 250)))
    first.save(tmp_path / name, format=kind, save_all=True, append_images=[second])
    assert Image.open(tmp_path / name).n_frames == 2
    np.testing.assert_allclose(read_photo(tmp_path / name)[8, 8], (250, 0, 0), atol=6)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_orientation_in_all_formats(tmp_path: Path, kind: str) -> None:
    needs_format(kind)
    quarters = np.zeros((32, 48, 3), np.uint8)
    quarters[:16, :24], quarters[:16, 24:], quarters[16:, :24] = (240, 20, 20), (20, 240, 20), (20, 20, 240)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored(quarters, orientation)).save(tmp_path / f"photo.{kind}", exif=exif, quality=95)
        found = read_photo(tmp_path / f"photo.{kind}")
        assert found.shape == quarters.shape
        for row, column in ((8, 12), (8, 36), (24, 12), (24, 36)):
            np.testing.assert_allclose(found[row, column], quarters[row, column], atol=25, err_msg=str(orientation))


def test_heic_needs_a_package_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "phone.heic").write_bytes(HEIC)
    (tmp_path / "other").write_bytes(HEIC)
    with pytest.raises(MissingDependencyError, match=r"phone\.heic: .*pip install pillow-heif"):
        read_photo(tmp_path / "phone.heic")
    assert list_photos(tmp_path) == [tmp_path / "phone.heic"]


def test_heic_is_read_by_its_package_and_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(HeifImageFile=lambda file: Image.new("RGB", (5, 4), (1, 2, len(file.read()))))
    monkeypatch.setitem(sys.modules, "pillow_heif", fake)
    (tmp_path / "phone.jpg").write_bytes(HEIC)
    np.testing.assert_array_equal(read_photo(tmp_path / "phone.jpg")[3, 4], (1, 2, len(HEIC)))
    assert is_photo(tmp_path / "phone.jpg")


def test_heic_of_the_real_package(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    before = set(Image.OPEN)
    heif.from_pillow(Image.new("RGB", (48, 32), (200, 90, 40))).save(tmp_path / "phone.jpg")
    np.testing.assert_allclose(read_photo(tmp_path / "phone.jpg").mean((0, 1)), (200, 90, 40), atol=4)
    assert set(Image.OPEN) == before


def test_damaged_exif_does_not_cost_the_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_photo(tmp_path / "a.jpg").shape == (6, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.new("RGB", (8, 6)).save(tmp_path / "b.png", exif=exif)
    assert read_photo(tmp_path / "b.png").shape == (6, 8, 3)


def test_other_formats_are_named_with_what_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tga")
    assert not is_photo(tmp_path / "a.tga")
    with pytest.raises(CanonicalError, match="in a format that is read"):
        read_photo(tmp_path / "a.tga")
