"""One face ready for a network, and a batch of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_choice, check_device, check_dtype, check_number, check_tensor
from captum_canonical.data.crop_templates import CROP_TEMPLATES, CropTemplate, pair_of, template_of
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.images import Statistics, crop_photo, crop_to_face, to_tensor
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.statistics.labels import label_texts


@dataclass(frozen=True, eq=False)
class FaceRecord:
    """One face of a data set.

    Attributes:
        image: (C, H, W) floating point, the network's input.
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
        images: (B, C, H, W) floating point, the network's inputs.
        faces: B meshes in pixels of these inputs.
        targets: (B,) int64 (class indices) or float32 (numbers to be predicted), a list of B tuples, or None.
        groups, identities: of each photograph as texts, None where missing; see
            :mod:`captum_canonical.statistics.labels`. None: missing for all.
        names: of each photograph.
        places: (B,) int64, their places among all photographs of the source.
        group_columns: name -> values of all columns that photographs can be compared by (:attr:`PhotoRow.groups`).
    """

    images: Tensor
    faces: FaceMesh
    targets: Tensor | list[tuple[int, ...]] | None
    groups: list[str | None]
    identities: list[str | None]
    names: list[str]
    places: Tensor
    group_columns: Mapping[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("groups", "identities"):
            object.__setattr__(self, name, label_texts(getattr(self, name), len(self.images), name))

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None = None) -> FaceBatch:
        """The same batch with images, meshes and targets on another device, and images of another type.

        Args:
            device: None leaves them where they are.
            dtype: of images that are floating point. None leaves them as they are.
        """
        images = in_dtype(self.images, dtype)
        if device is None:
            return replace(self, images=images)
        device = check_device("device", device)
        targets = self.targets.to(device) if isinstance(self.targets, Tensor) else self.targets
        return replace(self, images=images.to(device), faces=self.faces.to(device), targets=targets)


def in_dtype(images: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Images of another floating-point type; whole numbers, which a network turns into others itself, stay."""
    return images.to(dtype) if dtype is not None and images.is_floating_point() else images


def collate(records: Sequence[FaceRecord]) -> FaceBatch:
    """Records as one batch, the ``collate_fn`` of a ``torch.utils.data.DataLoader``.

    Raises:
        CanonicalError: no records, or some records with different input sizes, topologies or types of targets.
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
        group_columns=group_columns(rows),
    )


def group_columns(rows: Sequence[PhotoRow]) -> dict[str, list[Any]]:
    """Name -> value of each row, of all columns that photographs can be compared by.

    Example::

        >>> from pathlib import Path
        >>> group_columns([PhotoRow(Path("a.jpg"), groups={"race": "x"}), PhotoRow(Path("b.jpg"))])
        {'race': ['x', None]}
    """
    names = dict.fromkeys(name for row in rows for name in row.groups)
    return {name: [row.groups.get(name) for row in rows] for name in names}


def _targets(values: list[Any]) -> Tensor | list[tuple[int, ...]] | None:
    types = {type(value) for value in values}
    if len(types) > 1:
        raise CanonicalError(
            f"collate: expected targets of one type, got {', '.join(sorted(each.__name__ for each in types))}."
        )
    found = types.pop()
    if found in (int, float):
        return torch.tensor(values, dtype=torch.int64 if found is int else torch.float32)
    return values if found is tuple else None


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and OpenCV make grey of colours
_CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """From a photograph to the input of a network; :class:`AlignedFaces` has arguments of the same names.

    Raises:
        CanonicalError: an argument is not as described there.
    """

    size: int | tuple[int, int] | None
    crop: str | CropTemplate | Sequence[float] | None = "face"
    margin: float = 0.25
    fill: str | float | Sequence[float] = "edge"
    channels: str = "RGB"
    mean: Statistics = 0.0
    std: Statistics = 1.0
    dtype: torch.dtype | str = torch.float32

    def __post_init__(self) -> None:
        crop = _checked_crop(self.crop)
        if isinstance(crop, CropTemplate):
            crop = crop if self.size is None else crop.resized(self.size)
        elif self.size is None:
            raise CanonicalError(
                "size: expected (height, width) in pixels, got None; only crop templates have their own."
            )
        size = pair_of(crop.size if isinstance(crop, CropTemplate) else self.size)  # type: ignore[arg-type]
        check_choice("channels", self.channels, tuple(_CHANNELS))
        check_number("margin", self.margin, least=0, below=math.inf)
        object.__setattr__(self, "dtype", check_dtype("dtype", self.dtype))
        statistics = {name: self._per_channel(name) for name in ("mean", "std")}
        for name, value in {"size": size, "crop": crop, **statistics}.items():
            object.__setattr__(self, name, value)
        nothing = np.zeros((2, 2, 3), np.uint8)
        if isinstance(crop, CropTemplate):
            crop_photo(nothing, (0, 0, 2, 2), (1, 1), self.fill)
        else:
            self(nothing, FaceMesh(torch.eye(3)[None], image_size=(2, 2)))  # margin, fill and an empty box

    def __call__(self, photo: np.ndarray, mesh: FaceMesh) -> tuple[Tensor, FaceMesh]:
        """Cut, resize and normalise.

        Args:
            photo: (H, W, 3) uint8 RGB.
            mesh: one row in its pixels.

        Returns:
            (C, H, W) of ``dtype`` and the mesh of one row in its pixels.
        """
        if isinstance(self.crop, CropTemplate):
            part, moved = self.crop.crop(photo, mesh, self.fill)
        elif self.crop == "face":
            part, moved = crop_to_face(photo, mesh, self.margin, self.size, self.fill)  # type: ignore[arg-type]
        else:
            height, width = photo.shape[:2]
            box = (0, 0, width, height) if self.crop is None else self.crop
            part, moved = crop_photo(photo, box, self.size, self.fill), _moved(mesh, box, self.size)  # type: ignore[arg-type]
        image = to_tensor([part])[0]
        if self.channels == "BGR":
            image = image.flip(0)
        elif self.channels == "L":
            image = (image * image.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
        return ((image - self.mean) / self.std).to(self.dtype), moved  # type: ignore[operator]  # tensors after __post_init__

    @property
    def settings(self) -> dict[str, Any]:
        """All of it by name, as what JSON can hold; ``margin`` only where it counts."""
        crop: Any = "whole photograph" if self.crop is None else self.crop
        if isinstance(self.crop, CropTemplate):
            crop = {"template": self.crop.name, **self.crop.settings}
        margin = {"margin": self.margin} if self.crop == "face" else {}
        mean, std = (torch.as_tensor(each).flatten().tolist() for each in (self.mean, self.std))
        fill = self.fill if isinstance(self.fill, str) else np.asarray(self.fill).tolist()
        shown = {"crop": crop, **margin, "fill": fill, "channels": self.channels, "mean": mean, "std": std}
        narrow = {} if self.dtype == torch.float32 else {"dtype": str(self.dtype).removeprefix("torch.")}
        return {"size": list(self.size), **shown, **narrow}  # type: ignore[arg-type]  # a pair after __post_init__

    def _per_channel(self, name: str) -> Tensor:
        """(C, 1, 1) float32, or (1, 1, 1) where one number serves all channels."""
        given, count = getattr(self, name), _CHANNELS[self.channels]
        values = check_tensor(name, given).detach().cpu().float().flatten()
        wrong = isinstance(given, bool) or len(values) not in (1, count)
        if wrong or not bool(torch.isfinite(values).all()) or (name == "std" and 0 in values):
            raise CanonicalError(
                f"{name}: expected one finite number or one for each of {count} channels, of images in 0..1"
                f"{', none of them 0' if name == 'std' else ''}, got {given!r}."
            )
        return values.reshape(-1, 1, 1)


def _checked_crop(
    crop: str | CropTemplate | Sequence[float] | None,
) -> str | CropTemplate | tuple[float, ...] | None:
    template = template_of(crop)
    if template is not None or crop is None or (isinstance(crop, str) and crop == "face"):
        return template or crop  # type: ignore[return-value]
    try:
        left, top, right, bottom = (float(side) for side in crop)  # type: ignore[union-attr]
    except (TypeError, ValueError):
        known = ", ".join(map(repr, CROP_TEMPLATES))
        raise CanonicalError(
            f"crop: expected 'face', a template ({known} or a CropTemplate), a box (left, top, right, bottom) in "
            f"pixels or None for the whole photo, got {crop!r}."
        ) from None
    return left, top, right, bottom


def _moved(mesh: FaceMesh, box: Sequence[float], size: tuple[int, int]) -> FaceMesh:
    """The mesh in a box of its photo brought to ``size``; unlike in FaceMesh.cropped, its sides need not be whole."""
    left, top, right, bottom = box
    across, down = size[1] / (right - left), size[0] / (bottom - top)
    factors = mesh.vertices.new_tensor([across, down, (across + down) / 2])
    return replace(
        mesh, vertices=(mesh.vertices - mesh.vertices.new_tensor([left, top, 0.0])) * factors, image_size=size
    )
