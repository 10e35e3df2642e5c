"""The run folder: whatever happens to a disk, a file or another process, nothing that was computed is lost."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import captum_canonical as cc
from captum_canonical.files import with_checksum, write_json
from captum_canonical.run_folder import layout, writer
from captum_canonical.run_folder import lock as lock_module
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.run_folder.layout import RowFile
from captum_canonical.run_folder.lock import FolderLock
from captum_canonical.run_folder.manifest import Manifest
from captum_canonical.run_folder.writer import RunWriter, begin_run
from run_tools import COUNT, SIDE, HalfWritten, Network, explain, face, start, summary


# ------------------------------------------------------------------------------------------------------ full disks
class NearlyFull(HalfWritten):
    """A file on a disk that takes a part of the last batch, then nothing more."""

    def write(self, content: Any) -> int:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(content[: 10 if self._left[0] == 0 else None])


@pytest.mark.parametrize("what", ["maps", "coverage", "records"])
def test_a_disk_that_is_full_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    left = [4]

    def opened(path: Path, mode: str = "r", **more: Any) -> Any:
        file = open(path, mode, **more)
        return NearlyFull(file, left) if what in path.name and mode in ("r+b", "ab+") else file

    explain(tmp_path / "undisturbed")
    for module in (layout, writer):
        monkeypatch.setattr(module, "open", opened, raising=False)
    for match in (r"No space left.*What was computed before is kept: make room", "make the same call again"):
        with pytest.raises(cc.CanonicalError, match=match):
            explain(tmp_path / "run")
        partial = cc.ModelSaliency.open(tmp_path / "run")
        assert partial.n == 2 * 3 and not partial.run.complete  # three batches fitted, and stay
    monkeypatch.undo()
    explain(tmp_path / "run")
    assert summary(tmp_path / "run") == summary(tmp_path / "undisturbed")


def test_a_real_limit_of_the_system(tmp_path: Path) -> None:
    process = start(tmp_path / "output.txt", "run_of_small_files", out=tmp_path / "run")
    process.join()
    output = (tmp_path / "output.txt").read_text()
    assert process.exitcode == 1 and "the folder of the run cannot be made" in output and "File too large" in output
    assert explain(tmp_path / "run").n == COUNT  # what was left there is no hindrance


# -------------------------------------------------------------------------------------------------- one at a time
def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    """The second is refused while the first one works; when that has been killed, its lock counts no more."""
    out, output = tmp_path / "run", tmp_path / "output.txt"
    process = start(output, "slow_run", out=out, seconds=0.05)
    while not list(out.glob("records*")):
        assert process.is_alive(), output.read_text()
    with pytest.raises(cc.CanonicalError, match=f"another run is writing into this folder: process {process.pid} on"):
        explain(out)
    reading = cc.ModelSaliency.open(out)  # reading is allowed at any time
    assert 0 < reading.n < COUNT
    process.kill()
    process.join()
    assert (out / "lock.json").exists()
    assert explain(out).n == COUNT and not (out / "lock.json").exists()


def test_locks_of_others(tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    here = {"pid": os.getpid(), "host": socket.gethostname(), "token": "other"}
    lock.write_text(json.dumps(here | {"host": "another-computer"}))
    with pytest.raises(cc.CanonicalError, match=r"on another-computer.*if that process is gone, delete .*lock.json"):
        explain(tmp_path)
    lock.write_text("half a lo")
    with pytest.raises(cc.CanonicalError, match="process unknown on an unknown computer"):
        explain(tmp_path)
    lock.write_text(json.dumps(here))  # of a dead process, even if its number was given again: nobody holds the lock
    with FolderLock(tmp_path):
        assert json.loads(lock.read_text())["token"] != "other"
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with FolderLock(tmp_path):
        lock.write_text(json.dumps(here))
    assert lock.exists()  # somebody else's by now


def test_a_lock_that_children_of_a_dead_process_hold_is_waited_for(tmp_path: Path) -> None:
    """As workers of a DataLoader do, until they notice that their parent was killed."""
    process = start(tmp_path / "output.txt", "locked_and_killed", out=tmp_path / "run", seconds=2.0)
    process.join()
    assert process.exitcode == -9, (tmp_path / "output.txt").read_text()
    with FolderLock(tmp_path / "run") as lock:
        assert lock is not None
    assert not (tmp_path / "run/lock.json").exists()


def test_folders_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FolderLock(tmp_path)
    monkeypatch.setattr(lock._guard, "acquire", lambda **_: fail(errno.EIO))
    with pytest.raises(cc.CanonicalError, match=r"expected a folder that can be locked, but .*Input/output error"):
        lock.__enter__()
    monkeypatch.setattr(lock_module, "write_json", lambda *_: fail(errno.ENOSPC))
    with pytest.raises(cc.CanonicalError, match=r"the folder of the run cannot be made .*No space left"):
        (kept := FolderLock(tmp_path)).__enter__()
    monkeypatch.undo()
    with FolderLock(tmp_path):  # what failed holds no lock
        assert kept is not None


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


# ------------------------------------------------------------------------------------------------- damaged folders
def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(cc.CanonicalError, match=r"new or empty folder, or that of a run, but it holds thesis.docx"):
        explain(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    with pytest.raises(cc.CanonicalError, match="expected a folder, but it cannot be made"):
        explain(tmp_path / "thesis.docx")
    with pytest.raises(cc.CanonicalError, match=r"holds no manifest.json"):
        RunFolder.open(tmp_path)
    with pytest.raises(cc.CanonicalError, match="there is no such folder"):
        RunFolder.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["maps.npy", "coverage.npy", "manifest.json", "canonical_face.npz"])
def test_files_that_were_cut_in_half(tmp_path: Path, name: str) -> None:
    explain(tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(cc.CanonicalError, match=name.split(".")[0] if name.endswith("npy") else None):
        _ = cc.ModelSaliency.open(tmp_path / "run").mean
    if name != "canonical_face.npz":
        with pytest.raises(cc.CanonicalError):
            explain(tmp_path / "run")  # is not written over


def test_manifests_of_other_releases(tmp_path: Path) -> None:
    explain(tmp_path / "run")
    path = tmp_path / "run/manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"format": "captum_canonical run 99"}))
    with pytest.raises(cc.CanonicalError, match=r"expected the format 'captum_canonical run 2', got '.*99'"):
        explain(tmp_path / "run")
    write_json(path, with_checksum({key: value for key, value in values.items() if key != "size"}))
    with pytest.raises(cc.CanonicalError, match="the manifest is incomplete"):
        RunFolder.open(tmp_path / "run")
    write_json(path, with_checksum(values | {"versions": values["versions"] | {"torch": "1.0"}}))
    with pytest.warns(UserWarning, match="may differ by rounding"):
        explain(tmp_path / "run")


def test_lines_that_were_cut_off_or_damaged_are_computed_again(tmp_path: Path) -> None:
    explain(tmp_path / "run")
    before = summary(tmp_path / "run")
    records = tmp_path / "run/records-0.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    lines[4] = b"\xff\xfe\x00 no JSON\n"
    records.write_bytes(b"".join(lines)[:-20])  # without its last newline
    run = RunFolder.open(tmp_path / "run")
    assert len(run) == 4 and "7 behind the first gap" in run.missing
    seen: list[int] = []
    explain(tmp_path / "run", Network(seen.append))
    assert len(set(seen)) == 3  # the batch of the damaged line, and the last photograph
    assert summary(tmp_path / "run") == before and len(RunFolder.open(tmp_path / "run")) == COUNT


# --------------------------------------------------------------------------------------------------------- arrays
def test_rows_are_those_of_numpy(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(7, 1, 3, 2)).astype(np.float32)
    file = RowFile(tmp_path / "rows.npy", array.shape, array.dtype)
    file.create()
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), np.zeros_like(array))
    file.write(4, array[4:])
    file.write(0, array[:4])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), array)
    np.testing.assert_array_equal(file.read(2, 6), array[2:6])
    np.testing.assert_array_equal(file.mapped(5), array[:5])
    assert file.mapped(0).shape == (0, 1, 3, 2) and not file.mapped(5).flags.writeable


def test_what_is_finished_stays_as_it_is(tmp_path: Path) -> None:
    """A batch that was cut off between two records is computed again; the row before the cut keeps map and record."""
    begin_run(tmp_path, Manifest(2, (SIDE, SIDE), {}, "network", "data"), face())
    one, two = np.ones((1, 1, SIDE, SIDE)), np.full((2, 1, SIDE, SIDE), 2.0)
    RunWriter(tmp_path, 1).write(0, one, one, [{"name": "a", "status": "done"}])
    again = RunWriter(tmp_path, 0)
    assert not again.finished(range(2))
    again.write(0, two, two, [{"name": "a", "status": "failed"}, {"name": "b", "status": "done"}])
    run = RunFolder.open(tmp_path)
    assert run.records["status"] == ["done", "done"] and run.maps[:, 0, 0, 0].tolist() == [1, 2]


def test_writers_refuse_numbers_that_do_not_fit(tmp_path: Path) -> None:
    explain(tmp_path / "run")
    rows = RunWriter(tmp_path / "run")
    maps = np.zeros((1, 1, SIDE, SIDE))
    for wrong in (maps + 0.5, maps - 1, maps + 40_000):
        with pytest.raises(cc.CanonicalError, match="whole numbers of hits from 0 to 32767"):
            rows.write(0, maps, wrong, [{"name": "a"}])
    assert rows.finished(range(COUNT))


@pytest.mark.parametrize("name", ["manifest.json", "maps.npy", "records-0.jsonl", "canonical_face.npz"])
def test_folders_with_pipes_and_devices_in_them_are_refused(tmp_path: Path, name: str) -> None:
    explain(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).symlink_to("/dev/zero")
    with pytest.raises(cc.CanonicalError, match="a pipe, a socket or a device"):
        _ = RunFolder.open(tmp_path / "run").canonical_face
