"""The maps of single photographs behind a model-level map, in memory or in run folders."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.run_folder.folder import Records, RunFolder
from captum_canonical.run_folder.layout import CHUNK
from captum_canonical.run_folder.manifest import flat
from captum_canonical.statistics.labels import without_missing

VALUE_SETTINGS = ("method", "arguments", "target")
"""Settings of a run that determine the values of its maps; the others select photographs and their order."""

CLASS_COLUMNS = ("label", "target", "predicted")
"""Columns that hold classes."""

FACE_SETTINGS = ("method.canonical_face",)
"""Settings that :func:`~captum_canonical.saliency.mean_map.check_same_face` compares, vertex by vertex."""


@dataclass(frozen=True, eq=False)
class MapsInMemory:
    """Maps (N, 1, H, W) and coverage (N, 1, H, W) as tensors, of unknown provenance."""

    maps: Tensor
    coverage: Tensor

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Maps and coverage (rows, 1, H, W) of consecutive rows, as views."""
        return self.maps[start:stop], self.coverage[start:stop]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All maps and their coverage, as views."""
        return self.maps.numpy(), self.coverage.numpy()

    def photo_key(self, row: int) -> Hashable:
        """Equal for two rows only if they hold the same photograph: the address in memory."""
        return self.maps[row].data_ptr()

    def provenance(self) -> None:
        """Unknown."""


@dataclass(frozen=True, eq=False)
class MapsInRun:
    """Maps in the files of a run folder."""

    run: RunFolder

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Maps and coverage (rows, 1, H, W) of consecutive rows, copied into memory."""
        return self.run.tensors(start, stop)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All maps and their coverage, as memory-mapped files."""
        return self.run.maps, self.run.coverage

    def photo_key(self, row: int) -> Hashable:
        """Equal for two rows only if they hold the same photograph: the data set and the place in it."""
        return self.run.data, self.run.records["place"][row]

    def provenance(self) -> dict[str, str]:
        """The network and the settings that determine the values of the maps."""
        settings = {name: self.run.settings[name] for name in VALUE_SETTINGS if name in self.run.settings}
        return {"network": self.run.network} | {name: str(value) for name, value in flat(settings)}


@dataclass(frozen=True, eq=False)
class SingleMaps:
    """The maps of n photographs.

    Attributes:
        sources: where the maps are stored.
        places: (n, 2) int64, for each photograph the index of its source and its row there.
        records: column -> n entries; the columns of a run are those of :attr:`RunFolder.records`,
            with class names instead of class indices where the run knows them.
    """

    sources: Sequence[MapsInMemory | MapsInRun]
    places: Tensor
    records: Records

    @classmethod
    def of_run(cls, run: RunFolder) -> SingleMaps:
        """The photographs of a run that have a map, in the order of the run."""
        rows = [row for row, status in enumerate(run.records["status"]) if status == "done"]
        records = {name: [column[row] for row in rows] for name, column in run.records.items()}
        for name in CLASS_COLUMNS:
            records[name] = [_class_name(value, run.classes or ()) for value in records[name]]
        return cls([MapsInRun(run)], _places(rows), records)

    @classmethod
    def in_memory(cls, maps: Tensor, coverage: Tensor, records: Records) -> SingleMaps:
        """Those of (N, 1, H, W) maps that are covered anywhere; the tensors are kept, not copied."""
        rows = torch.nonzero((coverage > 0).flatten(1).any(1)).flatten().tolist()
        kept = {name: [column[row] for row in rows] for name, column in records.items()}
        return cls([MapsInMemory(maps, coverage)], _places(rows), kept)

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, numbers: Sequence[int]) -> SingleMaps:
        """The photographs with these indices, in the order given."""
        chosen = torch.as_tensor(numbers, dtype=torch.int64)
        records = {name: [column[number] for number in chosen.tolist()] for name, column in self.records.items()}
        return SingleMaps(self.sources, self.places[chosen], records)

    def joined(self, other: SingleMaps) -> SingleMaps:
        """These, followed by the others; a column that one of them lacks holds None there."""
        places = torch.cat([self.places, other.places + torch.tensor([len(self.sources), 0])])
        records = {
            name: [*self.records.get(name, [None] * len(self)), *other.records.get(name, [None] * len(other))]
            for name in dict.fromkeys([*self.records, *other.records])
        }
        return SingleMaps([*self.sources, *other.sources], places, records)

    def with_column(self, name: str, column: Sequence[Any]) -> SingleMaps:
        """The same with this column added or replaced."""
        return SingleMaps(self.sources, self.places, {**self.records, name: list(column)})

    @property
    def approximation(self) -> str:
        """Of :attr:`RunFolder.approximation`, for the first source that has one."""
        runs = [source.run for source in self.sources if isinstance(source, MapsInRun)]
        return next((run.approximation for run in runs if run.approximation), "")

    # ---------------------------------------------------------------------------------------- identity, provenance
    def photo_keys(self) -> list[Hashable]:
        """A key for each photograph; equal keys mean the same photograph."""
        return [self.sources[source].photo_key(row) for source, row in self.places.tolist()]

    def count_shared(self, other: SingleMaps) -> int:
        """How many photographs are certainly in both."""
        return len({*self.photo_keys()} & {*other.photo_keys()})

    def source_sizes(self) -> list[int]:
        """How many maps each source holds, including those that cover nothing or were not selected."""
        return [len(source.arrays()[0]) for source in self.sources]

    def provenances(self) -> list[dict[str, str]]:
        """The network and settings of each source, without duplicates; sources of unknown provenance are skipped."""
        known = [source.provenance() for source in self.sources]
        return [each for number, each in enumerate(known) if each is not None and each not in known[:number]]

    # ---------------------------------------------------------------------------------------------- the maps
    @property
    def maps(self) -> np.ndarray:
        """(n, 1, H, W), read-only; memory-mapped if these are all rows of one run, else in memory."""
        return self._array(0)

    @property
    def coverage(self) -> np.ndarray:
        """(n, 1, H, W) number of hits, like :attr:`maps`."""
        return self._array(1)

    def _array(self, which: int) -> np.ndarray:
        arrays = [source.arrays()[which] for source in self.sources]
        rows = self.places[:, 1]
        if len(arrays) == 1:
            everything = torch.equal(rows, torch.arange(len(arrays[0])))
            return arrays[0] if everything else arrays[0][rows.numpy()]
        out = np.empty((len(self), *arrays[0].shape[1:]), np.result_type(*arrays))
        for number, array in enumerate(arrays):
            mine = (self.places[:, 0] == number).numpy()
            out[mine] = array[rows.numpy()[mine]]
        return out

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Maps and coverage of a few photographs at a time; the chunks are fixed, so that sums round alike."""
        for part in self.places.split(CHUNK):
            pieces = [self.sources[source].read(start, stop) for source, start, stop in _spans(part.tolist())]
            maps, coverage = zip(*pieces, strict=True)
            yield (maps[0], coverage[0]) if len(pieces) == 1 else (torch.cat(maps), torch.cat(coverage))

    def lines(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Maps and coverage of all photographs in some lines of pixels: two (n, lines, W), copied into memory."""
        arrays = [source.arrays() for source in self.sources]
        if len(arrays) == 1:
            rows = self.places[:, 1].numpy()
            maps, coverage = (torch.from_numpy(array[:, 0, start:stop][rows]) for array in arrays[0])
            return maps, coverage
        pieces = [[array[row, 0, start:stop] for array in arrays[source]] for source, row in self.places.tolist()]
        maps, coverage = (torch.from_numpy(np.stack(each)) for each in zip(*pieces, strict=True))
        return maps, coverage


def differing_settings(ours: SingleMaps | None, theirs: SingleMaps | None) -> dict[str, tuple[str, str]]:
    """Setting -> its value on both sides, for all settings that determine the values of maps and differ.

    Maps of unknown provenance (in memory, or None) differ from nothing.
    """
    sides = [side.provenances() if side is not None else [] for side in (ours, theirs)]
    found: dict[str, tuple[str, str]] = {}
    for one in sides[0]:
        for other in sides[1]:
            names = [name for name in dict.fromkeys([*one, *other]) if name not in FACE_SETTINGS]
            pairs = {name: (one.get(name, "nothing"), other.get(name, "nothing")) for name in names}
            found |= {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return found


def format_differences(settings: Mapping[str, tuple[str, str]]) -> str:
    """Settings as of :func:`differing_settings` in one line.

    Example::

        >>> format_differences({"arguments.patch_size": ("15", "21")})
        'arguments.patch_size (15 and 21)'
    """
    return ", ".join(f"{name} ({one} and {other})" for name, (one, other) in settings.items())


def checked_columns(columns: Mapping[str, Any], count: int, who: str) -> dict[str, list[Any]]:
    """Columns as lists, None where an entry is missing.

    Raises:
        CanonicalError: a column does not have exactly one entry for each of the ``count`` photographs.
    """
    return {
        name: without_missing(column, count, f"{who}: {name}", texts=name not in (*CLASS_COLUMNS, "name"))
        for name, column in columns.items()
    }


def _class_name(value: Any, classes: Sequence[str]) -> Any:
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value


def _places(rows: Sequence[int]) -> Tensor:
    index = torch.tensor(rows, dtype=torch.int64)
    return torch.stack([torch.zeros_like(index), index], 1)


def _spans(places: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Source, first row and end of each run of consecutive rows.

    Example::

        >>> _spans([(0, 4), (0, 5), (0, 7), (1, 8)])
        [(0, 4, 6), (0, 7, 8), (1, 8, 9)]
    """
    spans: list[tuple[int, int, int]] = []
    for source, row in places:
        if spans and spans[-1][0] == source and spans[-1][2] == row:
            spans[-1] = (source, spans[-1][1], row + 1)
        else:
            spans.append((source, row, row + 1))
    return spans
