"""From photographs to faces, as MediaPipe's face mesh finds them: detect, crop along the eyes, 468 vertices, back.

The steps and constants are those of MediaPipe's graphs for static images (``face_detection_short_range`` and
``face_landmark``, Apache License 2.0). Crops are taken by OpenCV, because its fixed-point interpolation is part of what
the networks were run with: bilinear interpolation in floating point moves vertices by up to 15 % of the eyes' distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.face_networks import DETECTOR_SIZE, MESH_SIZE, face_networks
from captum_canonical.faces.canonical_face import CanonicalFace

OVERLAP = 0.3  # boxes that share more than this (intersection over union) are one face
MARGIN = 1.5  # side of the crop for the mesh, in sides of the detected box
PRESENCE = 0.5  # what the mesh network must say for its crop to be a face
SURE = 0.85  # score that upside-down faces do not reach
DOUBTFUL, IMPLAUSIBLE = 0.035, 0.08  # disagreement beyond which other views are tried, and beyond which it is no face
BORDER = 0.25
FOREHEAD, CHIN = 10, 152  # vertices
SEEN, SURER = 0.7, 0.09  # score of a face that is seen at all, and what a quarter turn must add to be the right one


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

    def out_of_crop(self, vertices: np.ndarray, size: int) -> np.ndarray:
        """(..., 3) vertices in pixels of the crop, z away from the camera, in the image's pixels and z towards it."""
        x, y = ((vertices[..., axis] / size - 0.5) * self.side for axis in (0, 1))
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        moved = (cos * x - sin * y + self.x, sin * x + cos * y + self.y, -vertices[..., 2] / size * self.side)
        return np.stack(moved, axis=-1)


@dataclass(frozen=True)
class FoundFace:
    """A face in an image.

    Attributes:
        vertices: (468, 3) float64, in pixels of the image, z towards the camera.
        score: 0..1, how sure the detector is.
        presence: 0..1, how sure the mesh network is that its crop shows a face.
        disagreement: mean distance between the vertices and those found in the mirrored crop, as a share of the longer
            side of the box around them. Upright faces have about 0.01; a mesh laid on an upside-down face has 0.04.
        tilt: angle of the line through the eyes in radians, clockwise as seen.
        turn: the degrees (0, 90, 180, 270), clockwise, by which the photograph was turned to find this face.
    """

    vertices: np.ndarray
    score: float
    presence: float
    disagreement: float
    tilt: float
    turn: int = 0

    @property
    def upright(self) -> bool:
        """Whether all speaks for an upright photograph: a sure detection, level eyes, the same mesh both ways."""
        return self.score >= SURE and self.disagreement <= DOUBTFUL and abs(self.tilt) < math.pi / 4


@dataclass(frozen=True)
class View:
    """How a photograph is looked at: turned clockwise by quarter turns, with a border as a share of its sides."""

    quarters: int = 0
    border: float = 0.0

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


STAGES = ([View(1), View(2), View(3)], [View(quarters, BORDER) for quarters in range(4)])


def find_faces(
    images: Sequence[np.ndarray],
    device: torch.device,
    min_score: float = 0.5,
    max_faces: int = 10,
    turned: bool = True,
) -> list[list[FoundFace]]:
    """The faces in each of some photographs, in the detector's order (surest first).

    Args:
        images: (H, W, 3) uint8 RGB arrays, of any sizes.
        device: where the networks run.
        min_score: 0..1, the score from which on a detection counts.
        max_faces: of each photograph at most so many.
        turned: whether photographs that show no upright face as they are are also searched turned by 90, 180 and 270
            degrees, and at last with a border around them, which a face that fills the photograph needs. The view with
            the surest face counts. What is not one mesh both ways in that view is no face.
    """
    found = _find_in(images, device, min_score, max_faces)
    if not turned:
        return found
    searched = {number: {View(): faces} for number, faces in enumerate(found)}
    for views in STAGES:
        searched = {number: seen for number, seen in searched.items() if not _upright(seen.values())}
        for view in views if searched else ():
            faces = _find_in([view.of(images[number]) for number in searched], device, min_score, max_faces)
            for (number, seen), each in zip(searched.items(), faces, strict=True):
                seen[view] = [view.back(face, images[number]) for face in each]
                found[number] = _faces_of_surest(seen)
    return [[face for face in faces if face.disagreement <= IMPLAUSIBLE] for faces in found]


def _upright(views: Iterable[Sequence[FoundFace]]) -> bool:
    return any(face.upright for faces in views for face in faces)


def _faces_of_surest(seen: Mapping[View, list[FoundFace]]) -> list[FoundFace]:
    """Those of the surest direction, in the view without a border if it shows any."""
    surest = max(seen, key=lambda view: max((face.score * face.presence for face in seen[view]), default=0))
    return seen[View(surest.quarters)] or seen[surest]


def _find_in(
    images: Sequence[np.ndarray], device: torch.device, min_score: float, max_faces: int
) -> list[list[FoundFace]]:
    detected = _detect(images, device, min_score)
    squares = [(number, score, square) for number, each in enumerate(detected) for score, square in each[:max_faces]]
    found: list[list[FoundFace]] = [[] for _ in images]
    if not squares:
        return found
    crops = [square.cut(images[number], MESH_SIZE, cv2.BORDER_REPLICATE) for number, _, square in squares]
    vertices, presence = _meshes(crops, device)
    mirrored, _ = _meshes([crop[:, ::-1] for crop in crops], device)
    for (number, score, square), points, reflection, sure in zip(squares, vertices, mirrored, presence, strict=True):
        if sure > PRESENCE:
            there = square.out_of_crop(points, MESH_SIZE)
            found[number].append(FoundFace(there, score, float(sure), disagreement(points, reflection), square.angle))
    return found


def disagreement(vertices: np.ndarray, mirrored: np.ndarray) -> float:
    """How far the vertices of a crop are from those of its mirror image, as a share of the face's longer side."""
    back = mirrored[_swap()] * (-1, 1, 1) + (MESH_SIZE - 1, 0, 0)  # pixel k becomes pixel MESH_SIZE - 1 - k
    distance = np.linalg.norm((vertices - back)[:, :2], axis=1).mean()
    return float(distance / np.ptp(vertices[:, :2], axis=0).max())


@lru_cache(maxsize=1)
def _swap() -> np.ndarray:
    permutation = CanonicalFace.default().permutation
    assert permutation is not None
    return permutation.numpy()


@torch.inference_mode()
def wrong_way_up(image: np.ndarray, vertices: Sequence[np.ndarray], device: torch.device) -> list[bool]:
    """Whether each mesh lies on its face with chin and forehead exchanged, or on its side, as the detector sees it.

    The square around a mesh is turned as the mesh says that the face is upright, and by quarter turns; the detector,
    which is made for upright faces, is surest where it is. Of 93 meshes that MediaPipe laid the wrong way on turned
    photographs all were noticed, and none of 142 on upright ones.

    Args:
        image: (H, W, 3) uint8 RGB.
        vertices: (468, 3) in pixels of it, of each mesh.
        device: where the detector runs.
    """
    if not len(vertices):
        return []
    crops = []
    for points in vertices:
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        x, y = (low + high) / 2
        across, down = points[CHIN, :2] - points[FOREHEAD, :2]
        square = Square(x, y, 2 * max(high - low), math.atan2(-across, down))
        turned = [replace(square, angle=square.angle + quarters * math.pi / 2) for quarters in range(4)]
        crops += [each.cut(image, DETECTOR_SIZE, cv2.BORDER_CONSTANT) for each in turned]
    _, logits = face_networks(device)[0](_batch(crops, device) / 127.5 - 1)
    scores = logits.clamp(-100, 100).sigmoid().amax(1).reshape(-1, 4).cpu()
    as_it_lies, right, half, left = scores.unbind(1)
    best = torch.maximum(half, torch.maximum(right, left) - SURER)
    return ((best > as_it_lies) & (scores.amax(1) > SEEN)).tolist()


@torch.inference_mode()
def _detect(images: Sequence[np.ndarray], device: torch.device, min_score: float) -> list[list[tuple[float, Square]]]:
    """For each image the score of each face and the square around it that the mesh network should see."""
    frames = [Square(image.shape[1] / 2, image.shape[0] / 2, max(image.shape[:2])) for image in images]
    crops = [frame.cut(image, DETECTOR_SIZE, cv2.BORDER_CONSTANT) for frame, image in zip(frames, images, strict=True)]
    boxes, logits = face_networks(device)[0](_batch(crops, device) / 127.5 - 1)
    scores = logits.clamp(-100, 100).sigmoid().cpu()
    places = decode(boxes.cpu())
    found = []
    for frame, image_scores, image_places in zip(frames, scores, places, strict=True):
        kept = image_scores >= min_score
        faces = merge_overlapping(image_scores[kept], image_places[kept])
        corner = torch.tensor([frame.x, frame.y]) - frame.side / 2
        found.append([(score, _square_of(points * frame.side + corner)) for score, points in faces])
    return found


@torch.inference_mode()
def _meshes(crops: Sequence[np.ndarray], device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    vertices, presence = face_networks(device)[1](_batch(crops, device) / 255)
    return vertices.double().cpu().numpy(), presence.sigmoid().cpu().numpy()


def _batch(crops: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """(N, 3, H, W) floats in 0..255; arrays of pixels are channels last already, and stay so."""
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2).float()


@lru_cache(maxsize=1)
def anchors() -> Tensor:
    """(896, 2) centres x, y in 0..1: two at each place of a 16 x 16 grid, six at each of an 8 x 8 grid."""
    grids = []
    for cells, copies in ((16, 2), (8, 6)):
        y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        grids.append(((torch.stack([x, y], -1) + 0.5) / cells).reshape(-1, 2).repeat_interleave(copies, 0))
    return torch.cat(grids)


def decode(boxes: Tensor) -> Tensor:
    """(N, 896, 16) raw boxes to (N, 896, 8, 2) points in shares of the image.

    The points are two opposite corners of the box, then right eye, left eye, nose, mouth, right ear, left ear.
    """
    pairs = boxes.reshape(*boxes.shape[:2], 8, 2) / DETECTOR_SIZE
    around = anchors()[:, None]
    centre, size, points = pairs[:, :, :1] + around, pairs[:, :, 1:2], pairs[:, :, 2:] + around
    return torch.cat([centre - size / 2, centre + size / 2, points], 2)


def merge_overlapping(scores: Tensor, places: Tensor) -> list[tuple[float, Tensor]]:
    """Detections of one face as one: the mean of those that overlap the surest, weighted by their scores.

    Args:
        scores: (K,) in 0..1.
        places: (K, 8, 2), see :func:`decode`.

    Returns:
        For each face, surest first, the largest score and (8, 2) points.
    """
    order = scores.argsort(descending=True, stable=True)
    faces = []
    while len(order):
        same = _overlap(places[order[0]], places[order]) > OVERLAP
        same[0] = True  # a box without area overlaps with nothing, itself included
        weights = scores[order[same]]
        mean = (places[order[same]] * weights[:, None, None]).sum(0) / weights.sum()
        faces.append((float(scores[order[0]]), mean))
        order = order[~same]
    return faces


def _overlap(one: Tensor, many: Tensor) -> Tensor:
    """Intersection over union of the boxes of (8, 2) and (K, 8, 2) points."""
    low, high = torch.maximum(one[0], many[:, 0]), torch.minimum(one[1], many[:, 1])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (one[1] - one[0]).prod(-1) + (many[:, 1] - many[:, 0]).prod(-1)
    return shared / (area - shared)


def _square_of(points: Tensor) -> Square:
    """The box, made square, larger by a margin, and turned so that the eyes are level."""
    (left, top), (right, bottom), (x0, y0), (x1, y1) = points[:4].tolist()
    side = MARGIN * max(right - left, bottom - top)
    return Square((left + right) / 2, (top + bottom) / 2, side, math.atan2(y1 - y0, x1 - x0))
