"""Reading a run folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_path
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import read_json
from captum_canonical.inference.rounding import rounding_text
from captum_canonical.run_folder.layout import (
    CHUNK,
    COLUMNS,
    COVERAGE,
    FACE,
    LABELS,
    MANIFEST,
    MAPS,
    STOPPING,
    RunFiles,
    row_checksums,
)
from captum_canonical.run_folder.manifest import PHOTOGRAPHS, Manifest, PhotoColumns, read_photographs

Records = dict[str, list[Any]]
"""Column -> one entry for each row."""


class RunFolder:
    """The maps of a run, photograph by photograph, whether or not it is finished.

    A snapshot: what a run that goes on adds is there when the folder is opened again. Rows are in the order of the
    run, and end before the first photograph that is not finished.

    Attributes:
        path: the folder.
        settings: what the run was made with.
        versions: of the packages.
        network, data: fingerprints of the network and the photographs.
        count: photographs that the whole run has, those that failed included.
        stopping: what a stopping rule said, ``{}`` without one.

    Example::

        >>> import tempfile
        >>> import torch
        >>> from captum_canonical import FaceMesh, explain_dataset
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(5, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> data, folder = (torch.rand(5, 3, 32, 32), faces), tempfile.TemporaryDirectory()
        >>> result = explain_dataset(lambda x: x.mean((1, 2, 3)), data, folder.name, canonical_face=face, num_points=8,
        ...                          network_key="brightness", show_progress=False)
        >>> run = RunFolder.open(folder.name)
        >>> run.complete, run.missing, run.maps.shape, run.records["status"].count("failed")
        (True, '', (5, 1, 32, 32), 0)
        >>> folder.cleanup()
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.settings = manifest.settings
        self.versions = manifest.versions
        self.network, self.data = manifest.network, manifest.data
        self.count = manifest.count
        self.size = manifest.size
        self._files = RunFiles(path, manifest.count, manifest.size)
        self._files.maps.check()
        self._files.coverage.check()
        self.stopping: Mapping[str, Any] = _stopping(path)
        self._found, self._damaged_records = self._files.records()
        rows = next((row for row in range(self.count) if row not in self._found), self.count)
        stopped = self.stopping.get("stopped_at")
        self._stopped = stopped is not None and stopped <= rows
        self._rows: int = stopped if stopped is not None and self._stopped else rows
        self._beyond = sum(row > rows for row in self._found)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> RunFolder:
        """Reads the folder of a run.

        Raises:
            CanonicalError: it is none, or damaged.
        """
        root = check_path("path", path)
        if not root.is_dir():
            raise CanonicalError(f"{root}: expected the folder of a run, but there is no such folder.")
        return cls(root, Manifest.read(root / MANIFEST))

    def __len__(self) -> int:
        return self._rows

    # ----------------------------------------------------------------------------------------------- the maps
    @cached_property
    def damaged(self) -> Mapping[int, str]:
        """Row -> the files in which it does not have its checksum; all rows are read once to find them.

        These photographs are left out, and the call that made the folder computes them anew.
        """
        wrong = self._files.damaged({row: self._found[row] for row in range(self._rows)})
        if wrong:
            names = [f"{self._labels(row)['name']} ({files})" for row, files in wrong.items()]
            warnings.warn(
                f"{self.path}: {len(names)} damaged and left out: {', '.join(names[:10])}"
                f"{', ...' if len(names) > 10 else ''}. The call that made this folder computes them anew.",
                stacklevel=user_stacklevel(),
            )
        return wrong

    @cached_property
    def records(self) -> Records:
        """Column -> one entry for each row.

        They are ``name``, ``place`` (in the source of the data), ``group``, ``identity``, ``label`` (the target that
        the data know), ``target`` (the one that is explained), ``predicted`` (class with the largest output, None where
        there is a single one), ``score`` (of the target), ``status`` ("done", "failed" or, where the files were changed
        since, "damaged"), ``reason``, ``yaw`` and ``pitch`` of the head in degrees (positive where it looks to the
        upright image's right, and up; None where the mesh has no depth), and ``rounding``, how far rounding moves a
        drop where scores are computed in half precision, as a share of the largest value of the map (None in float32).
        The :attr:`group_columns` follow, and what else is known about how well faces are seen (``turn``, ``faces`` and
        so on, see :data:`~captum_canonical.faces.quality.QUALITY`).
        """
        rows = [self._record(row) for row in range(self._rows)]
        return {name: [row.get(name) for row in rows] for name in (*COLUMNS, *self.group_columns, *self._quality)}

    @property
    def _quality(self) -> list[str]:
        """Measures of faces that are known; yaw and pitch in the network's input are columns of their own."""
        known = (self.photographs or {}).get("quality", {}) if self.has_labels else {}
        return [name for name in known if name not in COLUMNS]

    def _record(self, row: int) -> dict[str, Any]:
        found = self._found[row]
        values = self._labels(row) | {name: found.get(name) for name in COLUMNS[len(LABELS) :]}
        if row in self.damaged:
            return values | {"status": "damaged", "reason": f"{self.damaged[row]} is damaged"}
        return values

    def _labels(self, row: int) -> dict[str, Any]:
        place = self._found[row].get("place")
        return self._all_labels.get(row, {"name": f"photograph {place}", "place": place})

    @cached_property
    def _all_labels(self) -> dict[int, dict[str, Any]]:
        """Row -> its labels, from the only file that holds them."""
        try:
            known, why = self.photographs, f"{self.path / PHOTOGRAPHS} is missing."
        except CanonicalError as error:
            known, why = None, str(error)
        if known is None:
            if self._found:
                warnings.warn(
                    f"{why} Names, groups, identities, labels and classes are not known until the call that made the "
                    "run is made again.",
                    stacklevel=user_stacklevel(),
                )
            return {}
        columns = {**{name: known[name] for name in LABELS}, **known.get("groups", {}), **known.get("quality", {})}
        return {
            row: {name: column[each] for name, column in columns.items()}
            for each, row in enumerate(known["row"])
            if row is not None
        }

    @property
    def identities(self) -> list[str | None]:
        """Who is on the photograph of each row, as in :attr:`records`, for which all maps are read; this reads none."""
        return [self._labels(row).get("identity") for row in range(self._rows)]

    @property
    def group_columns(self) -> list[str]:
        """Names of the columns that photographs can be compared by beside ``group``, such as "gender" and "race"."""
        return list((self.photographs or {}).get("groups", {})) if self.has_labels else []

    @property
    def has_labels(self) -> bool:
        """Whether the names, groups and so on of the photographs are known; :attr:`photographs` can be read."""
        return bool(self._all_labels)

    @property
    def classes(self) -> Sequence[str] | None:
        """Names of the classes that records give as numbers, or None."""
        return (self.photographs or {}).get("classes") if self.has_labels else None

    @property
    def left_out_before(self) -> dict[int, str]:
        """Place in the source of the data -> name and reason of each photograph that took no part."""
        known = self.photographs if self.has_labels else None
        if known is None:
            return {}
        rows = zip(*(known[name] for name in ("place", "path", "name", "left_out", "reason")), strict=True)
        return {place: f"{Path(path or name).name}: {reason}" for place, path, name, kind, reason in rows if kind}

    @property
    def maps(self) -> np.ndarray:
        """(rows, 1, H, W) float32, a read-only ``np.memmap``; 0 where nothing was seen and for failed photographs."""
        return self._files.maps.mapped(self._rows)

    @property
    def coverage(self) -> np.ndarray:
        """(rows, 1, H, W) int16, a read-only ``np.memmap`` of the number of hits; 0 for failed photographs."""
        return self._files.coverage.mapped(self._rows)

    def tensors(self, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """Maps (rows, 1, H, W) float32 and coverage (rows, 1, H, W) int16 of some rows, copied into memory.

        Args:
            start: the first row.
            stop: the row after the last one. Default: all.

        Raises:
            CanonicalError: a row is damaged.
        """
        first, last, _ = slice(start, stop).indices(self._rows)
        last = max(first, last)
        maps, coverage = self._files.read(first, last)
        for name, values in ((MAPS, maps), (COVERAGE, coverage)):
            for row, found in enumerate(row_checksums(values), first):
                if found != self._found[row].get(name):
                    raise CanonicalError(
                        f"{self.path / name}: the map of {self._labels(row)['name']} (row {row}) is damaged: it has "
                        "another checksum than when it was written. The call that made this folder computes it anew."
                    )
        return torch.from_numpy(maps), torch.from_numpy(coverage)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Maps and coverage, a few rows at a time and always the same ones, so that sums have the same rounding."""
        first, last, _ = slice(start, stop).indices(self._rows)
        for row in range(first, last, CHUNK):
            yield self.tensors(row, min(row + CHUNK, last))

    @property
    def canonical_face(self) -> CanonicalFace:
        """The face that the maps are written on."""
        return CanonicalFace.load(self.path / FACE)

    @cached_property
    def photographs(self) -> PhotoColumns | None:
        """All photographs of the source, those without a map too; None for folders that do not know."""
        return read_photographs(self.path)

    # ------------------------------------------------------------------------------------------------- reports
    @property
    def rounding(self) -> str:
        """What half precision does to the maps, in words; empty if it does nothing."""
        shares = [share for share in self.records["rounding"] if share is not None]
        return rounding_text(torch.tensor(shares), "the scores were computed in half precision")

    @property
    def approximation(self) -> str:
        """What each single map is made of where points rotate, such as "64 of 1,024 points"; else empty."""
        arguments = self.settings.get("arguments", {})
        if arguments.get("points") != "rotating":
            return ""
        return f"{arguments['num_points']:,} of {self.canonical_face.num_points:,} points"

    @property
    def has_damage(self) -> bool:
        """Whether photographs are missing because a map or a record is not as it was written."""
        return bool(self.damaged or (self._damaged_records and not self.complete))

    @property
    def n(self) -> int:
        """Photographs with a map."""
        return self.records["status"].count("done")

    @property
    def complete(self) -> bool:
        """Whether every photograph is finished, or a stopping rule found that there are enough."""
        return (self._stopped or self._rows == self.count) and not self.damaged

    @property
    def missing(self) -> str:
        """What is not there yet, in words; empty if the run is complete."""
        if self.complete:
            return ""
        if self.damaged:
            return (
                f"{len(self.damaged)} of {self.count} photographs are damaged and left out; the call that made this "
                "folder computes them anew when it is made again."
            )
        more = f" ({self._beyond} behind the first gap are finished and kept until then)" if self._beyond else ""
        lost = f"; records in {', '.join(self._damaged_records)} are damaged" if self._damaged_records else ""
        return (
            f"{self.count - self._rows} of {self.count} photographs are not finished{more}{lost}; the call that made "
            "this folder goes on when it is made again."
        )

    @property
    def left_out(self) -> dict[int, str]:
        """Place in the source of the data -> name and reason of each photograph without a map."""
        failed = {
            place: f"{name}: {reason}"
            for place, name, status, reason in zip(
                *(self.records[column] for column in ("place", "name", "status", "reason")), strict=True
            )
            if status != "done"
        }
        return dict(sorted({**self.left_out_before, **failed}.items()))


def _stopping(path: Path) -> dict[str, Any]:
    if not (path / STOPPING).exists():
        return {}
    try:
        return read_json(path / STOPPING, checked=True) or {}
    except CanonicalError as error:
        raise CanonicalError(f"{error} Make the call that made the run again, which writes the file anew.") from error
