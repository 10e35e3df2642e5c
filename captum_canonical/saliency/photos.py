"""The maps of single photographs behind a model-level map, in memory or in run folders."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.run_folder.folder import CHUNK, Records, RunFolder
from captum_canonical.run_folder.manifest import flat

VALUES = ("method", "arguments", "target")
"""Settings of a run that decide the values of its maps; the others decide which photographs, and in which order."""

CLASSES = ("label", "target", "predicted")
"""Columns that hold classes."""


class Source(Protocol):
    """Rows of maps, wherever they are."""

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Maps and coverage (rows, 1, H, W) of consecutive rows."""

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All maps and their coverage (rows, 1, H, W), perhaps on disk."""

    def photo(self, row: int) -> Hashable:
        """What is equal for two rows only if they are of the same photograph."""

    def made_with(self) -> dict[str, str] | None:
        """The network and the settings that decide the values of the maps, None where they are not known."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Maps (N, 1, H, W) and coverage (N, 1, H, W) as tensors."""

    maps: Tensor
    coverage: Tensor

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Views of the rows."""
        return self.maps[start:stop], self.coverage[start:stop]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Views of the tensors."""
        return self.maps.numpy(), self.coverage.numpy()

    def photo(self, row: int) -> Hashable:
        """The place in memory."""
        return self.maps[row].data_ptr()

    def made_with(self) -> None:
        """Not known."""


@dataclass(frozen=True, eq=False)
class InFolder:
    """Maps in the files of a run."""

    run: RunFolder

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The rows, copied into memory."""
        return self.run.tensors(start, stop)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Memory-mapped files."""
        return self.run.maps, self.run.coverage

    def photo(self, row: int) -> Hashable:
        """The data set and the place in it, whatever the network."""
        return self.run.data, self.run.records["place"][row]

    def made_with(self) -> dict[str, str]:
        """As the manifest of the run says."""
        told = {name: self.run.settings[name] for name in VALUES if name in self.run.settings}
        return {"network": self.run.network} | {name: str(value) for name, value in flat(told)}


@dataclass(frozen=True, eq=False)
class Photos:
    """n photographs with a map.

    Attributes:
        sources: where the maps are.
        places: (n, 2) int64, for each photograph the number of its source and its row there.
        records: column -> n entries; the columns of a run are those of :attr:`RunFolder.records`,
            with the names of classes for their numbers where the run knows them.
    """

    sources: Sequence[Source]
    places: Tensor
    records: Records

    @classmethod
    def of_run(cls, run: RunFolder) -> Photos:
        """The photographs of a run that have a map, in its order."""
        rows = [row for row, status in enumerate(run.records["status"]) if status == "done"]
        records = {name: [column[row] for row in rows] for name, column in run.records.items()}
        for name in CLASSES:
            records[name] = [_named(value, run.classes or ()) for value in records[name]]
        return cls([InFolder(run)], _places(rows), records)

    @classmethod
    def in_memory(cls, maps: Tensor, coverage: Tensor, records: Records) -> Photos:
        """Those of (N, 1, H, W) maps that are covered anywhere; the tensors are kept, not copied."""
        rows = torch.nonzero((coverage > 0).flatten(1).any(1)).flatten().tolist()
        kept = {name: [column[row] for row in rows] for name, column in records.items()}
        return cls([InMemory(maps, coverage)], _places(rows), kept)

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, numbers: Sequence[int]) -> Photos:
        """Some of the photographs, in the order given."""
        chosen = torch.as_tensor(numbers, dtype=torch.int64)
        records = {name: [column[number] for number in chosen.tolist()] for name, column in self.records.items()}
        return Photos(self.sources, self.places[chosen], records)

    def joined(self, other: Photos) -> Photos:
        """These, then the others; columns that one of them lacks hold None there."""
        places = torch.cat([self.places, other.places + torch.tensor([len(self.sources), 0])])
        names = [*self.records, *(name for name in other.records if name not in self.records)]
        records = {
            name: [
                *self.records.get(name, [None] * len(self)),
                *other.records.get(name, [None] * len(other)),
            ]
            for name in names
        }
        return Photos([*self.sources, *other.sources], places, records)

    def given(self) -> list[int]:
        """How many maps each source has, those included that cover nothing or were not chosen."""
        return [len(source.arrays()[0]) for source in self.sources]

    def shared(self, other: Photos) -> int:
        """How many photographs are certainly in both."""
        return len({*self.keys()} & {*other.keys()})

    def keys(self) -> list[Hashable]:
        """For each photograph, what is equal only if it is the same one."""
        return [self.sources[source].photo(row) for source, row in self.places.tolist()]

    def made_with(self) -> list[dict[str, str]]:
        """What ``Source.made_with`` says of each source of which it is known; the same only once."""
        known = [source.made_with() for source in self.sources]
        return [each for number, each in enumerate(known) if each is not None and each not in known[:number]]

    def with_column(self, name: str, column: Sequence[Any]) -> Photos:
        """The same with one more column, or another one of that name."""
        return Photos(self.sources, self.places, {**self.records, name: list(column)})

    # ---------------------------------------------------------------------------------------------- the maps
    @property
    def maps(self) -> np.ndarray:
        """(n, 1, H, W), not to be written to; mapped from the disk if these are all rows of one run, else in memory."""
        return self._whole(0)

    @property
    def coverage(self) -> np.ndarray:
        """(n, 1, H, W) number of hits, like :attr:`maps`."""
        return self._whole(1)

    def _whole(self, which: int) -> np.ndarray:
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
        """Maps and coverage of a few photographs at a time, always the same ones: so sums have the same rounding."""
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


def checked_columns(columns: Mapping[str, Any], count: int, who: str) -> dict[str, list[Any]]:
    """Columns as lists.

    Raises:
        CanonicalError: one has not one entry for each of the ``count`` photographs.
    """
    lists = {name: each.tolist() if hasattr(each, "tolist") else list(each) for name, each in columns.items()}
    wrong = {name: len(column) for name, column in lists.items() if len(column) != count}
    if wrong:
        raise CanonicalError(f"{who}: expected one entry for each of the {count} maps, got {wrong}.")
    return lists


def _named(value: Any, classes: Sequence[str]) -> Any:
    """The name of a class that is given as a number."""
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value


def _places(rows: Sequence[int]) -> Tensor:
    index = torch.tensor(rows, dtype=torch.int64)
    return torch.stack([torch.zeros_like(index), index], 1)


def _spans(places: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Source, first row and end of each stretch of consecutive rows.

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
