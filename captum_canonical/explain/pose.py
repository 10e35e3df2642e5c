"""Where a head is turned, from its mesh."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_canonical.adapters.similarity import fit_similarity
from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import AlignmentError
from captum_canonical.mesh import FaceMesh

FLAT = 1e-3  # depth as a share of height, below which a shape says nothing about turns


def head_pose(faces: FaceMesh, canonical_face: CanonicalFace) -> Tensor:
    """Yaw and pitch of heads: how the frontal canonical face must be turned to lie on each of them best.

    The turn is the rotation of the least-squares similarity between all vertices (Umeyama 1991), seen and unseen ones
    alike. Where the canonical face looks straight out of the image, (0, 0, 1), the head looks to the turned direction
    (x, y, z): yaw = atan2(x, z), pitch = atan2(-y, hypot(x, z)). Turning the photograph in its own plane turns that
    direction as well.

    Args:
        faces: B meshes with depth, z towards the camera.
        canonical_face: of the same topology, frontal, with depth.

    Returns:
        (B, 2) float64 yaw and pitch in degrees. Yaw is positive for a face that looks to the image's right, pitch for
        one that looks up. NaN where no face was found, or where a mesh or the canonical face has no depth.

    Raises:
        AlignmentError: the meshes have another number of vertices.

    Example::

        >>> import math
        >>> face = CanonicalFace.default()
        >>> cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
        >>> to_the_right = face.vertices.new_tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        >>> vertices = (face.vertices @ to_the_right.T)[None]
        >>> head_pose(FaceMesh(vertices, image_size=(224, 224)), face).round(decimals=3).tolist()
        [[30.0, 0.0]]
    """
    shape, heads = canonical_face.vertices.double().cpu(), faces.vertices.double().cpu()
    if heads.shape[1:] != shape.shape:
        raise AlignmentError(
            f"head_pose: expected meshes of {len(shape)} vertices like the canonical face, got {heads.shape[1]}."
        )
    pose = torch.full((len(heads), 2), torch.nan, dtype=torch.float64)
    usable = faces.found.cpu() & _deep(heads)
    if not bool(_deep(shape[None])) or not bool(usable.any()):
        return pose
    x, y, z = fit_similarity(shape, heads[usable]).rotation[:, :, 2].unbind(1)  # of (0, 0, 1)
    pose[usable] = torch.rad2deg(torch.stack([torch.atan2(x, z), torch.atan2(-y, torch.hypot(x, z))], 1))
    return pose


def _deep(shapes: Tensor) -> Tensor:
    """(B,) whether each of (B, N, 3) shapes has a third dimension worth the name."""
    extents = torch.linalg.svdvals(shapes - shapes.mean(1, keepdim=True))
    return extents[:, -1] > FLAT * extents[:, 0]
