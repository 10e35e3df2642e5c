"""Where everything lies in a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.runs.lock import NAME as LOCK
from captum_canonical.runs.row_file import RowFile

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
