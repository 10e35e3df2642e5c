"""Writing a run folder, so that whatever happens at most the batch at hand is lost."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.run_folder.layout import (
    COVERAGE,
    COVERAGE_TYPE,
    FACE,
    MANIFEST,
    MAP_TYPE,
    MAPS,
    RunFiles,
    record_file,
    record_files,
    record_line,
    row_checksums,
)
from captum_canonical.run_folder.manifest import Manifest


def begin_run(root: Path, manifest: Manifest, canonical_face: CanonicalFace) -> None:
    """Makes the folder of a run, or makes sure that the run which is there can go on; the caller holds its lock.

    Args:
        root: the folder, which exists.
        manifest: what the run is made with.
        canonical_face: the face that maps are written on.

    Raises:
        CanonicalError: the folder holds a run with other settings, or cannot be written to.
    """
    files = RunFiles(root, manifest.count, manifest.size)
    if (root / MANIFEST).exists() and not any(path.stat().st_size for path in record_files(root)):
        (root / MANIFEST).unlink()  # nothing was finished, as by a call with a mistake in it: nothing to go on with
    if (root / MANIFEST).exists():
        check_same(root, Manifest.read(root / MANIFEST), manifest)
        files.maps.check()
        files.coverage.check()
        _repair(files, canonical_face)
        return
    try:
        files.maps.create()
        files.coverage.create()
        canonical_face.save(root / FACE)
        manifest.write(root / MANIFEST)  # last: a folder that has one is ready
    except OSError as error:
        raise CanonicalError(f"{root}: the folder of the run cannot be made ({error}).") from error


def _repair(files: RunFiles, canonical_face: CanonicalFace) -> None:
    """Removes the records of damaged maps, and writes a damaged face again: the manifest says that it is this one."""
    records, damaged_records = files.records()
    damaged = files.damaged(records)
    if damaged_records or damaged:
        files.drop(damaged)
    if damaged:
        warnings.warn(
            f"{files.root}: {', '.join(dict.fromkeys(damaged.values()))}: damaged in {len(damaged)} rows "
            f"({', '.join(map(str, [*damaged][:5]))}{', ...' if len(damaged) > 5 else ''}); their photographs are "
            "computed anew.",
            stacklevel=user_stacklevel(),
        )
    try:
        CanonicalFace.load(files.root / FACE)
    except CanonicalError as error:
        warnings.warn(f"{error} It is written again.", stacklevel=user_stacklevel())
        canonical_face.save(files.root / FACE)


def check_same(root: Path, there: Manifest, now: Manifest) -> None:
    """Raises CanonicalError with the differences unless a run may go on with these settings."""
    differences = there.differences(now)
    if differences:
        what = " The network's weights, settings, hooks or code are others." if there.network != now.network else ""
        raise CanonicalError(
            f"{root}: expected the folder of a run with the same settings, but they differ in "
            f"{'; '.join(differences)}.{what} Choose another folder, or call with the settings of this one."
        )
    if dict(there.versions) != dict(now.versions):
        warnings.warn(
            f"{root}: the run was begun with {dict(there.versions)} and goes on with {dict(now.versions)}; maps of "
            "before and after may differ by rounding.",
            stacklevel=user_stacklevel(),
        )


class RunWriter:
    """Writes the rows of one process of a run.

    A photograph is finished when its record is written, which happens after its map is on the disk.

    Args:
        root: a folder that :func:`begin_run` made.
        process: number of this process; each writes records into a file of its own.
    """

    def __init__(self, root: Path, process: int = 0) -> None:
        manifest = Manifest.read(root / MANIFEST)
        self._files = RunFiles(root, manifest.count, manifest.size)
        self._records = record_file(root, process)
        self._finished = np.zeros(manifest.count, bool)
        self._finished[list(self._files.records()[0])] = True

    def finished(self, rows: range) -> bool:
        """Whether all of these rows are recorded."""
        return bool(self._finished[rows.start : rows.stop].all())

    def write(self, start: int, maps: np.ndarray, coverage: np.ndarray, records: Sequence[Mapping[str, Any]]) -> None:
        """Adds the photographs of a batch; those that are finished already (a crash cut it off) stay as they are.

        Args:
            start: row of the first one.
            maps: (B, 1, H, W), finite where covered; what they hold elsewhere is written as 0.
            coverage: (B, 1, H, W) whole numbers of hits; 0 for photographs without a map.
            records: what was found for each, as JSON can hold it; checksums of the rows are added.

        Raises:
            CanonicalError: the files cannot be written (no space), or the numbers do not fit; the rows before stay.
        """
        limit = np.iinfo(COVERAGE_TYPE).max
        if not ((coverage == np.floor(coverage)) & (coverage >= 0) & (coverage <= limit)).all():
            raise CanonicalError(f"coverage: expected whole numbers of hits from 0 to {limit}, got others.")
        known = self._finished[start : start + len(records)]
        if known.any():
            for place in np.flatnonzero(~known).tolist():
                row = slice(place, place + 1)
                self.write(start + place, maps[row], coverage[row], records[row])
            return
        values = np.where(coverage > 0, maps, 0).astype(MAP_TYPE)
        hits = coverage.astype(COVERAGE_TYPE)
        sums = zip(row_checksums(values), row_checksums(hits), strict=True)
        lines = [
            record_line({"row": start + place, **record, MAPS: of_map, COVERAGE: of_hits})
            for place, (record, (of_map, of_hits)) in enumerate(zip(records, sums, strict=True))
        ]
        try:
            self._files.maps.write(start, values)
            self._files.coverage.write(start, hits)
            self._append("".join(lines))
        except OSError as error:
            raise CanonicalError(
                f"{self._files.root}: a batch cannot be written ({error}). What was computed before is kept: make room "
                "and make the same call again, which goes on from there."
            ) from error
        self._finished[start : start + len(records)] = True

    def _append(self, text: str) -> None:
        with open(self._records, "ab+", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that was cut off: it must not swallow the next one
                    text = "\n" + text
            content = memoryview(text.encode())
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
