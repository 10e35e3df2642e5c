"""Formats of this Pillow; small ICC profiles, written by hand after ICC.1:2001 (version 2): a matrix, one exponent."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

# Bradford-adapted to D50, as sRGB profiles hold them: red, green, blue.
SRGB_COLORANTS = (
    (0.4360747, 0.2225045, 0.0139322),
    (0.3850649, 0.7168786, 0.0971045),
    (0.1430804, 0.0606169, 0.7141733),
)
D50 = (0.9642, 1.0, 0.8249)


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _description(text: str) -> bytes:
    ascii_text = text.encode() + b"\0"
    body = (
        b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + struct.pack(">IIHB", 0, 0, 0, 0) + bytes(67)
    )
    return body + bytes(-len(body) % 4)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _description("test"), b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": _xyz(D50), **tags}
    table, data, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(data), b"test", 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in D50)) + bytes(48)
    return header + table + data


def rgb_profile(colorants: tuple[tuple[float, float, float], ...] = SRGB_COLORANTS, gamma: float = 1.0) -> bytes:
    """Colours that are ``value ** gamma`` of each of three colorants (X, Y, Z)."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _profile(b"RGB ", {name: _xyz(each) for name, each in zip(names, colorants, strict=True)} | curves)


def grey_profile(gamma: float = 1.0) -> bytes:
    """Grey that is ``value ** gamma`` of white."""
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def needs_format(kind: str) -> None:
    """Skips a test where Pillow does not write AVIF, which it does since 11.3."""
    Image.init()
    if kind.upper() == "AVIF" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow knows no AVIF")
