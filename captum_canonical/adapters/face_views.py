"""How a photograph is looked at for faces: squares cut out of it, turned, with a border, whole or in tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np

TILE_STEP = 0.625  # of a tile's side: faces of up to 3/8 of it, half of which the next level shows, lie within a tile
SURE = 0.85  # score that upside-down faces do not reach
DOUBTFUL, IMPLAUSIBLE = 0.035, 0.08  # disagreement beyond which other views are tried, and beyond which it is no face
FINEST = 2  # pixels of the photograph in one of the finest tiles, which show faces of 40 pixels with 20


@dataclass(frozen=True)
class Square:
    """A square of an image, turned by ``angle`` (radians, clockwise as seen), in pixels."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def cut(self, image: np.ndarray, size: int, border: int) -> np.ndarray:
        """(size, size, 3) uint8; pixel k of the crop lies at k / size of the square's side."""
        corners = cv2.boxPoints(((self.x, self.y), (self.side, self.side), math.degrees(self.angle)))
        target = np.array([[0, size], [0, 0], [size, 0], [size, size]], np.float32)
        transform = cv2.getPerspectiveTransform(corners, target)
        return cv2.warpPerspective(image, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom, as if it were not turned."""
        half = self.side / 2
        return self.x - half, self.y - half, self.x + half, self.y + half

    def out_of_crop(self, vertices: np.ndarray, size: int) -> np.ndarray:
        """(..., 3) vertices in pixels of the crop, z away from the camera, in the image's pixels and z towards it."""
        x, y = ((vertices[..., axis] / size - 0.5) * self.side for axis in (0, 1))
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        moved = (cos * x - sin * y + self.x, sin * x + cos * y + self.y, -vertices[..., 2] / size * self.side)
        return np.stack(moved, axis=-1)


def may_be_upright(score: float, tilt: float) -> bool:
    """Whether detection and eyes speak for an upright face; see :class:`FoundFace`."""
    return score >= SURE and abs(tilt) < math.pi / 4


@dataclass(frozen=True)
class FoundFace:
    """A face in an image.

    Attributes:
        vertices: (468, 3) float64, in pixels of the image, z towards the camera.
        score: 0..1, how sure the detector is.
        presence: 0..1, how sure the mesh network is that its crop shows a face.
        disagreement: mean distance between the vertices and those found in the mirrored crop, as a share of the longer
            side of the box around them; NaN where that was not looked at. Upright faces have about 0.01; a mesh laid on
            an upside-down face has 0.04.
        tilt: angle of the line through the eyes in radians, clockwise as seen.
        turn: the degrees (0, 90, 180, 270), clockwise, by which the photograph was turned to find this face.
        crop: what the mesh network saw in the view in which this face was found, and the (468, 3) vertices in pixels
            of that crop.
    """

    vertices: np.ndarray
    score: float
    presence: float
    disagreement: float
    tilt: float
    turn: int = 0
    crop: tuple[Square, np.ndarray] | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom around the vertices."""
        (left, top), (right, bottom) = self.vertices[:, :2].min(0).tolist(), self.vertices[:, :2].max(0).tolist()
        return left, top, right, bottom

    @property
    def quality(self) -> dict[str, float]:
        """What :data:`~captum_canonical.faces.quality.REPORTED` says of it."""
        known = {"detection": self.score, "presence": self.presence, "disagreement": self.disagreement}
        return {**known, "turn": float(self.turn)}

    @property
    def upright(self) -> bool:
        """Whether all speaks for an upright photograph: a sure detection, level eyes, the same mesh both ways."""
        return may_be_upright(self.score, self.tilt) and self.disagreement <= DOUBTFUL


@dataclass(frozen=True)
class View:
    """How a photograph is looked at.

    Attributes:
        quarters: by how many quarter turns it is turned clockwise.
        border: around it, as a share of its sides.
        tiled: whether also in overlapping tiles, for faces that are small in it.
    """

    quarters: int = 0
    border: float = 0.0
    tiled: bool = False

    def of(self, image: np.ndarray) -> np.ndarray:
        """The (H, W, 3) image as this view shows it."""
        turned = np.rot90(image, -self.quarters)
        high, wide = (round(self.border * side) for side in turned.shape[:2])
        if not high:
            return np.ascontiguousarray(turned)
        return cv2.copyMakeBorder(turned, high, high, wide, wide, cv2.BORDER_CONSTANT, value=(128, 128, 128))

    def back(self, face: FoundFace, image: np.ndarray) -> FoundFace:
        """A face found in the view of an image, as it lies in the image."""
        height, width = image.shape[:2]
        high, wide = (round(self.border * side) for side in ((height, width), (width, height))[self.quarters % 2])
        x, y, z = face.vertices.T
        x, y = x - wide, y - high
        x, y = {0: (x, y), 1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[self.quarters]
        return replace(face, vertices=np.stack([x, y, z], axis=1), turn=90 * self.quarters)


@dataclass(frozen=True, eq=False)
class ImageTile:
    """A part of an image, brought to the detector's size.

    Attributes:
        square: where it lies in the image.
        pixels: (size, size, 3) uint8.
        open_sides: of left, top, right and bottom those at which the image goes on, where faces may be cut off.
    """

    square: Square
    pixels: np.ndarray
    open_sides: tuple[bool, bool, bool, bool]


def tiles(image: np.ndarray, size: int) -> Iterator[ImageTile]:
    """Overlapping tiles of an image at half its size, at a quarter, and so on until one tile would hold all of it.

    Args:
        image: (H, W, 3) uint8.
        size: of a tile in pixels.
    """
    height, width = image.shape[:2]
    factor, level = FINEST, image
    while max(height, width) > factor * size:
        shape = (max(1, round(width / factor)), max(1, round(height / factor)))
        level = cv2.resize(level, shape, interpolation=cv2.INTER_AREA)  # of the level before: a quarter of the work
        across, down = width / shape[0], height / shape[1]
        for top, left in product(_starts(shape[1], size), _starts(shape[0], size)):
            part = level[top : top + size, left : left + size]
            missing = (0, size - part.shape[0], 0, size - part.shape[1])
            pixels = cv2.copyMakeBorder(part, *missing, cv2.BORDER_CONSTANT, value=(0, 0, 0)) if any(missing) else part
            square = Square((left + size / 2) * across, (top + size / 2) * down, size * (across + down) / 2)
            yield ImageTile(square, pixels, (left > 0, top > 0, left + size < shape[0], top + size < shape[1]))
        factor *= 2


def _starts(length: int, size: int) -> list[int]:
    """Where tiles begin along an axis, evenly.

    Example::

        >>> _starts(300, 128), _starts(100, 128)
        ([0, 57, 115, 172], [0])
    """
    room = max(0, length - size)
    return [round(start) for start in np.linspace(0, room, math.ceil(room / (TILE_STEP * size)) + 1)]
