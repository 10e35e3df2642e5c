"""The canonical face as the mesh of photographs, and photographs of noise; `face` and `faces` are fixtures as well."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh


def mesh_of(
    face: CanonicalFace,
    count: int = 1,
    image_size: int | tuple[int, int] | None = None,
    *,
    moved: Sequence[tuple[float, float]] | None = None,
    scale: float = 1.0,
) -> FaceMesh:
    """Meshes of ``count`` photographs in which the canonical face fills the image.

    Args:
        face: what the photographs show.
        count: of meshes.
        image_size: (H, W) of the photographs, or the side of square ones; the size of the face's image by default.
        moved: (x, y) in pixels by which each mesh is moved, instead of ``count``.
        scale: shrinks the faces about the middle of the image.
    """
    mesh = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology)
    if image_size is not None:
        mesh = mesh.resized((image_size, image_size) if isinstance(image_size, int) else image_size)
    vertices = mesh.vertices
    if scale != 1:
        middle = vertices.new_tensor([mesh.image_size[1] / 2, mesh.image_size[0] / 2, 0.0])
        vertices = scale * (vertices - middle) + middle
    shifts = vertices.new_tensor([(x, y, 0.0) for x, y in moved] if moved is not None else [(0.0, 0.0, 0.0)] * count)
    return FaceMesh(vertices + shifts[:, None], image_size=mesh.image_size, topology=face.topology)


def noise(count: int, size: int | tuple[int, int], *, channels: int = 3, seed: int = 7) -> Tensor:
    """(count, channels, H, W) images of uniform noise in 0..1, the same in every test."""
    height, width = (size, size) if isinstance(size, int) else size
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))
