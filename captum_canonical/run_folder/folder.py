"""Reading a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import read_json
from captum_canonical.run_folder.layout import COLUMNS, FACE, MANIFEST, STOPPING, RunFiles
from captum_canonical.run_folder.manifest import Manifest, PhotoColumns, read_photographs

CHUNK = 8  # rows that are read at once: enough to keep a processor busy, and no more memory than that
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
        classes: names of the classes that records give as numbers, or None.
        count: photographs that the whole run has, those that failed included.
        records: column -> one entry for each row: ``name``, ``place`` (in the source of the data), ``group``,
            ``identity``, ``label`` (the target that the data know), ``target`` (the one that is explained),
            ``predicted`` (class with the largest output, None where there is a single one), ``score`` (of the target),
            ``status`` ("done" or "failed"), ``reason``, and ``yaw`` and ``pitch`` of the head in degrees (positive
            where it looks to the image's right, and up; None where the mesh has no depth).
        left_out_before: place in the source of the data -> name and reason of each photograph that took no part.
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
        self.classes = manifest.classes
        self.count = manifest.count
        self.size = manifest.size
        self.left_out_before = manifest.left_out
        self._files = RunFiles(path, manifest.count, manifest.size)
        self._files.maps.check()
        self._files.coverage.check()
        self.stopping: Mapping[str, Any] = read_json(path / STOPPING) or {}
        found = self._files.records()
        rows = next((row for row in range(self.count) if row not in found), self.count)
        stopped = self.stopping.get("stopped_at")
        self._stopped = stopped is not None and stopped <= rows
        self._rows: int = stopped if stopped is not None and self._stopped else rows
        self._beyond = sum(row > rows for row in found)
        self.records: Records = {
            name: [found[row][place] for row in range(self._rows)] for place, name in enumerate(COLUMNS)
        }

    @classmethod
    def open(cls, path: str | PathLike[str]) -> RunFolder:
        """Reads the folder of a run.

        Raises:
            CanonicalError: it is none, or damaged.
        """
        root = Path(path)
        if not root.is_dir():
            raise CanonicalError(f"{root}: expected the folder of a run, but there is no such folder.")
        return cls(root, Manifest.read(root / MANIFEST))

    def __len__(self) -> int:
        return self._rows

    # ----------------------------------------------------------------------------------------------- the maps
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
        """
        first, last, _ = slice(start, stop).indices(self._rows)
        last = max(first, last)
        return torch.from_numpy(self._files.maps.read(first, last)), torch.from_numpy(
            self._files.coverage.read(first, last)
        )

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
    def n(self) -> int:
        """Photographs with a map."""
        return self.records["status"].count("done")

    @property
    def complete(self) -> bool:
        """Whether every photograph is finished, or a stopping rule found that there are enough."""
        return self._stopped or self._rows == self.count

    @property
    def missing(self) -> str:
        """What is not there yet, in words; empty if the run is complete."""
        if self.complete:
            return ""
        more = f" ({self._beyond} behind the first gap are finished and kept until then)" if self._beyond else ""
        return (
            f"{self.count - self._rows} of {self.count} photographs are not finished{more}; the call that made this "
            "folder goes on when it is made again."
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
