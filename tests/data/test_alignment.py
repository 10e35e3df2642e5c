"""Photographs that are damaged, huge, faceless, doubled or changed: each is listed with its reason."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_canonical.data.alignment import GroupCount
from captum_canonical.errors import AlignmentError, CanonicalError, MissingDependencyError
from dataset_tools import CornerAligner, dataset, photo, write_photos


def header_of_a_png(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, b"IDAT")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_cut_in_half() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(0, (200, 200))).save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


BAD = {
    "cut.jpg": (jpeg_cut_in_half(), "damaged or incomplete"),
    "text.jpg": (b"this is no photograph\n", "not an image"),
    "empty.jpg": (b"", "0 bytes"),
    "panorama.png": (header_of_a_png(20_000, 4_000), r"80,000,000 pixels, more than max_pixels=64,000,000"),
    "bomb.png": (header_of_a_png(20_000, 20_000), "too large to be opened safely"),
    "noise.png": (np.random.default_rng(0).bytes(5000), "not an image"),
    "header.png": (header_of_a_png(50, 40), "damaged or incomplete"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_left_out_with_its_reason(tmp_path: Path, name: str) -> None:
    write_photos(tmp_path, 2)
    (tmp_path / name).write_bytes(BAD[name][0])
    data = dataset(tmp_path, cache=tmp_path / "cache")
    with pytest.warns(
        UserWarning, match=rf"1 of 3 photographs are left out \(1 unreadable; the first is {name}"
    ) as said:
        assert len(data) == 2
    assert len(said) == 1 and said[0].filename == __file__
    ((place, left),) = data.left_out.items()
    assert data.rows[place].path == left.path == tmp_path / name and left.kind == "unreadable"
    assert re.search(BAD[name][1], left.reason)


def test_all_bad_files_at_once_and_nothing_else_is_lost(tmp_path: Path) -> None:
    good = write_photos(tmp_path / "photos", 3)
    for name, (content, _) in BAD.items():
        (tmp_path / "photos" / name).write_bytes(content)
    (tmp_path / "photos/folder.jpg").mkdir()
    rows = [*sorted((tmp_path / "photos").iterdir()), tmp_path / "photos/absent.png"]
    with pytest.warns(UserWarning, match=f"{len(BAD) + 2} of {len(BAD) + 5} photographs"):
        data = dataset(rows, cache=tmp_path / "cache").align()
    assert [record.row.path for record in data] == good
    reasons = {left.path.name: left.reason for left in data.left_out.values()}
    assert "no such file" in reasons["absent.png"] and "got a folder" in reasons["folder.jpg"]
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_limit_of_pixels_can_be_set_and_is_checked_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path, 2)  # 50 x 40
    assert len(dataset(tmp_path, max_pixels=2000, cache=tmp_path / "cache")) == 2
    monkeypatch.setattr("captum_canonical.data.alignment.load_photo", lambda *_: pytest.fail("was decoded"))
    with pytest.warns(UserWarning, match="2 of 2"):
        data = dataset(tmp_path, max_pixels=1999, cache=tmp_path / "cache").align()  # cached meshes do not help
    assert "2,000 pixels, more than max_pixels=1,999" in data.left_out[0].reason and not CornerAligner.calls


def test_a_real_panorama_that_is_allowed(tmp_path: Path) -> None:
    pixels = np.zeros((300, 20_000, 3), np.uint8)
    pixels[100:200, 9_000:9_100] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    record = dataset(tmp_path)[0]
    assert record.image.shape == (3, 24, 20) and record.image[:, 12, 10].min() > 0.75


# ------------------------------------------------------------------------------------------------------- groups
def test_groups_are_counted_and_small_ones_are_named(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 6)
    for number in (3, 4):
        Image.fromarray(photo(number) // 4).save(paths[number])  # too dark for the aligner
    (tmp_path / "photos/text.jpg").write_bytes(b"text")
    groups = ["light", "light", "one", "dark", "dark", "light"]
    rows = [*((path, None, group) for path, group in zip(paths, groups, strict=True))]
    rows += [(tmp_path / "photos/text.jpg", None, "dark")]
    data = dataset(rows)
    with pytest.warns(UserWarning) as said:
        data.align()
    (message,) = (str(each.message) for each in said)
    assert "3 of 7 photographs are left out (2 no face, 1 unreadable; the first is 03.png" in message
    assert "Groups in which no face was found: 'dark'." in message
    assert "Groups in which only one face was found, too few for a spread: 'one'." in message
    assert data.counts() == {
        "light": GroupCount(3),
        "one": GroupCount(1),
        "dark": GroupCount(0, no_face=2, unreadable=1),
    }
    assert data.counts()["dark"].left_out == 3
    assert {place: left.kind for place, left in data.left_out.items()} == {3: "no face", 4: "no face", 6: "unreadable"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data) == 4  # said once


def test_no_face_in_any_photo_is_an_empty_data_set(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    with pytest.warns(UserWarning, match="3 of 3"):
        data = dataset(tmp_path, CornerAligner(threshold=254)).align()
    assert len(data) == 0 and list(data) == [] and data.counts() == {None: GroupCount(no_face=3)}


def test_good_photographs_give_no_warning(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(dataset(tmp_path, cache=tmp_path / "cache")) == 3


# ---------------------------------------------------------------------------------------- doubled, changed, refused
def test_duplicates_are_reported_and_kept(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)
    for name in ("98.png", "99.png"):
        (tmp_path / name).write_bytes(paths[1].read_bytes())
    data = dataset(tmp_path)
    assert len(data) == 5 and data.duplicates == {3: 1, 4: 1}


def test_files_that_change_afterwards_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_photos(tmp_path, 3)
    data = dataset(tmp_path).align()
    with monkeypatch.context() as patch:
        patch.setattr("captum_canonical.data.alignment.file_digest", lambda *_: pytest.fail("was read once more"))
        assert data[0].place == 0
    os.utime(paths[0], (0, 0))  # another time, the same bytes
    assert data[0].place == 0
    Image.fromarray(photo(50)).save(paths[1])
    paths[2].unlink()
    for index in (1, 2):
        with pytest.raises(CanonicalError, match=rf"{paths[index].name}: the file changed or went away"):
            data[index]


def test_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 2)

    class Disturbed(CornerAligner):
        def __call__(self, images: list[np.ndarray], *, names: list[str]):  # type: ignore[no-untyped-def]
            if names == ["00.png"]:
                Image.fromarray(photo(50)).save(paths[0])
            return super().__call__(images, names=names)

    with pytest.warns(UserWarning, match="changed while it was read"):
        data = dataset(tmp_path, Disturbed(), cache=tmp_path / "cache").align()
    assert data.places == (1,) and len(list((tmp_path / "cache").iterdir())) == 1


class Refusing(CornerAligner):
    error: Exception = ValueError()

    def __call__(self, images: list[np.ndarray], *, names: list[str]):  # type: ignore[no-untyped-def]
        if names == ["01.png"]:
            raise self.error
        return super().__call__(images, names=names)


def test_a_face_that_cannot_be_aligned_is_left_out(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    aligner = Refusing()
    aligner.__class__.error = AlignmentError("its points coincide")
    with pytest.warns(UserWarning, match="1 not aligned; the first is 01.png: its points coincide"):
        data = dataset(tmp_path, aligner).align()
    assert data.places == (0, 2) and data.counts() == {None: GroupCount(2, not_aligned=1)}


@pytest.mark.parametrize(
    "error", [MissingDependencyError("install it"), CanonicalError("no such model"), MemoryError()]
)
def test_other_errors_of_an_aligner_stop_the_pass_but_lose_nothing(tmp_path: Path, error: Exception) -> None:
    write_photos(tmp_path, 3)
    Refusing.error = error
    data = dataset(tmp_path, Refusing(), cache=tmp_path / "cache")
    with pytest.raises(type(error)):
        data.align()
    assert CornerAligner.calls == ["00.png"] and len(list((tmp_path / "cache").iterdir())) == 1


def test_pipes_and_devices_are_left_out(tmp_path: Path) -> None:
    write_photos(tmp_path, 2)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    data = dataset(tmp_path, cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match="2 of 4 photographs are left out"):
        assert len(data) == 2
    assert all("regular file" in left.reason for left in data.left_out.values())
