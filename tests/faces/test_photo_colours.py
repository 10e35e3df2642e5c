"""Colour profiles: the numbers of a photograph are sRGB, whatever the file says that they are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_colours import STRIP
from captum_canonical.faces.photos import read_photo
from icc_tools import SRGB_COLORANTS, grey_profile, needs_format, rgb_profile

RED, GREEN, BLUE = SRGB_COLORANTS


def srgb_of_linear(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: light in 0..1 as an sRGB value in 0..255."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray, profile: bytes | None, mode: str | None = None) -> np.ndarray:
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    image.save(path, icc_profile=profile)
    return read_photo(path)


def test_a_profile_of_linear_light_is_encoded(tmp_path: Path, noise: np.ndarray) -> None:
    found = saved(tmp_path / "linear.png", noise, rgb_profile(gamma=1.0))
    np.testing.assert_allclose(found, srgb_of_linear(noise / 255), atol=1.5)


def test_a_profile_with_red_and_blue_exchanged_exchanges_them(tmp_path: Path, noise: np.ndarray) -> None:
    there = saved(tmp_path / "bgr.tif", noise, rgb_profile((BLUE, GREEN, RED), 2.2))
    here = saved(tmp_path / "rgb.tif", noise[..., ::-1], rgb_profile((RED, GREEN, BLUE), 2.2))
    np.testing.assert_allclose(there.astype(int), here, atol=1)
    assert np.abs(there.astype(int) - noise).max() > 50


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "avif"])
def test_profiles_in_all_formats(tmp_path: Path, kind: str) -> None:
    needs_format(kind)
    flat = np.full((16, 16, 3), (120, 60, 200), np.uint8)
    found = saved(tmp_path / f"photo.{kind}", flat, rgb_profile(gamma=1.0))
    np.testing.assert_allclose(found[8, 8], srgb_of_linear(flat[8, 8] / 255), atol=6)


def test_grey_profiles(tmp_path: Path) -> None:
    grey = np.arange(0, 250, 10, dtype=np.uint8)[None]
    for name, pixels in (("grey.png", grey), ("grey_alpha.png", np.stack([grey, np.full_like(grey, 255)], -1))):
        found = saved(tmp_path / name, pixels, grey_profile(1.0))
        np.testing.assert_allclose(found, srgb_of_linear(grey / 255)[..., None].repeat(3, 2), atol=1.5, err_msg=name)


def test_transparent_and_palette_images_with_a_profile(tmp_path: Path, noise: np.ndarray) -> None:
    opaque = saved(tmp_path / "opaque.png", noise, rgb_profile())
    alpha = np.full((*noise.shape[:2], 1), 255, np.uint8)
    alpha[0] = 0
    found = saved(tmp_path / "alpha.png", np.concatenate([noise, alpha], -1), rgb_profile())
    np.testing.assert_array_equal(found[1:], opaque[1:])
    np.testing.assert_array_equal(found[0], 255)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([int(value) for value in noise[0, :2].reshape(-1)])
    palette.save(tmp_path / "palette.png", icc_profile=rgb_profile())
    np.testing.assert_array_equal(read_photo(tmp_path / "palette.png")[0], opaque[0, :2])


def test_srgb_and_damaged_profiles_change_nothing(tmp_path: Path, noise: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    of_another_mode, damaged = grey_profile(), rgb_profile()[:200]
    for number, profile in enumerate((srgb, nearly(srgb), of_another_mode, damaged, b"no profile", None)):
        np.testing.assert_array_equal(saved(tmp_path / f"{number}.png", noise, profile), noise, err_msg=str(number))


def nearly(srgb: bytes) -> bytes:
    """sRGB with a little more of one primary, as if other programs had rounded it: a level of 255."""
    place = srgb.index(b"XYZ ", srgb.index(b"XYZ ", 128) + 4)  # the first one is the white point
    values = [int.from_bytes(srgb[at : at + 4], "big", signed=True) for at in range(place + 8, place + 20, 4)]
    more = b"".join(round(each * 1.006).to_bytes(4, "big", signed=True) for each in values)
    return srgb[: place + 8] + more + srgb[place + 20 :]


def test_strips_join(tmp_path: Path) -> None:
    tall = np.random.default_rng(1).integers(0, 256, (2 * STRIP + 3, 2, 3), dtype=np.uint8)
    np.testing.assert_array_equal(saved(tmp_path / "tall.png", tall, None), tall)
    np.testing.assert_allclose(saved(tmp_path / "p.png", tall, rgb_profile()), srgb_of_linear(tall / 255), atol=1.5)


def wide_png(pixels: np.ndarray) -> bytes:
    """A PNG file of (H, W, 3) colours with 16 bits each, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_16_bits_that_hold_fewer_are_refused_instead_of_black(tmp_path: Path, noise: np.ndarray) -> None:
    """Pillow keeps the upper 8 bits, so that nothing is left to scale."""
    (tmp_path / "16.png").write_bytes(wide_png(noise.astype(int) * 257))
    np.testing.assert_array_equal(read_photo(tmp_path / "16.png"), noise)
    for bits in (8, 10, 12):
        (tmp_path / "few.png").write_bytes(wide_png(noise.astype(int) * (2**bits - 1) // 255))
        with pytest.raises(CanonicalError, match=r"few\.png: expected colours that use the range of 16 bits"):
            read_photo(tmp_path / "few.png")
