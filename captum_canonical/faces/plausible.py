"""Meshes that cannot be right: fractions instead of pixels, exchanged or mirrored axes, another image's pixels."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from captum_canonical.errors import AlignmentError, user_stacklevel
from captum_canonical.faces.mesh import FaceMesh

LEAST_EXTENT = 4.0  # pixels, of the longer side of a face's box
FLAT = 1e-3  # depth as a share of height, below which there is none
MIRRORED, FITS = 0.1, 0.75  # a reflection fits better by so much, and so well, as a correlation
ALIKE = 0.5  # correlation with the canonical face, below which a mesh looks like no face


def check_plausible(shape: Tensor, faces: FaceMesh, name: str) -> None:
    """Raises or warns where meshes cannot be right, as far as a look at their shape can tell.

    Args:
        shape: (N, 3) vertices of the canonical face of the same topology.
        faces: meshes; rows without a face are not looked at, nor are meshes whose topology has no name: they may be
            grids or patterns of any kind.
        name: of the argument, for messages.

    Raises:
        AlignmentError: a face spans only a few pixels, or only its mirror image fits the canonical face.

    Warns:
        UserWarning: most of a face lies outside its image, it resembles the canonical face in no position, or only
            its depth is mirrored.
    """
    rows = torch.nonzero(faces.found.cpu()).flatten()
    vertices = faces.vertices.detach().cpu().double()[rows]
    if not len(rows) or len(shape) < 3 or faces.topology is None:
        return
    plane = vertices[..., :2]
    extent = (plane.amax(1) - plane.amin(1)).amax(1)
    _refuse(
        name,
        rows[extent < LEAST_EXTENT],
        f"all vertices lie within {float(extent.min()):.2g} pixels; expected pixels of the image, not fractions of its "
        "size (multiply x by the width, y by the height)",
    )
    size = plane.new_tensor([faces.image_size[1], faces.image_size[0]])
    inside = ((plane >= 0) & (plane <= size)).all(2).double().mean(1)
    shape = shape.detach().cpu().double()
    flat, flat_mirrored = _fits(shape[:, :2], plane)
    fit, mirrored = _fits(shape, vertices)
    wrong = (mirrored - fit > MIRRORED) & (mirrored > FITS)
    wrong_plane = (flat_mirrored - flat > MIRRORED) & (flat_mirrored > FITS)
    both_deep = deep(shape[None]) & deep(vertices)
    _refuse(
        name,
        rows[wrong_plane & (wrong | ~both_deep)],
        "only the mirror image of the mesh fits the canonical face; expected x to the right and y down in pixels (are "
        "x and y exchanged, does y run up, or are left and right exchanged?)",
    )
    _warn(name, wrong & both_deep, "the depth of a mesh is mirrored; expected z towards the camera.")
    _warn(
        name,
        inside < 0.5,
        "most of a mesh lies outside its image; expected pixels of this image, not of another size (.resized() and "
        ".cropped() bring a mesh along).",
    )
    _warn(
        name,
        torch.maximum(flat, flat_mirrored) < ALIKE,
        "a mesh resembles the canonical face in no position; expected the vertices in the order of its topology.",
    )


def _fits(shape: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) correlation of each mesh (B, N, D) with the shape (N, D) after the best similarity, and after mirroring."""
    shape, vertices = shape - shape.mean(0), vertices - vertices.mean(1, keepdim=True)
    product = shape.T @ vertices
    values = torch.linalg.svdvals(product)
    signs = torch.ones_like(values)
    signs[:, -1] = torch.linalg.det(product).sign()
    norm = (shape.norm() * vertices.flatten(1).norm(dim=1)).clamp(min=1e-12)
    other = signs.clone()
    other[:, -1] *= -1
    return (values * signs).sum(1) / norm, (values * other).sum(1) / norm


def deep(shapes: Tensor) -> Tensor:
    """(B,) whether each of (B, N, 3) shapes has a third dimension worth the name."""
    extents = torch.linalg.svdvals(shapes - shapes.mean(1, keepdim=True))
    return extents[:, -1] > FLAT * extents[:, 0]


def _refuse(name: str, rows: Tensor, what: str) -> None:
    if len(rows):
        raise AlignmentError(f"{name}: in the meshes of rows {rows[:10].tolist()} {what}.")


def _warn(name: str, which: Tensor, what: str) -> None:
    if bool(which.any()):
        warnings.warn(f"{name}: {what}", stacklevel=user_stacklevel())
