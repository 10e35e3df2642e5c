"""Dense maps carried through the triangles of a mesh, and the depth test that tells what a face hides of itself.

Everything here works on plain tensors: vertices in pixels, triangles, maps. Pixel (row r, column c) covers
[c, c + 1) x [r, r + 1); z runs towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN_BEHIND = 0.02
"""A vertex counts as hidden when a triangle lies this far in front of it, as a share of the face's size.

The size is the root mean square distance of the vertices from their centre, close to the inter-ocular distance. Less
than this is the thickness of folds such as closed lips.
"""


@dataclass(frozen=True, eq=False)
class Raster:
    """Which triangle is seen at each pixel centre, and where in it.

    Concretely, the surface point behind pixel (r, c) is
    ``(weights[r, c, :, None] * vertices[triangles[triangle[r, c]]]).sum(0)``.

    Attributes:
        triangle: (H, W) int64 index of the front-most triangle, -1 where there is none.
        weights: (H, W, 3) float64 barycentric coordinates in it, 0 where there is none.
    """

    triangle: Tensor
    weights: Tensor

    @property
    def covered(self) -> Tensor:
        """(H, W) bool: pixels that lie on the mesh."""
        return self.triangle >= 0


def points_in_triangles(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a point and a triangle that contains it.

    Args:
        points: (M, 2) x, y.
        corners: (F, 3, 2) corners of the triangles; degenerate triangles contain nothing.

    Returns:
        For each pair: index of the point (K,), index of the triangle (K,), barycentric weights (K, 3) float64.
    """
    points, corners = points.double(), corners.double()
    return _contained(points, corners, *_near(points, corners))


def _near(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a point and a triangle near it, by their indices, all that :func:`points_in_triangles` finds among them.

    The points are sorted into the cells of a grid; near is what lies in the cells that a triangle reaches into.
    """
    cells = max(1, int(len(points) ** 0.5))
    low = points.amin(0)
    scale = cells / (points.amax(0) - low).clamp(min=1e-9)
    cell = ((points - low) * scale).long().clamp(0, cells - 1)
    cell_id = cell[:, 1] * cells + cell[:, 0]
    order = torch.argsort(cell_id, stable=True)
    # start[i] = how many points lie in cells before i; a row of neighbouring cells is one run of `order`
    start = F.pad(torch.bincount(cell_id, minlength=cells * cells).cumsum(0), (1, 0))
    first = ((corners.amin(1) - low) * scale - 1e-6).floor().clamp(-1, cells).long()
    last = ((corners.amax(1) - low) * scale + 1e-6).floor().clamp(-1, cells).long()
    away = (last < 0).any(1) | (first >= cells).any(1)
    first, last = first.clamp(0, cells - 1), last.clamp(0, cells - 1)
    lines = torch.where(away, 0, last[:, 1] - first[:, 1] + 1)
    triangle, offset = _runs(lines)
    line = (first[triangle, 1] + offset) * cells
    begin, end = start[line + first[triangle, 0]], start[line + last[triangle, 0] + 1]
    run, offset = _runs(end - begin)
    return order[begin[run] + offset], triangle[run]


def _contained(points: Tensor, corners: Tensor, point: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Those of some pairs in which the triangle contains the point, and the point's weights in it."""
    weights = _barycentric(points[point], corners[triangle])
    inside = (weights >= -1e-9).all(1)
    return point[inside], triangle[inside], weights[inside]


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For runs of these lengths laid end to end: the run that each element is in, and its place within the run."""
    run = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    before = lengths.cumsum(0) - lengths
    return run, torch.arange(len(run), device=lengths.device) - before[run]


def _barycentric(points: Tensor, corners: Tensor) -> Tensor:
    """(K, 3) weights of points (K, 2) in triangles (K, 3, 2); NaN for triangles without area."""
    a, b, c = corners.unbind(1)
    u, v, w = b - a, c - a, points - a
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    second = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / area
    third = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / area
    return torch.stack([1 - second - third, second, third], 1)


def pixel_centres(size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(H * W, 2) float64 x, y of the pixel centres, row by row."""
    y = torch.arange(size[0], dtype=torch.float64, device=device) + 0.5
    x = torch.arange(size[1], dtype=torch.float64, device=device) + 0.5
    return torch.stack([x.repeat(size[0]), y.repeat_interleave(size[1])], 1)


def rasterize(vertices: Tensor, triangles: Tensor, size: tuple[int, int]) -> Raster:
    """The front-most triangle at each pixel centre of an (H, W) image.

    Args:
        vertices: (N, 3) x, y, z in pixels, z towards the camera.
        triangles: (F, 3) int64.
        size: (H, W).

    Returns:
        The :class:`Raster` of the mesh. Where two triangles meet at the same depth the one with the lower index wins.
    """
    vertices = vertices.double()
    pixels = size[0] * size[1]
    pixel, triangle, weights = points_in_triangles(pixel_centres(size, vertices.device), vertices[triangles][..., :2])
    depth = (weights * vertices[triangles[triangle]][..., 2]).sum(1)
    nearest = torch.full((pixels,), -torch.inf, dtype=torch.float64, device=vertices.device)
    nearest.scatter_reduce_(0, pixel, depth, "amax")
    front = depth >= nearest[pixel]
    pixel, triangle, weights = pixel[front], triangle[front], weights[front]
    owner = torch.full((pixels,), len(triangles), dtype=torch.int64, device=vertices.device)
    owner.scatter_reduce_(0, pixel, triangle, "amin")
    chosen = triangle == owner[pixel]
    image_weights = torch.zeros(pixels, 3, dtype=torch.float64, device=vertices.device)
    image_weights[pixel[chosen]] = weights[chosen]
    owner[owner == len(triangles)] = -1
    return Raster(owner.view(size), image_weights.view(*size, 3))


def visible_vertices(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Depth test: a vertex is hidden when a triangle that it is no corner of lies in front of it.

    Args:
        vertices: (B, N, 3) x, y, z in pixels, z towards the camera.
        triangles: (F, 3) int64.

    Returns:
        (B, N) bool, True where seen. See :data:`HIDDEN_BEHIND` for the tolerance.
    """
    visible = torch.ones(vertices.shape[:2], dtype=torch.bool, device=vertices.device)
    triangles = triangles.to(vertices.device)
    for row, face in enumerate(vertices.double()):
        tolerance = HIDDEN_BEHIND * (face - face.mean(0)).square().sum(1).mean().sqrt()
        flat, depth = face[triangles][..., :2], face[triangles][..., 2]
        vertex, triangle = _near(face[:, :2], flat)
        behind = face[:, 2] + tolerance
        may_hide = depth.amax(1)[triangle] > behind[vertex]  # a few of them; the rest need not be looked at closely
        vertex, triangle = vertex[may_hide], triangle[may_hide]
        other = (triangles[triangle] != vertex[:, None]).all(1)
        vertex, triangle, weights = _contained(face[:, :2], flat, vertex[other], triangle[other])
        hidden = (weights * depth[triangle]).sum(1) > behind[vertex]
        visible[row, vertex[hidden]] = False
    return visible


def warp(maps: Tensor, raster: Raster, triangles: Tensor, source: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Fetches, for each pixel of a raster, the value of a map at the same surface point.

    Args:
        maps: (N, C, h, w) values.
        raster: what each pixel of the target image (H, W) shows.
        triangles: (F, 3) int64 of the mesh.
        source: (N, V, 2 or 3) where the vertices lie in the maps, in their pixels.
        visible: (N, V) bool, vertices that may be read in the maps; a triangle is read if all its corners may.

    Returns:
        values (N, C, H, W) in the type of ``maps`` by bilinear interpolation, 0 where there is nothing to read; and
        coverage (N, 1, H, W) bool. A constant map gives the same constant wherever covered.
    """
    corners = triangles[raster.triangle.clamp(min=0)]  # (H, W, 3)
    plane = source[..., :2].double()
    place = (raster.weights[None, ..., None] * plane[:, corners]).sum(3)  # (N, H, W, 2)
    height, width = maps.shape[-2:]
    limit = place.new_tensor([width, height])
    inside = ((place >= 0) & (place <= limit)).all(-1)
    covered = raster.covered & visible[:, corners].all(-1) & inside
    grid = 2 * place / limit - 1
    values = F.grid_sample(maps.double(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    values = torch.where(covered.unsqueeze(1), values, 0.0)
    return values.to(maps.dtype), covered.unsqueeze(1)
