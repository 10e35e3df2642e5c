"""A photograph and its mesh, cut to the face together."""

from __future__ import annotations

import math

import numpy as np

from captum_canonical.errors import AlignmentError, NoFaceError
from captum_canonical.mesh import FaceMesh
from captum_canonical.photos import crop_photo


def crop_to_face(
    image: np.ndarray,
    mesh: FaceMesh,
    margin: float = 0.25,
    size: int | tuple[int, int] = 224,
    fill: str | float | tuple[float, float, float] = "edge",
) -> tuple[np.ndarray, FaceMesh]:
    """The part of a photo around a face, brought to a network's input size, and the mesh in it.

    The part is the smallest box of the new size's shape around all vertices and their margin, with sides of whole
    pixels; it may reach beyond the photo.

    Args:
        image: (H, W, 3) uint8.
        mesh: one row, made for this image.
        margin: what to leave around the vertices on each side, as a share of the longer side of the box around them.
        size: (H, W) of the result; a number for a square.
        fill: what is beyond the photo, see :func:`captum_canonical.photos.crop_photo`.

    Returns:
        The photo, ``size`` x 3 uint8, and the mesh with ``image_size=size``.

    Raises:
        AlignmentError: the mesh has not one row, or belongs to another image size.
        NoFaceError: the mesh's row says that no face was found.

    Example::

        >>> import torch
        >>> corners = torch.tensor([[[40.0, 20.0, 0.0], [60.0, 20.0, 0.0], [50.0, 40.0, 0.0]]])
        >>> mesh = FaceMesh(corners, image_size=(80, 100))
        >>> part, moved = crop_to_face(np.zeros((80, 100, 3), np.uint8), mesh, margin=0.25, size=60)
        >>> part.shape, moved.vertices[0, :, :2].tolist()
        ((60, 60, 3), [[10.0, 10.0], [50.0, 10.0], [30.0, 50.0]])
    """
    if len(mesh) != 1 or tuple(image.shape[:2]) != mesh.image_size:
        raise AlignmentError(
            f"crop_to_face: expected a mesh of one row made for an image of (height, width) = "
            f"{tuple(image.shape[:2])}, got {len(mesh)} rows for {mesh.image_size}; mesh[3] is the fourth row."
        )
    if mesh.missing:
        raise NoFaceError("crop_to_face: the mesh has no face (found=False); leave such images out.")
    if margin < 0:
        raise AlignmentError(f"margin: expected a share of at least 0, got {margin}.")
    height, width = (size, size) if isinstance(size, int) else size
    left, top, right, bottom = mesh.boxes[0].double().tolist()
    longer = max(right - left, bottom - top) * (1 + 2 * margin)
    scale = longer / min(height, width)
    wide, high = max(1, math.ceil(scale * width)), max(1, math.ceil(scale * height))
    left, top = (left + right - wide) / 2, (top + bottom - high) / 2
    photo = crop_photo(image, (left, top, left + wide, top + high), (height, width), fill)
    return photo, mesh.cropped(left, top, wide, high).resized((height, width))
