"""The frontal face that all maps are written on: image, vertices, triangles, named regions, occlusion points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from importlib import resources
from os import PathLike
from typing import IO

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_integer, check_size
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.face_arrays import (
    as_image,
    check_triangles,
    delaunay,
    is_symmetric,
    read_fields,
    to_uint8,
    write_fields,
)
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.plausible import check_plausible
from captum_canonical.faces.warp import Raster, rasterize, warp

DEFAULT_SIZE = 224


@dataclass(frozen=True, eq=False)
class CanonicalFace:
    """One frontal face with the same vertex numbering as the meshes whose maps are written on it.

    Make one with :meth:`default`, :meth:`from_image`, :meth:`from_vertices` or :meth:`load` rather than directly.

    Attributes:
        image: (3, H, W) float32 in 0..1, what maps are drawn over.
        vertices: (N, 3) float64, x, y, z in pixels of the image (see :class:`FaceMesh` for the convention).
        triangles: (F, 3) int64; none (F = 0) if the vertices span no area.
        point_vertices: (P, 3) int64 and
        point_weights: (P, 3) float64: the occlusion points, each a weighted sum of three vertices.
        regions: region name -> indices of its triangles. Left and right are the person's own.
        permutation: (N,) int64, the vertex on the other side of the face for each vertex, or None.
        mirror_symmetric: whether the vertices are their own mirror image about the middle of the image, so that maps
            may be pooled with their mirror image.
        topology: name of the vertex numbering, or None.
        progressive: whether every prefix of the points covers the face evenly as they are stored.

    Example::

        >>> face = CanonicalFace.default()
        >>> face.size, tuple(face.vertices.shape), tuple(face.triangles.shape)
        ((224, 224), (468, 3), (898, 3))
    """

    image: Tensor
    vertices: Tensor
    triangles: Tensor
    point_vertices: Tensor
    point_weights: Tensor
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    permutation: Tensor | None = None
    mirror_symmetric: bool = False
    topology: str | None = None
    progressive: bool = False

    # ------------------------------------------------------------------------------------------------- making
    @classmethod
    def default(cls, size: int = DEFAULT_SIZE) -> CanonicalFace:
        """The face that the package ships: 468 vertices (MediaPipe's numbering), exactly mirror symmetric.

        The vertices are the symmetrised Procrustes mean of many faces; the image is a drawing of that mean, no
        photograph (``tools/make_canonical_face.py`` makes both).

        Args:
            size: height and width of the face's image, and of the maps written on it, in pixels.
        """
        return _default(check_integer("size", size, 1, expected="a number of pixels from 1 on"))

    @classmethod
    def from_image(cls, image: Tensor | np.ndarray, aligner: Callable[[list[np.ndarray]], FaceMesh]) -> CanonicalFace:
        """A canonical face from a frontal photograph.

        Triangles, regions and occlusion points are the default face's where the aligner shares its topology.

        Args:
            image: (3, H, W) float in 0..1 or (H, W, 3) uint8.
            aligner: finds the mesh in a list of (H, W, 3) uint8 images.

        Raises:
            NoFaceError: the aligner found none.
        """
        picture = as_image(image)
        mesh = aligner([to_uint8(picture)])
        if len(mesh) != 1 or mesh.missing:
            raise AlignmentError(f"CanonicalFace.from_image: expected one face, the aligner gave {len(mesh)} rows.")
        vertices = mesh.vertices[0].double().cpu()
        shipped = cls.default()
        if mesh.topology == shipped.topology:
            return replace(shipped, image=picture, vertices=vertices, mirror_symmetric=False)
        return cls.from_vertices(picture, vertices, topology=mesh.topology)

    @classmethod
    def from_vertices(
        cls,
        image: Tensor | np.ndarray,
        vertices: Tensor | np.ndarray,
        triangles: Tensor | np.ndarray | None = None,
        regions: Mapping[str, Tensor] | None = None,
        *,
        permutation: Tensor | None = None,
        topology: str | None = None,
    ) -> CanonicalFace:
        """A canonical face of any topology; each vertex is an occlusion point.

        Args:
            image: (3, H, W) float in 0..1 or (H, W, 3) uint8.
            vertices: (N, 2 or 3) in pixels of the image; z is 0 where it is not given.
            triangles: (F, 3) vertex indices. Default: the Delaunay triangulation of x and y.
            regions: region name -> triangle indices.
            permutation: (N,) left-right permutation. Default: unknown.
            topology: name of the vertex numbering. Default: unknown.

        Raises:
            CanonicalError: shapes, values or indices do not fit.
        """
        picture = as_image(image)
        points = torch.as_tensor(vertices).detach().double().cpu()
        if points.ndim != 2 or points.shape[1] not in (2, 3) or not len(points) or not torch.isfinite(points).all():
            raise CanonicalError(
                f"CanonicalFace: expected finite vertices of shape (N, 3) or (N, 2), got {tuple(points.shape)}."
            )
        if points.shape[1] == 2:
            points = torch.cat([points, torch.zeros(len(points), 1, dtype=torch.float64)], 1)
        faces = delaunay(points) if triangles is None else torch.as_tensor(triangles).long().cpu()
        check_triangles(faces, len(points))
        own = torch.arange(len(points))
        swap = None if permutation is None else torch.as_tensor(permutation).long().cpu()
        return cls(
            image=picture,
            vertices=points,
            triangles=faces,
            point_vertices=own[:, None].repeat(1, 3),
            point_weights=torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).repeat(len(points), 1),
            regions={name: torch.as_tensor(index).long() for name, index in (regions or {}).items()},
            permutation=swap,
            mirror_symmetric=swap is not None and is_symmetric(points, swap, picture.shape[-1]),
            topology=topology,
        )

    @classmethod
    def of(cls, face: object, name: str = "canonical_face") -> CanonicalFace:
        """A canonical face, or the one in a file; CanonicalError, which begins with the name, for anything else."""
        if isinstance(face, (str, PathLike)):
            return cls.load(face)
        if not isinstance(face, CanonicalFace):
            got = f"the class {face.__name__}" if isinstance(face, type) else f"a {type(face).__name__}"
            raise CanonicalError(f"{name}: expected a CanonicalFace, or the file of one, got {got}.")
        return face

    @classmethod
    def load(cls, path: str | PathLike[str] | IO[bytes]) -> CanonicalFace:
        """Reads what :meth:`save` wrote. Nothing in the file is executed."""
        return cls(**read_fields(path))

    def save(self, path: str | PathLike[str] | IO[bytes]) -> None:
        """Writes the face to an ``.npz`` file; its image is stored with 8 bits per channel."""
        write_fields(path, {field.name: getattr(self, field.name) for field in fields(self)})

    def __fingerprint__(self) -> object:
        # What decides the maps; the image does not.
        arrays = self.vertices, self.triangles, self.point_vertices, self.point_weights
        return (self.size, self.topology, self.progressive, *arrays)

    def resized(self, size: tuple[int, int]) -> CanonicalFace:
        """The same face in an image of another size (H, W)."""
        (height, width), size = self.size, check_size("size", size)
        wider, taller = size[1] / width, size[0] / height
        scale = torch.tensor([wider, taller, (wider + taller) / 2], dtype=torch.float64)
        shrinks = size[0] * size[1] < height * width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        picture = cv2.resize(self.image.permute(1, 2, 0).numpy(), (size[1], size[0]), interpolation=interpolation)
        return replace(self, image=as_image(picture.clip(0, 1).transpose(2, 0, 1)), vertices=self.vertices * scale)

    # ------------------------------------------------------------------------------------------------ reading
    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image, and of every map on this face."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    @property
    def num_points(self) -> int:
        """P, the number of occlusion points."""
        return len(self.point_vertices)

    def points(self, vertices: Tensor) -> Tensor:
        """Where the occlusion points lie in meshes of this topology: (..., N, D) -> (..., P, D), in float64."""
        corners = vertices.double()[..., self.point_vertices.to(vertices.device), :]
        return (corners * self.point_weights.to(vertices.device)[..., None]).sum(-2)

    def points_seen(self, visible: Tensor) -> Tensor:
        """(B, N) visible vertices -> (B, P): a point is seen when every vertex that carries it is."""
        carries = (self.point_weights != 0).to(visible.device)
        return (visible[:, self.point_vertices.to(visible.device)] | ~carries).all(-1)

    @cached_property
    def raster(self) -> Raster:
        """Which triangle each pixel of this face shows."""
        return rasterize(self.vertices, self.triangles, self.size)

    def raster_on(self, device: torch.device | str) -> Raster:
        """:attr:`raster` on a device."""
        return Raster(self.raster.triangle.to(device), self.raster.weights.to(device))

    @cached_property
    def point_order(self) -> Tensor:
        """(P,) int64, the points from the first to be evaluated to the last: every prefix covers the face evenly.

        The order is that of greedy farthest-point sampling: each point is the one farthest from all before it.
        """
        if self.progressive:
            return torch.arange(self.num_points)
        return farthest_first(self.points(self.vertices))

    def region_mask(self, name: str) -> Tensor:
        """(H, W) bool, the pixels of a named region.

        Raises:
            CanonicalError: this face has no such region.
        """
        if not isinstance(name, str) or name not in self.regions:
            raise CanonicalError(f"region {name!r} is unknown; this face has {sorted(self.regions) or 'no regions'}.")
        return torch.isin(self.raster.triangle, self.regions[name])

    # --------------------------------------------------------------------------------------------- textures
    def average_texture(self, images: Tensor, faces: FaceMesh) -> CanonicalFace:
        """This face with the mean of photographs, each warped onto it, as its image ("mean face").

        Args:
            images: (B, 3, H, W) float in 0..1.
            faces: the meshes of the images.

        Returns:
            A canonical face of the same geometry. Pixels that no photograph shows keep this face's image.
        """
        self.check_mesh(faces, images.shape[-2:])
        if len(images) != len(faces):
            raise AlignmentError(f"average_texture: expected one mesh per image, got {len(faces)} for {len(images)}.")
        if not ((images >= 0) & (images <= 1)).all():
            raise CanonicalError("average_texture: expected images of floats in 0..1; undo a normalisation first.")
        images = images.detach()
        values, covered = warp(images, self.raster, self.triangles, faces.vertices, faces.visible)
        count = covered.sum(0)
        mean = values.sum(0) / count.clamp(min=1)
        return replace(self, image=torch.where(count > 0, mean, self.image).float())

    def check_mesh(self, faces: FaceMesh, image_size: Sequence[int] | None = None, name: str = "faces") -> None:
        """Raises AlignmentError, naming ``name``, if meshes have another topology or image size, or cannot be right.

        They cannot if a face spans only a few pixels, or if only its mirror image fits this face. Less certain faults
        (most of a face outside its image, no resemblance to this face) are warned of.
        """
        expected = len(self.vertices)
        known = faces.topology is not None and self.topology is not None
        if faces.num_vertices != expected or (known and faces.topology != self.topology):
            raise AlignmentError(
                f"the mesh is of topology {faces.topology} with {faces.num_vertices} vertices, the canonical face of "
                f"topology {self.topology} with {expected}; give canonical_face= a face of the mesh's own topology."
            )
        if image_size is not None and tuple(image_size) != faces.image_size:
            raise AlignmentError(
                f"the mesh was made for images of (height, width) = {faces.image_size}, these are {tuple(image_size)}; "
                "align these images, or bring the mesh along with .cropped() and .resized()."
            )
        check_plausible(self.vertices, faces, name)


FaceLike = CanonicalFace | str | PathLike[str]
"""A canonical face, or the file of one."""


def farthest_first(points: Tensor, start: int | None = None) -> Tensor:
    """Greedy farthest-point order of points (P, D): each is the one farthest from all before it.

    Args:
        points: (P, D).
        start: the first point. Default: the one nearest to the centre.

    Returns:
        (P,) int64.
    """
    if start is None:
        start = int((points - points.mean(0)).square().sum(1).argmin())
    order = torch.empty(len(points), dtype=torch.int64)
    distance = torch.full((len(points),), torch.inf, dtype=points.dtype)
    for step in range(len(points)):
        order[step] = start
        distance = torch.minimum(distance, (points - points[start]).square().sum(1))
        distance[start] = -1.0  # never again, even where points coincide
        start = int(distance.argmax())
    return order


@lru_cache(maxsize=8)
def _default(size: int) -> CanonicalFace:
    with resources.files("captum_canonical.faces").joinpath("canonical_face_468.npz").open("rb") as file:
        return CanonicalFace.load(file).resized((size, size))
