"""A batch of faces that share one topology: where each vertex lies in each image, and whether it is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captum_canonical.checks import check_device, check_size, check_tensor, exact_device
from captum_canonical.errors import AlignmentError, CanonicalError


@dataclass(frozen=True, eq=False)
class FaceMesh:
    """Vertices of B faces in the pixels of their images.

    Concretely ``vertices[b, n]`` is (x, y, z) of facial point n in image b: x runs right and y down in pixels, the
    centre of pixel (row r, column c) is (c + 0.5, r + 0.5), z runs towards the camera in the same unit.

    Args:
        vertices: (B, N, 3) floating point, finite.
        visible: (B, N) bool, False where a vertex is hidden by the face itself. Default: all seen.
        image_size: (H, W) in pixels of the images that the vertices belong to.
        topology: name of the vertex numbering, such as ``"mediapipe-468"``. Meshes and canonical faces of different
            topologies are never mixed, even when they have the same number of vertices. Default: unknown, fits any.
        found: (B,) bool, False for an image in which no face was found; such a row is unseen. Default: all found.
        image_index: (B,) integer, the image that each row belongs to, if there are more (or fewer) rows than images.
        quality: name -> (B,) float64, how well each face is seen in the photograph in which it was found, see
            :data:`~captum_canonical.faces.quality.QUALITY`; NaN where it is not known. Moving a mesh changes none.

    Raises:
        AlignmentError: a shape, a type or a value is not as above.

    Example::

        >>> mesh = FaceMesh(torch.rand(2, 468, 3) * 112, image_size=(112, 112))
        >>> len(mesh), mesh.resized((224, 224)).image_size
        (2, (224, 224))
    """

    vertices: Tensor
    visible: Tensor = None  # type: ignore[assignment]  # always a tensor after __post_init__
    image_size: tuple[int, int] = None  # type: ignore[assignment]  # required; keyword-friendly position
    topology: str | None = None
    found: Tensor = None  # type: ignore[assignment]  # always a tensor after __post_init__
    image_index: Tensor | None = None
    quality: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vertices = check_tensor("FaceMesh.vertices", self.vertices)
        _check_vertices(vertices)
        rows, points = vertices.shape[:2]
        found = _flags(self.found, (rows,), "found", vertices)
        visible = _flags(self.visible, (rows, points), "visible", vertices) & found[:, None]
        values = {"vertices": vertices, "visible": visible, "found": found, "image_size": _size_of(self.image_size)}
        if self.image_index is not None:
            index = torch.as_tensor(self.image_index, device=vertices.device)
            if index.shape != (rows,) or index.dtype.is_floating_point or index.dtype == torch.bool:
                raise AlignmentError(
                    f"FaceMesh.image_index: expected {rows} integers, one for each row, got {index.dtype} of shape "
                    f"{tuple(index.shape)}."
                )
            values["image_index"] = index
        values["quality"] = {name: _numbers(name, each, vertices) for name, each in self.quality.items()}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------------------------------------ reading
    def __len__(self) -> int:
        return int(self.vertices.shape[0])

    @property
    def num_vertices(self) -> int:
        """N, the number of vertices of each face."""
        return int(self.vertices.shape[1])

    @property
    def missing(self) -> tuple[int, ...]:
        """Rows in which no face was found, in ascending order."""
        return tuple(int(row) for row in torch.nonzero(~self.found).flatten())

    @property
    def boxes(self) -> Tensor:
        """(B, 4) smallest upright box around the vertices of each row: left, top, right, bottom in pixels."""
        plane = self.vertices[..., :2]
        return torch.cat([plane.amin(1), plane.amax(1)], 1)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> FaceMesh:
        """The chosen rows, always as a batch: ``mesh[3]`` has length 1."""
        if isinstance(rows, int):
            index = torch.arange(len(self))[rows].reshape(1)  # raises IndexError beyond the ends
        elif isinstance(rows, slice):
            index = torch.tensor(range(len(self))[rows], dtype=torch.int64)
        else:
            index = torch.as_tensor(rows)
            if index.dtype == torch.bool and index.shape != (len(self),):
                raise IndexError(f"a boolean index for {len(self)} rows needs {len(self)} entries, got {len(index)}")
            index = torch.nonzero(index).flatten() if index.dtype == torch.bool else index.long().flatten()
        return self._rows(index.to(self.vertices.device))

    def _rows(self, index: Tensor) -> FaceMesh:
        image_index = None if self.image_index is None else self.image_index[index]
        return replace(
            self,
            vertices=self.vertices[index],
            visible=self.visible[index],
            found=self.found[index],
            image_index=image_index,
            quality={name: values[index] for name, values in self.quality.items()},
        )

    # ----------------------------------------------------------------------------------------------- changing
    def to(self, device: torch.device | str) -> FaceMesh:
        """The same mesh on another device; on the CPU for Apple's MPS, which lacks the precision of meshes."""
        device = exact_device(device if isinstance(device, torch.device) else check_device("device", device))
        if self.vertices.device == device:
            return self
        image_index = None if self.image_index is None else self.image_index.to(device)
        return replace(
            self,
            vertices=self.vertices.to(device),
            visible=self.visible.to(device),
            found=self.found.to(device),
            image_index=image_index,
            quality={name: values.to(device) for name, values in self.quality.items()},
        )

    def resized(self, image_size: tuple[int, int]) -> FaceMesh:
        """The mesh in its image resized to ``image_size`` = (H, W); depth scales by the mean of both factors."""
        height, width = _size_of(image_size)
        factor_x, factor_y = width / self.image_size[1], height / self.image_size[0]
        factors = self.vertices.new_tensor([factor_x, factor_y, (factor_x + factor_y) / 2])
        return replace(self, vertices=self.vertices * factors, image_size=(height, width))

    def cropped(self, left: float, top: float, width: int, height: int) -> FaceMesh:
        """The mesh in the part of its image that starts at (left, top); the part may reach beyond the image."""
        shift = self.vertices.new_tensor([left, top, 0.0])
        return replace(self, vertices=self.vertices - shift, image_size=(height, width))

    def flipped(self, permutation: Tensor) -> FaceMesh:
        """The mesh in its image mirrored left to right.

        Args:
            permutation: (N,) the vertex on the other side of the face for each vertex
                (:attr:`CanonicalFace.permutation`).
        """
        if permutation is None or tuple(permutation.shape) != (self.num_vertices,):
            raise AlignmentError(
                f"FaceMesh.flipped: expected a left-right permutation of {self.num_vertices} vertices, got "
                f"{None if permutation is None else tuple(permutation.shape)}; CanonicalFace.permutation holds one."
            )
        permutation = permutation.to(self.vertices.device)
        mirrored = self.vertices[:, permutation].clone()
        mirrored[..., 0] = self.image_size[1] - mirrored[..., 0]
        return replace(self, vertices=mirrored, visible=self.visible[:, permutation])

    def repeat_interleave(self, repeats: int) -> FaceMesh:
        """Each row ``repeats`` times in a row, as ``torch.repeat_interleave`` does."""
        index = torch.arange(len(self), device=self.vertices.device)
        return self._rows(index.repeat_interleave(repeats))

    @staticmethod
    def cat(meshes: Sequence[FaceMesh]) -> FaceMesh:
        """The rows of several meshes of one topology and one image size, in order.

        Rows keep counting images where a mesh has an ``image_index``: the images of the second mesh follow those of
        the first, so all meshes must have one or none.
        """
        if not meshes:
            raise AlignmentError("FaceMesh.cat: expected at least one mesh, got none.")
        first = meshes[0]
        facts = {(mesh.topology, mesh.num_vertices, mesh.image_size) for mesh in meshes}
        if len(facts) > 1:
            raise AlignmentError(
                f"FaceMesh.cat: expected one topology, number of vertices and image size, got {sorted(map(str, facts))}"
                "; use .resized() or .cropped() first."
            )
        if len({mesh.image_index is None for mesh in meshes}) > 1:
            raise AlignmentError("FaceMesh.cat: expected an image_index in all of the meshes or in none.")
        index, start, names = [], 0, dict.fromkeys(name for mesh in meshes for name in mesh.quality)
        for mesh in meshes:
            if mesh.image_index is not None:
                index.append(mesh.image_index + start)
                start += int(mesh.image_index.max()) + 1 if len(mesh) else 0
        return replace(
            first,
            vertices=torch.cat([mesh.vertices for mesh in meshes]),
            visible=torch.cat([mesh.visible for mesh in meshes]),
            found=torch.cat([mesh.found for mesh in meshes]),
            image_index=torch.cat(index) if index else None,
            quality={name: torch.cat([mesh.quality_of(name) for mesh in meshes]) for name in names},
        )

    def quality_of(self, name: str) -> Tensor:
        """(B,) float64, one measure of :attr:`quality`; NaN if it is not known."""
        return self.quality.get(name, self.vertices.new_full((len(self),), math.nan, dtype=torch.float64))


def _check_vertices(vertices: Tensor) -> None:
    if vertices.ndim != 3 or vertices.shape[-1] != 3 or vertices.shape[1] == 0:
        raise AlignmentError(
            f"FaceMesh.vertices: expected shape (B, N, 3) with N > 0, got {tuple(vertices.shape)}; one face of N "
            "points is (1, N, 3), and points without depth take z = 0."
        )
    if not vertices.dtype.is_floating_point:
        raise AlignmentError(f"FaceMesh.vertices: expected a floating point type, got {vertices.dtype}.")
    broken = torch.nonzero(~torch.isfinite(vertices).flatten(1).all(1)).flatten().tolist()
    if broken:
        raise AlignmentError(
            f"FaceMesh.vertices: expected finite numbers, got NaN or infinity in rows {broken[:10]}; give a face that "
            "was not found any finite vertices and found=False."
        )


def _flags(value: Tensor | None, shape: tuple[int, ...], name: str, like: Tensor) -> Tensor:
    if value is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    flags = torch.as_tensor(value, device=like.device)
    if flags.shape != shape or flags.dtype != torch.bool:
        raise AlignmentError(
            f"FaceMesh.{name}: expected bool of shape {shape}, got {flags.dtype} of shape {tuple(flags.shape)}."
        )
    return flags


def _numbers(name: str, value: Tensor, like: Tensor) -> Tensor:
    numbers = torch.as_tensor(value, device=like.device)
    if numbers.shape != (len(like),) or numbers.dtype == torch.bool:
        raise AlignmentError(
            f"FaceMesh.quality: expected {len(like)} numbers {name!r}, one for each row, got {numbers.dtype} of shape "
            f"{tuple(numbers.shape)}."
        )
    return numbers.double()


def _size_of(size: object) -> tuple[int, int]:
    try:
        return check_size("image_size", size)
    except CanonicalError as error:
        raise AlignmentError(str(error)) from None
