"""One face ready for a network, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_canonical.dataset.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.mesh import FaceMesh


@dataclass(frozen=True, eq=False)
class FaceRecord:
    """One face of a data set.

    Attributes:
        image: (C, H, W) float32, the network's input.
        faces: its mesh, one row in pixels of that input.
        row: path, target, group, identity and name of the photograph.
        place: its place among all photographs of the source, those that are left out included.
    """

    image: Tensor
    faces: FaceMesh
    row: PhotoRow
    place: int

    @property
    def target(self) -> Any:
        """The row's target."""
        return self.row.target


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """B faces of a data set.

    Attributes:
        images: (B, C, H, W) float32, the network's inputs.
        faces: B meshes in pixels of these inputs.
        targets: (B,) int64 (class indices) or float32 (numbers to be predicted), a list of B tuples, or None.
        groups, identities, names: of each photograph; None where not known.
        places: (B,) int64, their places among all photographs of the source.
    """

    images: Tensor
    faces: FaceMesh
    targets: Tensor | list[tuple[int, ...]] | None
    groups: list[str | None]
    identities: list[str | None]
    names: list[str]
    places: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> FaceBatch:
        """The same batch with images, meshes and targets on another device."""
        targets = self.targets.to(device) if isinstance(self.targets, Tensor) else self.targets
        return replace(self, images=self.images.to(device), faces=self.faces.to(device), targets=targets)


def collate(records: Sequence[FaceRecord]) -> FaceBatch:
    """Records as one batch, the ``collate_fn`` of a ``torch.utils.data.DataLoader``.

    Raises:
        CanonicalError: no records, or some of data sets with inputs, meshes or targets of other kinds.
    """
    shapes = sorted({tuple(record.image.shape) for record in records})
    if len(shapes) != 1:
        raise CanonicalError(f"collate: expected records of one input size, got {shapes or 'none'}.")
    rows = [record.row for record in records]
    return FaceBatch(
        images=torch.stack([record.image for record in records]),
        faces=FaceMesh.cat([record.faces for record in records]),
        targets=_targets([row.target for row in rows]),
        groups=[row.group for row in rows],
        identities=[row.identity for row in rows],
        names=[row.name for row in rows],
        places=torch.tensor([record.place for record in records]),
    )


def _targets(values: list[Any]) -> Tensor | list[tuple[int, ...]] | None:
    kinds = {type(value) for value in values}
    if len(kinds) > 1:
        raise CanonicalError(
            f"collate: expected targets of one kind, got {', '.join(sorted(kind.__name__ for kind in kinds))}."
        )
    kind = kinds.pop()
    if kind in (int, float):
        return torch.tensor(values, dtype=torch.int64 if kind is int else torch.float32)
    return values if kind is tuple else None
