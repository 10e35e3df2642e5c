"""The files of a run folder: their names, the arrays of maps, and the records."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.files import open_regular
from captum_canonical.run_folder.lock import GUARD, HOLDER


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
            with open_regular(self.path) as file:
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


def check_folder(root: Path) -> None:
    """Raises CanonicalError where a folder holds other files than those of a run."""
    if not root.is_dir() or (root / MANIFEST).exists():
        return
    own = {GUARD, HOLDER, FACE, MAPS, COVERAGE}  # what a run leaves that was killed at its start
    others = sorted(path.name for path in root.iterdir() if path.name not in own and path.suffix != ".partial")
    if others:
        raise CanonicalError(
            f"{root}: expected a new or empty folder, or that of a run, but it holds {', '.join(others[:5])} and no "
            f"{MANIFEST}; choose another folder."
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records in a file; a line that was cut off by a crash is none: its photograph is computed again."""
    try:
        opened = open_regular(path)
    except OSError as error:
        raise CanonicalError(f"{path}: expected the records of a run, but {error}.") from error
    with io.TextIOWrapper(opened, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if line.endswith("\n") and isinstance(record, dict) and isinstance(record.get("row"), int):
                yield record
