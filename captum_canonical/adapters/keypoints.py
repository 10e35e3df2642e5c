"""Alignment by five keypoints, and a fixed grid without alignment: the paper compares dense alignment with both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.aligner import Aligner, as_aligner
from captum_canonical.adapters.landmarks import FIVE_POINTS, LANDMARKS_68
from captum_canonical.checks import check_integer, check_tensor
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.images import Images, count_and_size
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.similarity import fit_similarity

KEYPOINTS_468 = tuple(tuple(LANDMARKS_68[number] for number in group) for group in FIVE_POINTS)
"""MediaPipe vertices whose mean is each of the :data:`~captum_canonical.adapters.landmarks.FIVE_POINTS`."""


class KeypointAligner(Aligner):
    """Moves the canonical face's vertices onto each face by the similarity that fits five keypoints best.

    This is the alignment of common face crops: it rotates, scales and shifts, but knows neither pose nor expression.
    Every vertex counts as seen.

    Args:
        aligner: where the points come from: its meshes of 468 vertices, or of the five points themselves (topology
            ``keypoints-5``); only x and y are used. Default: the points are given at each call.
        canonical_face: whose vertices are moved. Default: the shipped one.
        canonical_points: (5, 2 or 3) the keypoints of the canonical face in its pixels. Default: read off its vertices,
            which needs the ``mediapipe-468`` topology.

    Raises:
        AlignmentError: a canonical face of another topology without its ``canonical_points``.

    Example::

        >>> face = CanonicalFace.default()
        >>> points = keypoints_468(face.vertices)[..., :2] / 2
        >>> mesh = KeypointAligner()(torch.rand(1, 3, 112, 112), points=points[None])
        >>> torch.testing.assert_close(mesh.vertices[0].double(), face.vertices / 2, rtol=0, atol=1e-4)
    """

    def __init__(
        self,
        aligner: Callable[..., FaceMesh] | None = None,
        canonical_face: CanonicalFace | None = None,
        canonical_points: Tensor | np.ndarray | None = None,
    ) -> None:
        self.aligner = None if aligner is None else as_aligner(aligner)
        self.canonical_face = CanonicalFace.default() if canonical_face is None else CanonicalFace.of(canonical_face)
        if canonical_points is None:
            if self.canonical_face.topology != "mediapipe-468":
                raise AlignmentError(
                    f"KeypointAligner: expected a canonical face of topology mediapipe-468, got "
                    f"{self.canonical_face.topology}; give its five points (canonical_points=)."
                )
            canonical_points = keypoints_468(self.canonical_face.vertices)
        self.topology = self.canonical_face.topology
        self.canonical_points = _points(canonical_points, "canonical_points")[0]

    def __call__(
        self,
        images: Images,
        *,
        points: Tensor | np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> FaceMesh:
        """Align every image.

        Args:
            images: what the inner aligner takes; with ``points`` only their number and size count.
            points: (B, 5, 2) or (B, 5, 3) keypoints in pixels, in the order of :data:`KEYPOINTS_468`; with z (towards
                the camera) the similarity turns in three dimensions, without in the image plane. NaN: no face there.
            names: passed on to the inner aligner.

        Returns:
            A float32 mesh of the canonical face's topology, with the rows of the inner aligner's mesh.

        Raises:
            AlignmentError: no points, or a number of them that does not fit the images.
            NoFaceError: the inner aligner found no face.
        """
        if points is not None:
            count, size = count_and_size(images)
            found_points = _points(points, "points")
            if len(found_points) != count:
                raise AlignmentError(f"points: expected those of {count} images, got {len(found_points)}.")
            found = torch.isfinite(found_points).all(-1).all(-1)
            device = images.device if isinstance(images, Tensor) else torch.device("cpu")
            return self._mesh(found_points, found, size, None).to(device)
        if self.aligner is None:
            raise AlignmentError(
                "KeypointAligner: expected an aligner at construction or points=(B, 5, 2) at the call."
            )
        mesh = self.aligner(images, names=names)
        moved = self._mesh(_keypoints(mesh), mesh.found.cpu(), mesh.image_size, mesh.image_index)
        return moved.to(mesh.vertices.device)

    def _mesh(self, points: Tensor, found: Tensor, size: tuple[int, int], index: Tensor | None) -> FaceMesh:
        shape = self.canonical_face.vertices
        vertices = shape.new_zeros(len(points), *shape.shape)
        if bool(found.any()):
            dims = min(points.shape[-1], self.canonical_points.shape[-1])
            similarity = fit_similarity(self.canonical_points[:, :dims], points[found][..., :dims])
            moved = similarity.apply(shape[:, :dims])
            depth = similarity.scale[:, None, None] * shape[:, dims:]
            vertices[found] = torch.cat([moved, depth], -1)
        image_index = None if index is None else index.cpu()
        return FaceMesh(
            vertices.float(),
            image_size=size,
            topology=self.topology,
            found=found,
            image_index=image_index,
        )


def keypoints_468(vertices: Tensor) -> Tensor:
    """(..., 468, D) vertices -> (..., 5, D) keypoints, in the order of :data:`KEYPOINTS_468`."""
    return torch.stack([vertices[..., list(group), :].mean(-2) for group in KEYPOINTS_468], -2)


def _keypoints(mesh: FaceMesh) -> Tensor:
    plane = mesh.vertices[..., :2].detach().cpu().double()
    if mesh.num_vertices == 5:
        return plane
    if mesh.topology not in ("mediapipe-468", None) or mesh.num_vertices != 468:
        raise AlignmentError(
            f"KeypointAligner: expected meshes of topology mediapipe-468 or keypoints-5 from its aligner, got "
            f"{mesh.topology} with {mesh.num_vertices} vertices."
        )
    return keypoints_468(plane)


def _points(points: Tensor | np.ndarray, name: str) -> Tensor:
    values = check_tensor(name, points).detach().cpu().double()
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1] != 5 or values.shape[2] not in (2, 3):
        raise AlignmentError(f"{name}: expected shape (B, 5, 2) or (B, 5, 3), got {tuple(values.shape)}.")
    return values


class PixelGrid(Aligner):
    """An aligner that ignores the pixels: every image gets the same grid of ``rows`` x ``cols`` cells.

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
        try:
            self.rows, self.cols = check_integer("rows", rows, 1), check_integer("cols", cols, 1)
        except CanonicalError as error:
            raise AlignmentError(
                f"PixelGrid: expected at least one row and one column, got {rows!r} x {cols!r} ({error})"
            ) from None
        self.topology = f"grid-{self.rows}x{self.cols}"

    def __call__(self, images: Images, *, names: Sequence[str] | None = None) -> FaceMesh:
        """The grid for each image, all seen, float32 on a tensor's device.

        Args:
            images: a (B, C, H, W) tensor of any values, or (H, W, 3) arrays of one size.
            names: not used; aligners take it.
        """
        count, size = count_and_size(images)
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
