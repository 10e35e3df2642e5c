"""Slow plain loops that say what the fast code must compute, and small faces to compare them on.

Written from the equations of the paper (doi 10.1109/TBIOM.2021.3120758) and the pixel conventions of the design: pixel
(row r, column c) covers [c, c + 1) x [r, r + 1), x runs right, y down, z towards the camera; a patch of nominal side f
at v covers k = floor(f) pixels per axis, at least one, from floor(v - k / 2 + 1 / 2), cut off at the border and never
shifted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_canonical import CanonicalFace, FaceMesh

torch.set_num_threads(1)  # the tensors of the tests are small: a second thread waits more than it works

Score = Callable[[Tensor], float]
"""One image (1, C, H, W) -> its score."""


# ------------------------------------------------------------------------------------------------------------ loops
def footprint(x: float, y: float, side: float, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that a patch covers in an image of this size; empty where it lies outside."""
    k = max(1, math.floor(side))
    left, top = math.floor(x - k / 2 + 0.5), math.floor(y - k / 2 + 0.5)
    return (
        slice(max(0, top), max(0, min(top + k, size[0]))),
        slice(max(0, left), max(0, min(left + k, size[1]))),
    )


def is_empty(box: tuple[slice, slice]) -> bool:
    return any(side.stop <= side.start for side in box)


def splatted(
    drops: list[float | None], points: Tensor, side: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Eqs. 4 and 5: the mean of the drops that hit each pixel, and the number of hits. None counts nowhere."""
    total, hits = np.zeros(size), np.zeros(size)
    for drop, (x, y) in zip(drops, points.tolist(), strict=True):
        if drop is None:
            continue
        rows, columns = footprint(x, y, side, size)
        total[rows, columns] += drop
        hits[rows, columns] += 1
    return np.divide(total, hits, out=np.zeros(size), where=hits > 0), hits


def drops_of(
    score: Score, image: Tensor, points: Tensor, seen: list[bool], side: float, fill: Tensor | float
) -> list[float | None]:
    """Eq. 1 for each point; None where the point is not seen or its patch lies wholly outside the image."""
    clean, size = score(image[None]), (image.shape[1], image.shape[2])
    drops: list[float | None] = []
    for (x, y), is_seen in zip(points.tolist(), seen, strict=True):
        box = footprint(x, y, side, size)
        if not is_seen or is_empty(box):
            drops.append(None)
            continue
        occluded = image.clone()
        occluded[:, box[0], box[1]] = fill[:, box[0], box[1]].to(image.dtype) if isinstance(fill, Tensor) else fill
        drops.append(clean - score(occluded[None]))
    return drops


def canonical_map(
    score: Score,
    image: Tensor,
    mesh: FaceMesh,
    face: CanonicalFace,
    patch: float,
    side: float | None = None,
    fill: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 for one image (C, H, W) and a mesh of one row: the map (1, H_F, W_F) and its coverage."""
    points, seen = occlusion_points(face, mesh)
    drops = drops_of(score, image, points[:, :2], seen, patch, fill)
    if side is None:
        side = patch * face.image.shape[1] / image.shape[1]  # line 4
    size = (face.image.shape[1], face.image.shape[2])
    places = torch.stack([point_of(face, p, face.vertices)[:2] for p in range(len(face.point_vertices))])
    values, hits = splatted(drops, places, side, size)
    return torch.from_numpy(values)[None], torch.from_numpy(hits)[None]


def occlusion_points(face: CanonicalFace, mesh: FaceMesh) -> tuple[Tensor, list[bool]]:
    """Where the points lie in the one image of ``mesh``, and whether all the vertices that carry them are seen."""
    numbers = range(len(face.point_vertices))
    seen = []
    for p in numbers:
        carriers = [v for v, w in zip(face.point_vertices[p], face.point_weights[p], strict=True) if w != 0]
        seen.append(all(bool(mesh.visible[0, v]) for v in carriers))
    return torch.stack([point_of(face, p, mesh.vertices[0]) for p in numbers]), seen


def point_of(face: CanonicalFace, p: int, vertices: Tensor) -> Tensor:
    """(3,) point p of a face with these vertices (N, 3)."""
    carriers = zip(face.point_vertices[p].tolist(), face.point_weights[p].tolist(), strict=True)
    return sum((w * vertices[v].double() for v, w in carriers), torch.zeros(3, dtype=torch.float64))


def barycentric(x: float, y: float, corners: Sequence[Sequence[float]]) -> tuple[float, float, float] | None:
    """The weights of (x, y) in a triangle of three corners (x, y, ...), None outside it or where it has no area."""
    (ax, ay), (bx, by), (cx, cy) = (corner[:2] for corner in corners)
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if area == 0:
        return None
    b = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
    c = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
    return (1 - b - c, b, c) if min(1 - b - c, b, c) >= -1e-9 else None


def frontmost(x: float, y: float, vertices: np.ndarray, triangles: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The triangle nearest to the camera at (x, y), and the weights in it."""
    best, depth = None, -math.inf
    for number, corners in enumerate(vertices[triangles].tolist()):
        weights = barycentric(x, y, corners)
        if weights is None:
            continue
        z = sum(w * corner[2] for w, corner in zip(weights, corners, strict=True))
        if z > depth:
            best, depth = (number, np.array(weights)), z
    return best


def bilinear(image: np.ndarray, x: float, y: float) -> float:
    """The value of an image (H, W) at (x, y) between the four nearest pixel centres, the border repeated."""
    height, width = image.shape
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    u, v = x - 0.5 - left, y - 0.5 - top
    value = 0.0
    for row, vertical in ((top, 1 - v), (top + 1, v)):
        for column, horizontal in ((left, 1 - u), (left + 1, u)):
            value += vertical * horizontal * image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return value


def warped(
    image: np.ndarray,
    source: np.ndarray,
    visible: np.ndarray,
    target: np.ndarray,
    triangles: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w) read at the vertices ``source`` and written at the vertices ``target``; values and coverage."""
    values, covered = np.zeros(size), np.zeros(size, dtype=bool)
    for r in range(size[0]):
        for c in range(size[1]):
            hit = frontmost(c + 0.5, r + 0.5, target, triangles)
            if hit is None or not visible[triangles[hit[0]]].all():
                continue
            x, y = hit[1] @ source[triangles[hit[0]], :2]
            if 0 <= x <= image.shape[1] and 0 <= y <= image.shape[0]:
                values[r, c], covered[r, c] = bilinear(image, x, y), True
    return values, covered


def hidden_vertices(vertices: np.ndarray, triangles: np.ndarray, tolerance: float) -> np.ndarray:
    """(N,) bool: some triangle that the vertex is no corner of lies more than ``tolerance`` in front of it."""
    hidden = np.zeros(len(vertices), dtype=bool)
    for number, (x, y, z) in enumerate(vertices.tolist()):
        for names, corners in zip(triangles.tolist(), vertices[triangles].tolist(), strict=True):
            weights = None if number in names else barycentric(x, y, corners)
            if weights is not None:
                depth = sum(w * corner[2] for w, corner in zip(weights, corners, strict=True))
                hidden[number] |= depth > z + tolerance
    return hidden


# ------------------------------------------------------------------------------------------------------------ faces
def turned(vertices: Tensor, degrees: float) -> Tensor:
    """Vertices (N, 3) turned about the vertical axis through their centre; positive: the nose goes to smaller x."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]], dtype=torch.float64)
    centre = vertices.double().mean(0)
    return (vertices.double() - centre) @ rotation.T + centre


def rolled(vertices: Tensor, degrees: float, scale: float, centre: tuple[float, float]) -> Tensor:
    """Vertices (N, 3) rolled in the image plane, scaled, and moved so that their mean lies at ``centre``."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    moved = scale * (vertices.double() - vertices.double().mean(0)) @ rotation.T
    return moved + torch.tensor([centre[0], centre[1], 0.0], dtype=torch.float64)


def identity_face(points: Tensor, size: tuple[int, int]) -> tuple[FaceMesh, CanonicalFace]:
    """A mesh and a canonical face that put the points (P, 2) at the same places of an (H, W) picture."""
    vertices = torch.cat([points.double(), torch.zeros(len(points), 1, dtype=torch.float64)], 1)
    face = CanonicalFace.from_vertices(torch.zeros(3, *size), vertices, triangles=torch.zeros(0, 3))
    return FaceMesh(vertices[None], image_size=size), face


def anchors(size: tuple[int, int], side: int, stride: int = 1) -> Tensor:
    """(P, 2) centres of the windows of captum.attr.Occlusion: K = ceil((H - side) / stride) + 1 per axis."""
    y, x = ([i * stride + side / 2 for i in range(math.ceil((length - side) / stride) + 1)] for length in size)
    return torch.tensor([(column, row) for row in y for column in x], dtype=torch.float64)
