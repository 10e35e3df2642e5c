"""From photographs to faces, as MediaPipe's face mesh finds them: detect, crop along the eyes, 468 vertices, back.

The steps and constants are those of MediaPipe's graphs for static images (``face_detection_short_range`` and
``face_landmark``, Apache License 2.0). Crops are taken by OpenCV, because its fixed-point interpolation is part of what
the networks were run with: bilinear interpolation in floating point moves vertices by up to 15 % of the eyes' distance.
Turned photographs, borders and tiles are ours: MediaPipe looks at an upright photograph as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.adapters.face_networks import DETECTOR_SIZE, MESH_SIZE, batch_of, face_networks
from captum_canonical.adapters.face_views import IMPLAUSIBLE, SURE, FoundFace, ImageTile, Square, View, tiles
from captum_canonical.faces.canonical_face import CanonicalFace

OVERLAP = 0.3  # boxes that share more than this (intersection over union) are one face
WITHIN = 0.6  # in tiles, which differ in scale, also boxes that share more than this of the smaller one
MARGIN = 1.5  # side of the crop for the mesh, in sides of the detected box
PRESENCE = 0.5  # what the mesh network must say for its crop to be a face
PRESENCE_IN_TILES = 0.95  # of a thousand tiles a few look like faces to the detector and 0.7 to 0.9 to the mesh network
BORDER = 0.25
LARGE = 512  # pixels of the longer side, beyond which a photograph may hold faces that are too small for the detector
CHUNK = 8  # crops that go through a network together on the CPU; the maps of more do not fit into its caches
TILES_AT_ONCE = 64
AT_ONCE = 16_000_000  # pixels of photographs that are looked at together

Detected = tuple[float, Square]
"""The score of a face, and the square around it that the mesh network should see."""


@dataclass(frozen=True)
class FaceSearch:
    """Looks for faces in photographs.

    As long as nothing speaks for an upright photograph (:attr:`FoundFace.upright`), it is looked at in more ways: as it
    is; turned by 90, 180 and 270 degrees; with a border around it, which a face that fills the photograph needs; and,
    if it is large, in tiles, for faces that are small in it. The direction with the surest face counts. What is not one
    mesh both ways in that direction is no face.

    Attributes:
        device: where the networks run.
        min_score: 0..1, the score from which on a detection counts.
        max_faces: of each photograph at most so many.
        turned: whether photographs that are not upright, and borders, are tried at all.
        small: whether small faces in large photographs are looked for even where larger ones are found.
    """

    device: torch.device
    min_score: float = 0.5
    max_faces: int = 50
    turned: bool = True
    small: bool = False

    def faces(self, images: Sequence[np.ndarray]) -> list[list[FoundFace]]:
        """The faces in each of some (H, W, 3) uint8 RGB images of any sizes, in the detector's order (surest first)."""
        found: list[list[FoundFace]] = [[] for _ in images]
        large = [max(image.shape[:2]) > LARGE for image in images]
        for size in (False, True):
            numbers = [number for number, each in enumerate(large) if each == size]
            for part in _parts(numbers, images):
                for number, faces in zip(part, self._search([images[number] for number in part], size), strict=True):
                    found[number] = [face for face in faces if not face.disagreement > IMPLAUSIBLE]  # NaN is unknown
        return found

    def _search(self, images: Sequence[np.ndarray], large: bool) -> list[list[FoundFace]]:
        seen: list[dict[View, list[FoundFace]]] = [{} for _ in images]
        for views in self._stages(large):
            open_ones = [number for number, each in enumerate(seen) if not self._enough(each.values())]
            for view in views:
                self._look(images, open_ones, view, seen)
        if self.small and large:
            for number, each in enumerate(seen):
                self._look(images, [number], View(_surest(each).quarters, tiled=True), seen)
        return [each[_surest(each)] for each in seen]

    def _stages(self, large: bool) -> list[list[View]]:
        quarters = (1, 2, 3) if self.turned else ()
        stages = [[View(tiled=self.small and large)], [View(each) for each in quarters]]
        stages += [[View(each, BORDER) for each in range(4)]] if self.turned else []
        return stages + ([[View(tiled=True)], [View(each, tiled=True) for each in quarters]] if large else [])

    def _enough(self, views: Iterable[Sequence[FoundFace]]) -> bool:
        return any(face.upright or not self.turned for faces in views for face in faces)

    def _look(
        self,
        images: Sequence[np.ndarray],
        numbers: Sequence[int],
        view: View,
        seen: Sequence[dict[View, list[FoundFace]]],
    ) -> None:
        """Adds what some images show in a view to what is seen in them."""
        numbers = [number for number in numbers if view not in seen[number]]
        shown = [view.of(images[number]) for number in numbers]
        detected = [self._in_tiles(image) for image in shown] if view.tiled else self._in_whole(shown)
        for number, faces in zip(numbers, self._with_meshes(shown, detected, view.tiled), strict=True):
            seen[number][view] = [view.back(face, images[number]) for face in faces]

    # ------------------------------------------------------------------------------------------------- the networks
    def _in_whole(self, images: Sequence[np.ndarray]) -> list[list[Detected]]:
        frames = [Square(image.shape[1] / 2, image.shape[0] / 2, max(image.shape[:2])) for image in images]
        cut = [
            frame.cut(image, DETECTOR_SIZE, cv2.BORDER_CONSTANT) for frame, image in zip(frames, images, strict=True)
        ]
        return [
            [_in_image(face, frame) for face in each] for frame, each in zip(frames, self._detect(cut), strict=True)
        ]

    def _in_tiles(self, image: np.ndarray) -> list[Detected]:
        """Faces in the image as a whole, if they are sure, and in its tiles, each once, surest first."""
        whole, found, parts = self._in_whole([image])[0], [], tiles(image, DETECTOR_SIZE)
        while some := list(islice(parts, TILES_AT_ONCE)):
            for tile, faces in zip(some, self._detect([tile.pixels for tile in some]), strict=True):
                found += [_in_image(face, tile.square) for face in faces if not _cut_off(face[1], tile)]
        sure = [face for face in whole if face[0] >= SURE]  # the same mesh as where tiles are not looked at
        ordered = sure + sorted(whole + found, key=lambda face: -face[0])
        kept = distinct(ordered, [replace(square, side=square.side / MARGIN).box for _, square in ordered])
        return sorted(kept, key=lambda face: -face[0])

    @torch.inference_mode()
    def _detect(self, crops: Sequence[np.ndarray]) -> list[list[tuple[float, Tensor]]]:
        """For each crop the score of each face, surest first, and its (8, 2) points in shares of the crop."""
        network, found = face_networks(self.device)[0], []
        for part in _chunks(crops, self.device):
            boxes, logits = network(batch_of(part, self.device) / 127.5 - 1)
            scores, places = logits.clamp(-100, 100).sigmoid().cpu(), decode(boxes.cpu())
            likely = scores >= self.min_score
            found += [merge_overlapping(*each) for each in zip(scores, places, likely, strict=True)]
        return found

    def _with_meshes(
        self, images: Sequence[np.ndarray], detected: Sequence[Sequence[Detected]], tiled: bool
    ) -> list[list[FoundFace]]:
        squares = [(number, *each) for number, faces in enumerate(detected) for each in faces[: self.max_faces]]
        crops = [square.cut(images[number], MESH_SIZE, cv2.BORDER_REPLICATE) for number, _, square in squares]
        vertices, presence = _meshes(crops, self.device)
        both_ways = self.turned or tiled
        mirrored = _meshes([crop[:, ::-1] for crop in crops], self.device)[0] if both_ways else vertices * math.nan
        found: list[list[FoundFace]] = [[] for _ in images]
        for (number, score, square), points, other, sure in zip(squares, vertices, mirrored, presence, strict=True):
            if sure > (PRESENCE_IN_TILES if tiled else PRESENCE):
                there = square.out_of_crop(points, MESH_SIZE)
                face = FoundFace(there, score, float(sure), disagreement(points, other), square.angle)
                found[number].append(face)
        return [distinct(faces, [face.box for face in faces]) for faces in found] if tiled else found


def _parts(numbers: Sequence[int], images: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Numbers of images that hold few pixels together, at least one at a time."""
    part: list[int] = []
    for number in numbers:
        part.append(number)
        if sum(images[each].shape[0] * images[each].shape[1] for each in part) > AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _surest(seen: Mapping[View, list[FoundFace]]) -> View:
    """The view in which the surest face stands upright: in tiles, or without a border, if it shows any face so.

    That may be another view than the one in which the face is surest: profiles are found lying on their side as well.
    """
    surest = {view: max(faces, key=lambda face: face.score * face.presence) for view, faces in seen.items() if faces}
    if not surest:
        return next(iter(seen))
    best = max(surest, key=lambda view: surest[view].score * surest[view].presence)
    upright = round(best.quarters - surest[best].tilt / (math.pi / 2)) % 4
    views = [[View(quarters, tiled=True), View(quarters)] for quarters in (best.quarters, upright)]
    shown = [next(view for view in each if view in surest) for each in views if any(view in surest for view in each)]
    return min(shown, key=lambda view: abs(surest[view].tilt), default=best)


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
def _meshes(crops: Sequence[np.ndarray], device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """(N, 468, 3) vertices in the crops' pixels, z away from the camera, and (N,) how sure it is of each face."""
    network, vertices, presence = face_networks(device)[1], [np.zeros((0, 468, 3))], [np.zeros(0)]
    for part in _chunks(crops, device):
        places, logits = network(batch_of(part, device) / 255)
        vertices.append(places.double().cpu().numpy())
        presence.append(logits.sigmoid().double().cpu().numpy())
    return np.concatenate(vertices), np.concatenate(presence)


def _chunks(crops: Sequence[np.ndarray], device: torch.device) -> Iterator[Sequence[np.ndarray]]:
    count = CHUNK if device.type == "cpu" else TILES_AT_ONCE
    return (crops[start : start + count] for start in range(0, len(crops), count))


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


def merge_overlapping(scores: Tensor, places: Tensor, likely: Tensor | None = None) -> list[tuple[float, Tensor]]:
    """Detections of one face as one: the mean of those that overlap the surest, weighted by their scores.

    Args:
        scores: (K,) in 0..1.
        places: (K, 8, 2), see :func:`decode`.
        likely: (K,) bool, those that count. Default: all.

    Returns:
        For each face, surest first, the largest score and (8, 2) points.
    """
    if likely is not None:
        scores, places = scores[likely], places[likely]
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


def _in_image(face: tuple[float, Tensor], frame: Square) -> Detected:
    """The box of a face in a part of an image, made square, larger by a margin, and turned until the eyes are level."""
    score, points = face
    corner = torch.tensor([frame.x, frame.y]) - frame.side / 2
    (left, top), (right, bottom), (x0, y0), (x1, y1) = (points * frame.side + corner)[:4].tolist()
    side = MARGIN * max(right - left, bottom - top)
    return score, Square((left + right) / 2, (top + bottom) / 2, side, math.atan2(y1 - y0, x1 - x0))


def _cut_off(points: Tensor, tile: ImageTile) -> bool:
    """Whether a face reaches beyond a side at which the image goes on: another tile holds all of it."""
    low, high = points[:2].tolist()
    beyond = (low[0] < 0, low[1] < 0, high[0] > 1, high[1] > 1)
    return any(reaches and goes_on for reaches, goes_on in zip(beyond, tile.open_sides, strict=True))


def distinct(faces: Sequence[Any], boxes: Sequence[tuple[float, float, float, float]]) -> list[Any]:
    """Those of some faces, the surest first, that do not lie on one before them.

    Args:
        faces: anything.
        boxes: left, top, right, bottom of each.

    Example::

        >>> distinct(["large", "the same", "beside it"], [(0, 0, 10, 10), (4, 4, 9, 9), (8, 0, 18, 10)])
        ['large', 'beside it']
    """
    kept: list[int] = []
    places = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (places[:, 2:] - places[:, :2]).prod(1)
    for number, place in enumerate(places):
        low, high = np.maximum(place[:2], places[kept, :2]), np.minimum(place[2:], places[kept, 2:])
        shared = (high - low).clip(min=0).prod(1)
        union, smaller = areas[number] + areas[kept] - shared, np.minimum(areas[number], areas[kept])
        if not np.any((shared > OVERLAP * union) | (shared > WITHIN * smaller)):
            kept.append(number)
    return [faces[number] for number in kept]
