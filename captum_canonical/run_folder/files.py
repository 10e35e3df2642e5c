"""A ``.npy`` file with a fixed number of rows, written and read a few rows at a time."""

from __future__ import annotations

import io
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError


class RowFile:
    """An array on disk, of which numpy reads all and this class reads and writes a few rows.

    Rows that were never written are 0 and take no space on most file systems. The file is not mapped into memory, so
    a full disk is an error that can be caught, and the memory that a pass needs is that of the rows at hand.

    Args:
        path: the file.
        shape: of the array; the first dimension counts rows.
        dtype: of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        header = io.BytesIO()
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, facts)
        self._header = header.getvalue()
        self._row = int(np.prod(shape[1:])) * self.dtype.itemsize

    def create(self) -> None:
        """Makes the file, all 0; what was there is gone."""
        with open(self.path, "wb") as file:
            file.write(self._header)
            file.truncate(len(self._header) + self.shape[0] * self._row)

    def check(self) -> None:
        """Raises CanonicalError unless the file is there, whole, and of this shape and type."""
        try:
            with open(self.path, "rb") as file:
                header, size = file.read(len(self._header)), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise CanonicalError(f"{self.path}: expected an array of the run, but {error}.") from error
        expected = len(self._header) + self.shape[0] * self._row
        if header != self._header or size != expected:
            raise CanonicalError(
                f"{self.path}: expected {self.dtype} of shape {self.shape} in {expected} bytes, got {size} bytes"
                f"{'' if header == self._header else ' with another header'}; the file is damaged or of another "
                "run. What is left of it cannot be trusted: make the run again, in a new folder."
            )

    def write(self, start: int, values: np.ndarray) -> None:
        """Puts rows at ``start`` and the following places.

        Raises:
            OSError: no space, no permission.
        """
        content = memoryview(np.ascontiguousarray(values, self.dtype).tobytes())
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(len(self._header) + start * self._row)
            while content:  # a disk that is nearly full takes a part first
                content = content[file.write(content) :]
            os.fsync(file.fileno())

    def read(self, start: int, stop: int) -> np.ndarray:
        """The rows of start..stop as an array in memory."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(len(self._header) + start * self._row)
            values = np.fromfile(file, self.dtype, (stop - start) * (self._row // self.dtype.itemsize))
        return values.reshape(stop - start, *self.shape[1:])

    def mapped(self, rows: int) -> np.ndarray:
        """The first rows as a read-only ``np.memmap``; an empty array, which cannot be mapped, if there are none."""
        if rows == 0 or self._row == 0:
            return np.zeros((rows, *self.shape[1:]), self.dtype)
        return np.load(self.path, mmap_mode="r", allow_pickle=False)[:rows]


LOCK = "lock.json"


class FolderLock:
    """A file that says which process works in a folder; that of a process which is gone does not count.

    Args:
        folder: made if it is not there.

    Raises:
        CanonicalError: the folder is a file or cannot be made; or another process works there,
            or may do so: whether one of another computer lives cannot be told.

    Example::

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with FolderLock(Path(folder.name)):
        ...     FolderLock(Path(folder.name)).__enter__()
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: ...: another run is writing into this folder: process ...
        >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        pid = os.getpid()
        self._own = {"pid": pid, "host": socket.gethostname(), "started": _started(pid), "token": uuid.uuid4().hex}

    def __enter__(self) -> FolderLock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CanonicalError(f"{self._path.parent}: expected a folder, but it cannot be made ({error}).") from error
        for _ in range(10):  # others may try to take over the same stale lock
            if self._take():
                return self
            holder = self._holder()
            if holder is None:
                continue  # released in the meantime
            if _lives(holder):
                raise CanonicalError(
                    f"{self._path.parent}: another run is writing into this folder: process {holder.get('pid')} on "
                    f"{holder.get('host')}. Wait for it or choose another folder; if that process is gone, delete "
                    f"{self._path}."
                )
            self._remove_stale(holder)
        raise CanonicalError(f"{self._path}: expected to get the lock of this folder, but others keep taking it.")

    def __exit__(self, *_: object) -> None:
        holder = self._holder()
        if holder is not None and holder.get("token") == self._own["token"]:
            with suppress(OSError):
                self._path.unlink()

    def _take(self) -> bool:
        """Complete or not at all: a link to a file that is written already."""
        draft = self._path.with_name(f".lock-{self._own['token']}.partial")
        draft.write_text(json.dumps(self._own), "utf-8")
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return self._take_without_links()
        finally:
            draft.unlink()
        return True

    def _take_without_links(self) -> bool:
        try:
            with open(self._path, "x", encoding="utf-8") as file:
                json.dump(self._own, file)
        except FileExistsError:
            return False
        return True

    def _holder(self) -> dict[str, Any] | None:
        try:
            holder = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {"pid": "unknown", "host": "an unknown computer"}
        return holder if isinstance(holder, dict) else {}

    def _remove_stale(self, holder: dict[str, Any]) -> None:
        aside = self._path.with_name(f".lock-{uuid.uuid4().hex}.stale.partial")
        with suppress(FileNotFoundError):
            os.rename(self._path, aside)
            taken = json.loads(aside.read_text("utf-8"))
            if taken != holder:  # somebody else was faster, and this is the new lock
                os.rename(aside, self._path)
            else:
                aside.unlink()


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a lock may be alive."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # signal 0 is none: only whether there is such a process
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return holder.get("started") is None or holder["started"] == _started(pid)  # else its number was given again


def _started(pid: int) -> str | None:
    """When a process began, in its computer's own unit; None where that cannot be told."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return None
    return status.rpartition(")")[2].split()[19]


MANIFEST, FACE, MAPS, COVERAGE = "manifest.json", "canonical_face.npz", "maps.npy", "coverage.npy"
STOPPING = "stopping.json"
MAP_TYPE, COVERAGE_TYPE = np.dtype(np.float32), np.dtype(np.int16)
COLUMNS = (
    *("name", "place", "group", "identity", "label", "target", "predicted", "score", "status", "reason"),
    *("yaw", "pitch"),
)
"""What a record holds, beside the number of its row."""


class RunFiles:
    """The files of one run.

    Args:
        root: the folder.
        count: N, rows of the arrays.
        size: (H, W) of the maps.
    """

    def __init__(self, root: Path, count: int, size: tuple[int, int]) -> None:
        self.root = root
        self.maps = RowFile(root / MAPS, (count, 1, *size), MAP_TYPE)
        self.coverage = RowFile(root / COVERAGE, (count, 1, *size), COVERAGE_TYPE)

    def records(self) -> dict[int, tuple[Any, ...]]:
        """Row -> its :data:`COLUMNS`, of all photographs that are finished; each process wrote a file of its own."""
        found = {}
        for path in record_files(self.root):
            for record in _lines(path):
                if 0 <= record["row"] < self.maps.shape[0]:
                    found[record["row"]] = tuple(map(record.get, COLUMNS))
        return found


def record_file(root: Path, process: int) -> Path:
    """Where the process of this number writes its records."""
    return root / f"records-{process}.jsonl"


def record_files(root: Path) -> list[Path]:
    """All files of records."""
    return sorted(root.glob("records-*.jsonl"))


def foreign_files(root: Path) -> list[str]:
    """Names of files that are not of an unfinished start of a run."""
    own = {LOCK, FACE, MAPS, COVERAGE}
    return sorted(path.name for path in root.iterdir() if path.name not in own and path.suffix != ".partial")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records in a file; a line that was cut off by a crash is none: its photograph is computed again."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if line.endswith("\n") and isinstance(record, dict) and isinstance(record.get("row"), int):
                yield record
