"""Photographs drawn one by one from a few faces: other poses, shapes, light, backdrops; with marks at known places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faces.photos import list_photos, read_photo
from captum_canonical.faces.warp import rasterize, visible_vertices, warp

SIZE = 64  # pixels of a photograph
PATCH = 5  # pixels of what occlusion hides: 15 at 224, made odd
TURN = (20.0, 12.0, 15.0)  # largest yaw, pitch and roll that are added, degrees
SCALE, SHIFT = (0.8, 1.15), 0.08  # of the face in its photograph; shares of the photograph's side
FACE = 0.27  # root mean square distance of a face's vertices from their centre, as a share of the photograph's side
SHAPE = 0.06  # standard deviation of width, height and depth between faces
RIM = {"A": 0.85, "B": 0.15}  # brightness of the backdrop's rim: what tells the groups apart
RIM_FROM = 0.86  # of the way from the middle to the border
NOISE = 0.02

LEAST_RADIUS = 9.0  # a region can be planted if a disc of this radius fits in it: half a patch, at 224
MARK = 8.0  # radius of a mark on the canonical face of 224
# What marks add to red, green and blue. Both change brightness and colour by as much, and by as much everywhere.
BLUE, RED = (-0.30, -0.24, 0.12), (0.12, -0.24, -0.30)
PLACES = 16  # of the soft spots that cover the face, for networks that look a little everywhere
SPOT = 0.09  # their standard deviation, as a share of the face's side


# ----------------------------------------------------------------------------------------------------------- sources
@dataclass(frozen=True)
class Source:
    """A face that photographs are made from.

    Attributes:
        image: (3, h, w) in 0..1.
        vertices: (468, 3) of its mesh, in its pixels.
        backdrop: whether what surrounds the face is replaced.
    """

    image: Tensor
    vertices: Tensor
    backdrop: bool = False


def drawn_face() -> Source:
    """The face that the package ships."""
    face = cc.CanonicalFace.default()
    return Source(face.image, face.vertices, backdrop=True)


def photographed(photos: Sequence[np.ndarray]) -> list[Source]:
    """The faces that are found in photographs (H, W, 3) uint8."""
    from captum_canonical.adapters.face_mesh import FaceMeshAligner

    aligner = FaceMeshAligner(on_missing="skip")
    found = []
    for photo in photos:
        mesh = aligner([photo])
        if not mesh.missing:
            found.append(Source(torch.from_numpy(photo).permute(2, 0, 1) / 255, mesh.vertices[0].double()))
    return found


def sources(folder: Path | None = None) -> list[Source]:
    """The drawn face and scikit-image's astronaut (NASA, public domain), or all faces of a folder of photographs."""
    if folder is not None:
        return photographed([read_photo(path) for path in list_photos(folder)])
    from skimage import data

    return [drawn_face(), *photographed([data.astronaut()])]


# -------------------------------------------------------------------------------------------------------- photographs
class Mark(NamedTuple):
    """A mark in N photographs: index of a region in :func:`plantable`, how strong in each (N,) 0..1, and its colour."""

    place: int
    strength: Tensor
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Photographs:
    """Photographs without marks, and where marks would go.

    Attributes:
        images: (N, 3, SIZE, SIZE) in 0..1.
        light: (N, 3, SIZE, SIZE) what shines on each pixel; marks are lit by it, too.
        mesh: of each.
        groups: "A" or "B" for each.
        marks: (N, R, SIZE, SIZE) how much of each pixel a mark in each region of :func:`plantable` would cover.
        spots: (N, PLACES, SIZE, SIZE) soft spots all over the face.
    """

    images: Tensor
    light: Tensor
    mesh: cc.FaceMesh
    groups: tuple[str, ...]
    marks: Tensor
    spots: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, rows: Tensor) -> Photographs:
        """Some of them."""
        groups = tuple(self.groups[row] for row in rows.tolist())
        parts = (self.images[rows], self.light[rows], self.mesh[rows], groups, self.marks[rows], self.spots[rows])
        return Photographs(*parts)

    @property
    def in_a(self) -> Tensor:
        """(N,) bool, those of group A."""
        return torch.tensor([group == "A" for group in self.groups])

    def marked(self, *marks: Mark) -> Tensor:
        """(N, 3, SIZE, SIZE) with marks."""
        images = self.images
        for place, strength, colour in marks:
            cover = strength.view(-1, 1, 1, 1) * self.marks[:, place, None]
            images = images + cover * self.light * torch.tensor(colour).view(3, 1, 1)
        return images.clamp(0, 1)


def draw_photographs(faces: Sequence[Source], groups: Sequence[str], generator: torch.Generator) -> Photographs:
    """A photograph for each of the groups, of a random source and of its own pose, shape, light and backdrop."""
    canonical = cc.CanonicalFace.default()
    drawn = [_photograph(faces, group, canonical, generator) for group in groups]
    vertices = torch.stack([place for _, _, place in drawn])
    visible = visible_vertices(vertices, canonical.triangles)
    mesh = cc.FaceMesh(vertices, visible, (SIZE, SIZE), canonical.topology)
    masks = F.avg_pool2d(torch.stack([*mark_masks().values(), *soft_spots()])[None], 2)
    coarse = cc.CanonicalFace.default(canonical.size[0] // 2)
    carried = cc.CanonicalProjector(None, canonical_face=coarse).reproject(masks, mesh)
    images, light = (torch.stack(part) for part in list(zip(*drawn, strict=True))[:2])
    marks, spots = carried[:, :-PLACES], carried[:, -PLACES:]
    return Photographs(images, light, mesh, tuple(groups), marks, spots)


def _photograph(
    faces: Sequence[Source], group: str, canonical: cc.CanonicalFace, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """An image and its light (3, SIZE, SIZE), and the vertices (468, 3) in it."""
    source = faces[int(torch.randint(len(faces), (1,), generator=generator))]
    vertices = _posed(source.vertices, generator)
    raster = rasterize(vertices, canonical.triangles, (SIZE, SIZE))
    texture, scale = _shrunk(source)
    seen = torch.ones(1, len(vertices), dtype=torch.bool)
    face, covered = warp(texture[None], raster, canonical.triangles, source.vertices[None] * scale, seen)
    around = (
        0.35 + 0.3 * _smooth(3, generator) if source.backdrop else _around(texture, source.vertices * scale, vertices)
    )
    image = torch.where(covered[0], face[0], around)
    rim = _rim() * (0.9 + 0.1 * _smooth(1, generator))
    light = _light(generator)
    image = image * light * (1 - rim) + RIM[group] * rim
    image = image + NOISE * torch.randn(image.shape, generator=generator)
    return image.clamp(0, 1), light, vertices


def _uniform(low: float, high: float, generator: torch.Generator, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _posed(vertices: Tensor, generator: torch.Generator) -> Tensor:
    """The vertices in another shape and pose, in pixels of a photograph."""
    centred = vertices - vertices.mean(0)
    centred = centred * FACE * SIZE / centred.square().sum(1).mean().sqrt()
    centred = centred * (1 + SHAPE * torch.randn(3, generator=generator, dtype=torch.float64))
    yaw, pitch, roll = (math.radians(float(_uniform(-most, most, generator))) for most in TURN)
    turn = _rotation(roll, 0, 1) @ _rotation(pitch, 1, 2) @ _rotation(yaw, 0, 2)
    shift = torch.cat([_uniform(-SHIFT, SHIFT, generator, 2) * SIZE, torch.zeros(1, dtype=torch.float64)])
    middle = torch.tensor([SIZE / 2, SIZE / 2, 0.0], dtype=torch.float64)
    return centred @ turn.T * float(_uniform(*SCALE, generator)) + middle + shift


def _rotation(angle: float, first: int, second: int) -> Tensor:
    """(3, 3) in the plane of two axes."""
    turn = torch.eye(3, dtype=torch.float64)
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
    return turn


def _shrunk(source: Source) -> tuple[Tensor, float]:
    """The source at about twice the resolution of a photograph, so that fine detail does not alias, and the factor."""
    size = (source.vertices - source.vertices.mean(0)).square().sum(1).mean().sqrt()
    scale = min(1.0, float(1.5 * FACE * SIZE / size))
    height, width = (max(1, round(side * scale)) for side in source.image.shape[1:])
    small = cv2.resize(source.image.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1), scale


def _around(texture: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """What surrounds the face, moved with it: the similarity that fits the vertices best, as one complex factor."""
    start, end = (torch.complex(place[:, 0], place[:, 1]) for place in (before, after))
    from_middle, to_middle = start - start.mean(), end - end.mean()
    factor = (from_middle.conj() * to_middle).sum() / from_middle.abs().square().sum()
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    place = (torch.complex(x.double(), y.double()) - end.mean()) / factor + start.mean()
    height, width = texture.shape[1:]
    grid = torch.stack([2 * place.real / width - 1, 2 * place.imag / height - 1], -1).float()
    return F.grid_sample(texture[None], grid[None], padding_mode="border", align_corners=False)[0]


def _smooth(channels: int, generator: torch.Generator) -> Tensor:
    """(channels, SIZE, SIZE) smooth random values in 0..1."""
    coarse = torch.rand(1, channels, 4, 4, generator=generator)
    return F.interpolate(coarse, (SIZE, SIZE), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def _rim() -> Tensor:
    """(SIZE, SIZE) 1 at the border of a photograph, 0 within."""
    side = 2 * ((torch.arange(SIZE) + 0.5) / SIZE - 0.5).abs()
    away = torch.maximum(side[:, None], side[None, :])
    return ((away - RIM_FROM) / (0.96 - RIM_FROM)).clamp(0, 1)


def _light(generator: torch.Generator) -> Tensor:
    """(3, SIZE, SIZE) light of some strength and colour that comes from one side."""
    x, y = _uniform(-0.25, 0.25, generator, 2).tolist()
    side = torch.linspace(-1, 1, SIZE)
    strength = float(_uniform(0.75, 1.05, generator)) * (1 + x * side[None, :] + y * side[:, None])
    return strength * _uniform(0.95, 1.05, generator, 3, 1, 1).float()


# ------------------------------------------------------------------------------------------------------------- places
@lru_cache(maxsize=1)
def plantable() -> tuple[str, ...]:
    """The regions that are large enough for a mark, in a fixed order: a disc of half a patch fits into each."""
    face = cc.CanonicalFace.default()
    return tuple(name for name in sorted(face.regions) if _depth(face, name).max() >= LEAST_RADIUS)


def _depth(face: cc.CanonicalFace, region: str) -> np.ndarray:
    """(H, W) distance of each pixel of a region to its border, 0 elsewhere."""
    mask = np.pad(face.region_mask(region).numpy().astype(np.uint8), 1)
    return cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1]


@lru_cache(maxsize=1)
def mark_masks() -> dict[str, Tensor]:
    """Region -> (H_F, W_F) a soft disc around its innermost place, on the default canonical face."""
    face = cc.CanonicalFace.default()
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in face.size), indexing="ij")
    masks = {}
    for name in plantable():
        depth = torch.from_numpy(_depth(face, name))
        inner = torch.nonzero(depth >= depth.max() - 0.5).float().mean(0)  # the middle of the innermost pixels
        place = torch.nonzero(depth > 0).float()
        row, column = place[(place - inner).square().sum(1).argmin()].tolist()
        distance = ((x - column - 0.5).square() + (y - row - 0.5).square()).sqrt()
        masks[name] = (MARK + 0.5 - distance).clamp(0, 1) * face.raster.covered
    return masks


@lru_cache(maxsize=1)
def soft_spots() -> list[Tensor]:
    """PLACES masks (H_F, W_F) that cover the face evenly."""
    face = cc.CanonicalFace.default()
    places = face.points(face.vertices)[face.point_order[:PLACES], :2]
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in face.size), indexing="ij")
    width = SPOT * face.size[1]
    return [
        (-((x - place[0]).square() + (y - place[1]).square()) / (2 * width**2)).exp().float() * face.raster.covered
        for place in places.float()
    ]
