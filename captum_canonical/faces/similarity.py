"""Similarities (a turn, one scale, a shift): the best one between two shapes, and photographs that are moved by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical.errors import AlignmentError
from captum_canonical.faces.images import crop_photo
from captum_canonical.faces.mesh import FaceMesh


@dataclass(frozen=True)
class Similarity:
    """B maps ``x -> scale * rotation @ x + shift`` of D-dimensional points; never a reflection.

    Attributes:
        scale: (B,) positive.
        rotation: (B, D, D) with determinant +1.
        shift: (B, D).
    """

    scale: Tensor
    rotation: Tensor
    shift: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """(P, D) or (B, P, D) points -> (B, P, D)."""
        return self.scale[:, None, None] * points @ self.rotation.mT + self.shift[:, None]

    def undo(self, points: Tensor) -> Tensor:
        """(P, D) or (B, P, D) points -> where :meth:`apply` would have taken them from, (B, P, D)."""
        return (points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]

    def move(self, mesh: FaceMesh, image_size: tuple[int, int]) -> FaceMesh:
        """The B rows of a mesh in images that similarities of the plane have made; depth takes the same scale.

        Args:
            mesh: in pixels of the images that the similarities start from.
            image_size: (H, W) of the new images.

        Example::

            >>> turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])  # right becomes down
            >>> mesh = FaceMesh(torch.tensor([[[3.0, 0.0, 5.0]]]), image_size=(10, 10))
            >>> Similarity(torch.tensor([2.0]), turn, torch.tensor([[1.0, 0.0]])).move(mesh, (20, 20)).vertices
            tensor([[[ 1.,  6., 10.]]])
        """
        here, vertices = self._double(mesh.vertices.device), mesh.vertices.double()
        moved = torch.cat([here.apply(vertices[..., :2]), here.scale[:, None, None] * vertices[..., 2:]], -1)
        return replace(mesh, vertices=moved.to(mesh.vertices.dtype), image_size=image_size)

    def _double(self, device: torch.device) -> Similarity:
        return Similarity(*(each.to(device, torch.float64) for each in (self.scale, self.rotation, self.shift)))


def fit_similarity(source: Tensor, target: Tensor) -> Similarity:
    """Least-squares similarity that takes shapes to others (Umeyama 1991, eqs. 40-43).

    Args:
        source: (P, D), or (B, P, D).
        target: (B, P, D), the same points.

    Raises:
        AlignmentError: the points of a shape coincide or are not finite, so that there is no such map.

    Example::

        >>> square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> fit_similarity(square, 2 * square[None] + 5).scale
        tensor([2.], dtype=torch.float64)
    """
    source, target = source.double(), target.double()
    from_mean, to_mean = source.mean(-2), target.mean(1)
    start, end = source - from_mean[..., None, :], target - to_mean[:, None]
    if not bool(torch.isfinite(end).all()) or not bool(torch.isfinite(start).all()):
        raise AlignmentError("similarity: expected finite points, got NaN or infinity.")
    left, values, right = torch.linalg.svd(end.mT @ start)
    signs = torch.ones_like(values)
    signs[:, -1] = torch.linalg.det(left @ right).sign()  # the nearest rotation, where the best map is a reflection
    rotation = (left * signs[:, None]) @ right
    scale = (values * signs).sum(1) / start.square().sum((-2, -1))
    if not bool((scale > 0).all()):  # NaN, where all source points coincide, included
        raise AlignmentError(
            "similarity: expected points that outline a shape, but those of a shape coincide, or are the mirror image "
            "of the other's, so that no turning and scaling brings them nearer."
        )
    moved = (rotation @ from_mean[..., None])[..., 0]
    return Similarity(scale, rotation, to_mean - scale[:, None] * moved)


def crop_by_similarity(
    image: np.ndarray,
    similarity: Similarity,
    size: tuple[int, int],
    fill: str | float | Sequence[float] = "edge",
    stretch: float = 1.0,
) -> np.ndarray:
    """The part of a photo that a similarity takes to an image of another size, turned with it.

    Enlarging, it is bilinear, as ``cv2.warpAffine`` is, but for that function's rounding of places to 1/32 pixel.
    Shrinking, each new pixel is the mean over a window as large as itself, turned with it, where ``cv2.warpAffine``
    would still look at four old pixels and skip those between. A similarity that does not turn gives what
    :func:`~captum_canonical.faces.images.crop_photo` gives.

    Args:
        image: (H, W, 3) uint8.
        similarity: one, of the plane, from pixels of the photo to pixels of the result, both continuous: pixel (row r,
            column c) covers [c, c + 1) x [r, r + 1).
        size: (H, W) of the result.
        fill: what is beyond the photo, see :func:`~captum_canonical.faces.images.crop_photo`.
        stretch: by which the x of the result are multiplied after the similarity.

    Returns:
        ``size`` x 3 uint8.

    Raises:
        CanonicalError: an argument is not as above.

    Example::

        >>> photo = np.array([[0, 100], [200, 100]], np.uint8)[..., None].repeat(3, 2)
        >>> quarter_turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
        >>> turned = Similarity(torch.ones(1), quarter_turn, torch.tensor([[2.0, 0.0]]))
        >>> crop_by_similarity(photo, turned, (2, 2))[..., 0]
        array([[200,   0],
               [100, 100]], dtype=uint8)
    """
    (height, width), similarity = size, similarity._double(torch.device("cpu"))
    window = 1 / float(similarity.scale)  # height of a new pixel in old ones
    shrink = max(1, int(window / max(stretch, 1) // 4))  # by area averages first: not too many samples are left to take
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]]).double()
    columns = corners.new_tensor([stretch, 1])
    reached = similarity.undo(corners / columns)[0]
    low = reached.amin(0).floor() - 2 * shrink
    count = ((reached.amax(0) - low) / shrink).ceil().long() + 2
    box = torch.cat([low, low + shrink * count]).tolist()
    part = crop_photo(image, box, (int(count[1]), int(count[0])), fill)
    pixels = torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres = torch.stack([x, y], -1).double().reshape(-1, 2) / columns
    across, down = (_offsets(each / shrink) * shrink / window for each in (window / stretch, window))
    total = torch.zeros(1, 3, height, width)
    for offset in torch.cartesian_prod(across, down):
        places = (similarity.undo(centres + offset) - low) / (shrink * count)  # in shares of the part
        grid = (2 * places - 1).float().reshape(1, height, width, 2)
        total += F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    mean = total[0].permute(1, 2, 0) / (len(across) * len(down))
    return mean.round().clamp(0, 255).to(torch.uint8).numpy()


def _offsets(window: float) -> Tensor:
    """Where to sample along one axis, so that boxes one pixel wide, which bilinear samples are, cover a window."""
    count = max(1, math.ceil(window - 1e-9))
    reach = (window - 1) / 2 if count > 1 else 0.0
    return torch.linspace(-reach, reach, count, dtype=torch.float64)
