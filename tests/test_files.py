"""Files are whole or as they were, whatever happens to the program, the disk or the place they are written to."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from captum_canonical import files
from captum_canonical.errors import CanonicalError
from captum_canonical.files import json_text, read_json, read_regular, write_file, write_json


def fail_half_way(file: IO[bytes]) -> None:
    file.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(file: IO[bytes]) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("content", [fail_half_way, interrupted])
@pytest.mark.parametrize("exists", [True, False])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, content: Callable[[IO[bytes]], None], exists: bool
) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_text("old")
    with pytest.raises((OSError, KeyboardInterrupt)):
        write_file(path, content)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"] * exists


def test_a_disk_that_refuses_to_sync_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(files.os, "fsync", lambda _: fail_half_way(path.with_name("other").open("wb")))
    with pytest.raises(OSError, match="No space"):
        write_file(path, "new")
    assert path.read_text() == "old" and not list(tmp_path.glob(".*"))
    write_file(path, "new", sync=False)
    assert path.read_text() == "new"


def test_permissions_of_the_old_file_or_those_of_the_umask(tmp_path: Path) -> None:
    path, usual = tmp_path / "file", tmp_path / "usual"
    usual.touch()
    write_file(path, "new")
    assert path.stat().st_mode == usual.stat().st_mode
    path.chmod(0o600)
    write_file(path, "newer")
    assert path.stat().st_mode & 0o777 == 0o600


def test_links_are_followed_and_devices_stay_devices(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_file(tmp_path / "link", b"through the link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "through the link"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_file(tmp_path / "pipe", "into the pipe")
    assert os.read(reader, 100) == b"into the pipe" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_names_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_file(tmp_path / ("n" * 255), "new")
    assert (tmp_path / ("n" * 255)).read_text() == "new"


def test_json_has_no_nan_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    write_json(path, {"a": [math.nan, {"b": (-math.inf, 1.5)}], None: True})
    assert read_json(path) == {"a": [None, {"b": [None, 1.5]}], "null": True}
    with pytest.raises(TypeError, match="PosixPath is not JSON serializable"):
        json_text({"path": tmp_path})
    assert json.loads(json_text({"path": tmp_path}, str)) == {"path": str(tmp_path)}


def test_reading_says_which_file_is_wrong(tmp_path: Path) -> None:
    assert read_json(tmp_path / "nowhere.json") is None
    path = tmp_path / "values.json"
    for text, match in (("{ half", "cannot be read"), ("[1]", "got a list")):
        path.write_text(text)
        with pytest.raises(CanonicalError, match=f"values.json: expected a JSON object.*{match}"):
            read_json(path)


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "good").symlink_to(tmp_path / "file")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="a pipe, a socket or a device"):
            read_regular(tmp_path / name)
        with pytest.raises(CanonicalError, match="cannot be read"):
            read_json(tmp_path / name)
    assert read_regular(tmp_path / "good") == b"abc"
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
