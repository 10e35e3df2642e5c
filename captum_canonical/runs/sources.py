"""The photographs of a run, in batches that are the same in every call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.records import FaceBatch, FaceRecord, group_columns
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.quality import QUALITY, known_quality
from captum_canonical.fingerprint import fingerprint
from captum_canonical.run_folder.layout import COLUMNS as RECORD_COLUMNS
from captum_canonical.run_folder.manifest import PhotoColumns
from captum_canonical.statistics.labels import label_texts


@dataclass(frozen=True)
class UnreadPhoto:
    """A photograph of a batch that could not be read: its place in the data, and why."""

    place: int
    reason: str


@dataclass(frozen=True, eq=False)
class LoadedBatch:
    """A batch of photographs.

    Attributes:
        batch: those that could be read, or None.
        kept: for each of them its place in the batch.
        unread: place in the batch -> the others.
    """

    batch: FaceBatch | None
    kept: list[int]
    unread: dict[int, UnreadPhoto] = field(default_factory=dict)


class PhotoSource(ABC):
    """The photographs of a run.

    Attributes:
        batches: for each batch its rows in the run.
        fingerprint: of all that decides the inputs.
        order: of the rows, in words.
        photographs: all of the user's, those that are left out too.
        classes: their names, or None.
        preprocessing: what is done with each photograph, as far as it is known.
        declared_classes: their names or their number, or None.
    """

    batches: list[range]
    fingerprint: str
    order: str
    photographs: PhotoColumns
    classes: Sequence[str] | None = None
    preprocessing: Mapping[str, Any] | None = None
    declared_classes: int | Sequence[str] | None = None

    @abstractmethod
    def load(self, numbers: Sequence[int], num_workers: int) -> Iterator[LoadedBatch]:
        """The batches of these numbers, in ascending order."""


RunData = AlignedFaces | FaceBatch | tuple[Any, ...] | Iterable[FaceBatch]


def source_of(data: RunData, batch_size: int, seed: int) -> PhotoSource:
    """The photographs that a user gives.

    Raises:
        CanonicalError: they are none that a run can be made of.
    """
    if isinstance(data, AlignedFaces):
        return FileSource(data, batch_size, seed)
    if isinstance(data, FaceBatch):
        return TensorSource(data, batch_size, seed)
    if isinstance(data, tuple) and data and isinstance(data[0], Tensor):
        return TensorSource(_batch_of(*data), batch_size, seed)
    if isinstance(data, Iterable) and not isinstance(data, (Tensor, str)):
        return StreamSource(data)
    raise CanonicalError(
        f"data: expected AlignedFaces, (images, faces) or (images, faces, targets), or an iterable of FaceBatch, got "
        f"{type(data).__name__}."
    )


def _labels_of(batch: FaceBatch) -> list[Any]:
    targets = batch.targets
    if targets is None:
        return [None] * len(batch)
    return [each.item() if isinstance(each, Tensor) else each for each in targets]


def rows_of(batch: FaceBatch, rows: list[int]) -> FaceBatch:
    """Some photographs of a batch, copied."""
    index = torch.tensor(rows, dtype=torch.int64)
    targets = batch.targets
    return replace(
        batch,
        images=batch.images[index.to(batch.images.device)],
        faces=batch.faces[index],
        targets=targets[index.to(targets.device)]
        if isinstance(targets, Tensor)
        else targets and [targets[row] for row in rows],
        groups=[batch.groups[row] for row in rows],
        identities=[batch.identities[row] for row in rows],
        names=[batch.names[row] for row in rows],
        places=batch.places[index.to(batch.places.device)],
        group_columns={name: [values[row] for row in rows] for name, values in batch.group_columns.items()},
    )


def _photographs(batches: Sequence[FaceBatch], order: Sequence[int]) -> dict[str, Any]:
    """What is known of photographs that all take part and have no files; ``order``: for each row its number."""
    columns: dict[str, list[Any]] = {
        "place": [place for batch in batches for place in batch.places.tolist()],
        "name": [name for batch in batches for name in batch.names],
        "group": [group for batch in batches for group in batch.groups],
        "identity": [identity for batch in batches for identity in batch.identities],
        "label": [label for batch in batches for label in _labels_of(batch)],
    }
    rows = {number: row for row, number in enumerate(order)}
    nothing: list[None] = [None] * len(rows)
    columns["row"] = [rows[number] for number in range(len(rows))]
    columns |= {name: nothing for name in ("path", "box", "left_out", "reason")}
    groups = _joined_groups([(batch.group_columns, len(batch)) for batch in batches])
    values = {name: torch.cat([batch.faces.quality_of(name) for batch in batches]).tolist() for name in QUALITY}
    return columns | {"groups": _checked_groups(groups, columns["group"]), "quality": known_quality(values)}


def _joined_groups(parts: Sequence[tuple[Mapping[str, list[Any]], int]]) -> dict[str, list[Any]]:
    """Columns of (columns, number of photographs) one after the other; None where one of them lacks a column."""
    names = dict.fromkeys(name for columns, _ in parts for name in columns)
    return {name: [each for columns, count in parts for each in columns.get(name, [None] * count)] for name in names}


def _checked_groups(groups: Mapping[str, list[Any]], group: list[str | None]) -> dict[str, list[Any]]:
    """Columns of groups without those that records have anyway.

    Raises:
        CanonicalError: one has the name of a column of records that is something else.
    """
    own = tuple(dict.fromkeys((*RECORD_COLUMNS, *QUALITY)))
    taken = [name for name in groups if name in own]
    given = ("name", "group", "identity", "label", "target")  # the others are measured
    for name in taken:
        if name not in given or label_texts(groups[name], len(group), name) != group:
            raise CanonicalError(
                f"groups: expected other names than those of a run's own columns ({', '.join(own)}), got "
                f"{name!r}; rename the column."
            )
    return {name: values for name, values in groups.items() if name not in taken}


class FileSource(PhotoSource):
    """Photographs of a data set in random order; one that cannot be read any more does not stop the others."""

    def __init__(self, data: AlignedFaces, batch_size: int, seed: int) -> None:
        if not len(data):
            raise CanonicalError("data: expected at least one photograph with a face, got none; .left_out says why.")
        self._data = data
        self._order, self.batches, self.order = _shuffled(len(data), batch_size, seed)
        self.fingerprint = data.fingerprint
        self.classes, self.preprocessing = data.classes, data.preprocessing
        self.declared_classes = data.classes or data.num_classes
        places, left_out = range(len(data.rows)), data.left_out
        numbers = {data.places[number]: row for row, number in enumerate(self._order)}
        self.photographs = {
            "row": [numbers.get(place) for place in places],
            "place": list(places),
            "name": [row.name for row in data.rows],
            "group": [row.group for row in data.rows],
            "identity": [row.identity for row in data.rows],
            "label": [row.target for row in data.rows],
            "reason": [left_out[place].reason if place in left_out else None for place in places],
            "path": [str(row.path.absolute()) for row in data.rows],
            "box": [data.face_box(place) for place in places],
            "left_out": [left_out[place].kind if place in left_out else None for place in places],
            "groups": _checked_groups(group_columns(data.rows), [row.group for row in data.rows]),
            "unused": [[str(each.path), each.kind, each.reason] for each in data.unused],
            "quality": known_quality(data.quality),
        }

    def load(self, numbers: Sequence[int], num_workers: int) -> Iterator[LoadedBatch]:
        """With workers, the next batches are read while one is explained."""
        chosen = [[self._order[row] for row in self.batches[number]] for number in numbers]
        return iter(
            DataLoader(
                _Readable(self._data),
                batch_sampler=chosen,
                collate_fn=_collate,
                num_workers=num_workers,
                generator=torch.Generator().manual_seed(0),
            )
        )


class _Readable(Dataset["FaceRecord | UnreadPhoto"]):
    def __init__(self, data: AlignedFaces) -> None:
        self._data = data

    def __getitem__(self, index: int) -> FaceRecord | UnreadPhoto:
        try:
            return self._data[index]
        except Exception as error:  # readers of damaged files raise nearly anything
            return UnreadPhoto(self._data.places[index], str(error))


def _collate(items: list[FaceRecord | UnreadPhoto]) -> LoadedBatch:
    kept = [place for place, item in enumerate(items) if isinstance(item, FaceRecord)]
    records = [item for item in items if isinstance(item, FaceRecord)]
    unread = {place: item for place, item in enumerate(items) if isinstance(item, UnreadPhoto)}
    return LoadedBatch(AlignedFaces.collate(records) if records else None, kept, unread)


class TensorSource(PhotoSource):
    """Photographs in memory, in random order."""

    def __init__(self, data: FaceBatch, batch_size: int, seed: int) -> None:
        self._data = data
        self._order, self.batches, self.order = _shuffled(len(data), batch_size, seed)
        self.fingerprint = _batch_fingerprint(data)
        self.photographs = _photographs([data], self._order)

    def load(self, numbers: Sequence[int], num_workers: int) -> Iterator[LoadedBatch]:
        """Copies of the rows; workers would not help."""
        for number in numbers:
            rows = [self._order[row] for row in self.batches[number]]
            yield LoadedBatch(rows_of(self._data, rows), list(range(len(rows))))


def _batch_of(images: Tensor, faces: Any = None, targets: Tensor | None = None, *more: Any) -> FaceBatch:
    faces = faces(images) if callable(faces) else faces
    if more or not isinstance(faces, FaceMesh) or images.ndim != 4 or not len(images):
        raise CanonicalError(
            f"data: expected (images, faces) or (images, faces, targets) with images (N, C, H, W) and a FaceMesh, got "
            f"images {tuple(images.shape)} and {type(faces).__name__}."
        )
    count = len(images)
    index = torch.arange(count) if faces.image_index is None else faces.image_index.cpu()
    if len(faces) != count or not torch.equal(index, torch.arange(count)):
        raise AlignmentError(f"data: expected one mesh for each of the {count} images, in order, got {len(faces)}.")
    if targets is not None and (not isinstance(targets, Tensor) or targets.shape != (count,)):
        raise CanonicalError(f"data: expected targets as a tensor with one number for each of the {count} images.")
    names, nothing = [f"image {number}" for number in range(count)], [None] * count
    return FaceBatch(images.detach(), faces, targets, [*nothing], [*nothing], names, torch.arange(count))


def _batch_fingerprint(batch: FaceBatch) -> str:
    faces = batch.faces
    return fingerprint((batch.images, faces.vertices, faces.visible, faces.found, faces.topology, batch.targets))


def _shuffled(count: int, batch_size: int, seed: int) -> tuple[list[int], list[range], str]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    batches = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    return order, batches, f"random, seed {seed}"


class StreamSource(PhotoSource):
    """Batches that come one after the other, in the order in which they come.

    They are gone through once before the run, to count the photographs and to recognise them.
    """

    order = "as given"

    def __init__(self, data: Iterable[FaceBatch]) -> None:
        if iter(data) is data:
            raise CanonicalError(
                "data: expected an iterable that can be gone through again, such as a list or a DataLoader, got an "
                "iterator, which ends after the first time."
            )
        self._data = data
        self.batches = []
        fingerprints, labels, start = [], [], 0
        for batch in data:
            if not isinstance(batch, FaceBatch):
                raise CanonicalError(
                    f"data: expected an iterable of FaceBatch, got a {type(batch).__name__} from it; a DataLoader of "
                    "AlignedFaces needs collate_fn=data.collate."
                )
            self.batches.append(range(start, start + len(batch)))
            start += len(batch)
            fingerprints.append(_batch_fingerprint(batch))
            labels.append(_photographs([batch], range(len(batch))))
        if not start:
            raise CanonicalError("data: expected at least one photograph, got an iterable of none.")
        self.fingerprint = fingerprint(fingerprints)
        nested = ("groups", "quality")
        joined = {name: [each for part in labels for each in part[name]] for name in labels[0] if name not in nested}
        more = {name: _joined_groups([(part[name], len(part["row"])) for part in labels]) for name in nested}
        self.photographs = joined | {"row": list(range(start))} | more

    def load(self, numbers: Sequence[int], num_workers: int) -> Iterator[LoadedBatch]:
        """Goes through the data again."""
        wanted = iter(numbers)
        next_number = next(wanted, None)
        for number, batch in enumerate(self._data):
            if number != next_number:
                continue
            if len(batch) != len(self.batches[number]):
                break
            yield LoadedBatch(batch, list(range(len(batch))))
            next_number = next(wanted, None)
        if next_number is not None:
            raise CanonicalError(
                f"data: expected the same batches each time, but batch {next_number} is another one now; a DataLoader "
                "must not shuffle."
            )
