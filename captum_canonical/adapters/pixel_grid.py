"""No alignment: a regular grid over the whole image, its background included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.aligner import batch_size
from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import AlignmentError
from captum_canonical.mesh import FaceMesh


class PixelGrid:
    """An aligner that looks at no pixel: every image gets the same grid of ``rows`` x ``cols`` cells.

    With :meth:`canonical_face` as the canonical face, maps stay in image space. Each cell has one occlusion point, its
    centre, so that a patch of the cell's size tiles the image as Captum's ``Occlusion`` does with strides equal to its
    window; larger patches overlap like windows with smaller strides.

    Args:
        rows, cols: number of cells down and across.

    Example::

        >>> grid = PixelGrid(2, 3)
        >>> grid(torch.rand(1, 3, 20, 60)).vertices[0, :4, :2].tolist()
        [[0.0, 0.0], [20.0, 0.0], [40.0, 0.0], [60.0, 0.0]]
        >>> face = grid.canonical_face((20, 60))
        >>> face.points(face.vertices)[:, :2].tolist()
        [[10.0, 5.0], [30.0, 5.0], [50.0, 5.0], [10.0, 15.0], [30.0, 15.0], [50.0, 15.0]]
    """

    def __init__(self, rows: int, cols: int) -> None:
        if rows < 1 or cols < 1:
            raise AlignmentError(f"PixelGrid: expected at least one row and one column, got {rows} x {cols}.")
        self.rows, self.cols = int(rows), int(cols)
        self.topology = f"grid-{self.rows}x{self.cols}"

    def __call__(
        self, images: Tensor | np.ndarray | Sequence[np.ndarray], *, names: Sequence[str] | None = None
    ) -> FaceMesh:
        """The grid for each image, all seen, float32 on a tensor's device.

        Args:
            images: a (B, C, H, W) tensor of any values, or (H, W, 3) arrays of one size.
            names: not used; aligners take it.
        """
        count, size = batch_size(images)
        device = images.device if isinstance(images, Tensor) else torch.device("cpu")
        vertices = self._vertices(size).float().expand(count, -1, -1).clone()
        return FaceMesh(vertices, image_size=size, topology=self.topology).to(device)

    def canonical_face(self, image: Tensor | np.ndarray | tuple[int, int]) -> CanonicalFace:
        """The same grid as a canonical face.

        Args:
            image: what to draw maps over, (3, H, W) floats in 0..1 or (H, W, 3) uint8 (such as the mean of the
                photographs), or only a size (H, W), for plain grey.
        """
        if isinstance(image, tuple):
            image = torch.full((3, *image), 0.5)
        size = (image.shape[0], image.shape[1]) if isinstance(image, np.ndarray) else tuple(image.shape[-2:])
        index = torch.arange((self.rows + 1) * (self.cols + 1)).reshape(self.rows + 1, self.cols + 1)
        corners = [index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]]
        first, second, third, fourth = (corner.flatten() for corner in corners)  # around each cell
        triangles = torch.stack([torch.stack([first, second, third], 1), torch.stack([first, third, fourth], 1)], 1)
        face = CanonicalFace.from_vertices(
            image,
            self._vertices((int(size[0]), int(size[1]))),
            triangles.reshape(-1, 3),
            permutation=index.flip(1).flatten(),
            topology=self.topology,
        )
        return replace(
            face,
            point_vertices=torch.stack([first, third, first], 1),
            point_weights=torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).repeat(len(first), 1),
        )

    def _vertices(self, size: tuple[int, int]) -> Tensor:
        down = torch.linspace(0, size[0], self.rows + 1, dtype=torch.float64)
        across = torch.linspace(0, size[1], self.cols + 1, dtype=torch.float64)
        y, x = torch.meshgrid(down, across, indexing="ij")
        return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
