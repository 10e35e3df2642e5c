"""The files of a run folder: their names, the arrays of maps, and the records."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.files import CHECKSUM, open_regular, write_file
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
LABELS = ("name", "place", "group", "identity", "label")
"""What is known about a photograph before it is explained: the same call may bring other labels the next time."""
COLUMNS = (*LABELS, "target", "predicted", "score", "status", "reason", "yaw", "pitch", "rounding")
"""What is known about a photograph of the run, beside the number of its row; ``rounding`` is what half precision does
to a drop, as a share of the largest value of the map (None in float32)."""
CHUNK = 8  # rows that are read at once: enough to keep a processor busy, and no more memory than that


def row_checksums(values: np.ndarray) -> list[int]:
    """Of each row as it lies in a file."""
    return [zlib.crc32(np.ascontiguousarray(row).data) for row in values]


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

    def records(self) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Row -> record of all photographs that are finished, and the files in which a record is damaged.

        Each process wrote a file of its own.
        """
        found, damaged = {}, []
        for path in record_files(self.root):
            for line, record in record_lines(path):
                if record is None:
                    damaged += [path.name] if _is_whole(line) else []
                elif 0 <= record["row"] < self.maps.shape[0]:
                    found[record["row"]] = record
        return found, list(dict.fromkeys(damaged))

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Maps and coverage of consecutive rows."""
        return self.maps.read(start, stop), self.coverage.read(start, stop)

    def damaged(self, records: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
        """Row -> names of the files that hold other bytes than were written, of the rows with a record."""
        wrong: dict[int, str] = {}
        rows = sorted(records)
        for start in range(rows[0], rows[-1] + 1, CHUNK) if rows else ():
            stop = min(start + CHUNK, rows[-1] + 1)
            found = [row_checksums(values) for values in self.read(start, stop)]
            for row in range(start, stop):
                names = [
                    name
                    for name, sums in zip((MAPS, COVERAGE), found, strict=True)
                    if row in records and records[row].get(name) != sums[row - start]
                ]
                wrong |= {row: " and ".join(names)} if names else {}
        return wrong

    def drop(self, rows: Collection[int]) -> None:
        """Removes the records of rows, whose photographs are then computed anew, and damaged records."""
        for path in record_files(self.root):
            lines = list(record_lines(path))
            kept = [line for line, record in lines if record is not None and record["row"] not in rows]
            if len(kept) < len(lines):
                write_file(path, b"".join(kept))


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


def record_line(record: Mapping[str, Any]) -> str:
    """A record as a line with its own checksum."""
    text = json.dumps(record, allow_nan=False)
    return json.dumps({**record, CHECKSUM: zlib.crc32(text.encode())}, allow_nan=False) + "\n"


def record_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The lines of a file and their records; None for one that was cut off by a crash, or damaged."""
    try:
        opened = open_regular(path)
    except OSError as error:
        raise CanonicalError(f"{path}: expected the records of a run, but {error}.") from error
    with opened as file:
        for line in file:
            yield line, _record_of(line)


def _record_of(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        checksum = record.pop(CHECKSUM)
        whole = line.endswith(b"\n") and isinstance(record["row"], int)
        return record if whole and zlib.crc32(json.dumps(record).encode()) == checksum else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_whole(line: bytes) -> bool:
    """Whether a line has its end, so that no crash has cut it off."""
    return line.rstrip().endswith(b"}")
