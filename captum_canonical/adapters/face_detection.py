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
from typing import TypeVar

import cv2
import numpy as np
import torch

from captum_canonical.adapters.face_boxes import decode, distinct, merge_overlapping
from captum_canonical.adapters.face_networks import (
    DETECTOR_SIZE,
    MESH_SIZE,
    TILES_AT_ONCE,
    evaluate,
    face_networks,
    probability,
)
from captum_canonical.adapters.face_views import (
    IMPLAUSIBLE,
    SURE,
    FoundFace,
    ImageTile,
    Square,
    View,
    may_be_upright,
    tiles,
)
from captum_canonical.faces.canonical_face import CanonicalFace

MARGIN = 1.5  # side of the crop for the mesh, in sides of the detected box
PRESENCE = 0.5  # what the mesh network must say for its crop to be a face
PRESENCE_IN_TILES = 0.95  # of a thousand tiles a few look like faces to the detector and 0.7 to 0.9 to the mesh network
BORDER = 0.25
LARGE = 512  # pixels of the longer side, beyond which a photograph may hold faces that are too small for the detector
AT_ONCE = 16_000_000  # pixels of photographs that are looked at together

T = TypeVar("T")
Detected = tuple[float, Square]
"""The score of a face, and the square around it that the mesh network should see."""


@dataclass(frozen=True)
class FaceSearch:
    """Looks for faces in photographs.

    As long as nothing speaks for an upright photograph (:attr:`FoundFace.upright`), it is looked at in more ways: as it
    is; with a border around it, which a face that fills the photograph needs; turned by 90, 180 and 270 degrees,
    without and with a border; and, if it is large, in tiles, for faces that are small in it. The direction with the
    surest face counts. What is not one mesh both ways in that direction is no face.

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
            for part in _parts(numbers, [images[number] for number in numbers]):
                for number, faces in zip(part, self._search([images[number] for number in part], size), strict=True):
                    found[number] = [face for face in faces if not face.disagreement > IMPLAUSIBLE]  # NaN is unknown
        return found

    def _search(self, images: Sequence[np.ndarray], large: bool) -> list[list[FoundFace]]:
        seen: list[dict[View, list[FoundFace]]] = [{} for _ in images]
        for views in self._stages(large):
            open_ones = [number for number, each in enumerate(seen) if not self._enough(each.values())]
            self._look(images, [(number, view) for view in views for number in open_ones], seen)
        if self.small and large:
            tiled = [(number, View(_surest(each).quarters, tiled=True)) for number, each in enumerate(seen)]
            self._look(images, tiled, seen)
        return [self._both_ways(image, each, _surest(each)) for image, each in zip(images, seen, strict=True)]

    def _stages(self, large: bool) -> list[list[View]]:
        quarters = (1, 2, 3) if self.turned else ()
        stages = [[View(tiled=self.small and large)]]
        if self.turned:  # the border first: it is one view, and settles more photographs than the three turns
            stages += [[View(0, BORDER)], [View(each) for each in quarters], [View(each, BORDER) for each in quarters]]
        return stages + ([[View(tiled=True)], [View(each, tiled=True) for each in quarters]] if large else [])

    def _enough(self, views: Iterable[Sequence[FoundFace]]) -> bool:
        return any(face.upright or not self.turned for faces in views for face in faces)

    def _look(
        self,
        images: Sequence[np.ndarray],
        looks: Sequence[tuple[int, View]],
        seen: Sequence[dict[View, list[FoundFace]]],
    ) -> None:
        """Adds what some images, by their numbers, show in views to what is seen in them."""
        looks = [(number, view) for number, view in looks if view not in seen[number]]
        for part in _parts(looks, [images[number] for number, _ in looks]):
            shown = [view.of(images[number]) for number, view in part]
            tiled = [view.tiled for _, view in part]
            whole = iter(self._in_whole([image for image, each in zip(shown, tiled, strict=True) if not each]))
            detected = [
                self._in_tiles(image) if each else next(whole) for image, each in zip(shown, tiled, strict=True)
            ]
            for (number, view), faces in zip(part, self._with_meshes(shown, detected, tiled), strict=True):
                seen[number][view] = [view.back(face, images[number]) for face in faces]

    def _both_ways(self, image: np.ndarray, seen: Mapping[View, list[FoundFace]], view: View) -> list[FoundFace]:
        """The faces in a view, with the disagreement of those that were doubtful without it, too."""
        faces = seen[view]
        unknown = {
            number: face.crop
            for number, face in enumerate(faces)
            if face.crop is not None and math.isnan(face.disagreement) and (self.turned or view.tiled)
        }
        if not unknown:
            return faces
        shown = view.of(image)
        crops = [square.cut(shown, MESH_SIZE, cv2.BORDER_REPLICATE) for square, _ in unknown.values()]
        mirrored = _meshes([cv2.flip(crop, 1) for crop in crops], self.device)[0]
        known = {
            number: disagreement(points, other)
            for (number, (_, points)), other in zip(unknown.items(), mirrored, strict=True)
        }
        return [replace(face, disagreement=known.get(number, face.disagreement)) for number, face in enumerate(faces)]

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

    def _detect(self, crops: Sequence[np.ndarray]) -> list[list[tuple[float, np.ndarray]]]:
        """For each crop the score of each face, surest first, and its (8, 2) points in shares of the crop."""
        if not len(crops):
            return []
        boxes, logits = evaluate(face_networks(self.device)[0], crops, self.device, 127.5, -1)
        scores = probability(logits)
        return [
            merge_overlapping(each[likely], decode(raw, likely))
            for each, raw, likely in zip(scores, boxes, scores >= self.min_score, strict=True)
        ]

    def _with_meshes(
        self, images: Sequence[np.ndarray], detected: Sequence[Sequence[Detected]], tiled: Sequence[bool]
    ) -> list[list[FoundFace]]:
        squares = [(number, *each) for number, faces in enumerate(detected) for each in faces[: self.max_faces]]
        crops = [square.cut(images[number], MESH_SIZE, cv2.BORDER_REPLICATE) for number, _, square in squares]
        # Mirrored ones are looked at where they decide; of the others, those of the direction that counts, at the end.
        sure = [
            place
            for place, (_, score, square) in enumerate(squares)
            if self.turned and may_be_upright(score, square.angle)
        ]
        vertices, presence = _meshes([*crops, *(cv2.flip(crops[place], 1) for place in sure)], self.device)
        mirrored = dict(zip(sure, vertices[len(crops) :], strict=True))
        found: list[list[FoundFace]] = [[] for _ in images]
        for place, (number, score, square) in enumerate(squares):
            if presence[place] > (PRESENCE_IN_TILES if tiled[number] else PRESENCE):
                points = vertices[place]
                apart = disagreement(points, mirrored[place]) if place in mirrored else math.nan
                there = square.out_of_crop(points, MESH_SIZE)
                face = FoundFace(there, score, float(presence[place]), apart, square.angle, 0, (square, points))
                found[number].append(face)
        return [
            distinct(faces, [face.box for face in faces]) if each else faces
            for faces, each in zip(found, tiled, strict=True)
        ]


def _parts(numbers: Sequence[T], images: Sequence[np.ndarray]) -> Iterator[list[T]]:
    """What stands for images, in parts that hold few pixels together, at least one at a time."""
    part: list[T] = []
    pixels = 0
    for number, image in zip(numbers, images, strict=True):
        part.append(number)
        pixels += image.shape[0] * image.shape[1]
        if pixels > AT_ONCE:
            yield part
            part, pixels = [], 0
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


def _meshes(crops: Sequence[np.ndarray], device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """(N, 468, 3) vertices in the crops' pixels, z away from the camera, and (N,) how sure it is of each face."""
    if not len(crops):
        return np.zeros((0, 468, 3)), np.zeros(0)
    vertices, logits = evaluate(face_networks(device)[1], crops, device, 255)
    return vertices, probability(logits)


def _in_image(face: tuple[float, np.ndarray], frame: Square) -> Detected:
    """The box of a face in a part of an image, made square, larger by a margin, and turned until the eyes are level."""
    score, points = face
    corner = np.array([frame.x, frame.y]) - frame.side / 2
    (left, top), (right, bottom), (x0, y0), (x1, y1) = (points * frame.side + corner)[:4].tolist()
    side = MARGIN * max(right - left, bottom - top)
    return score, Square((left + right) / 2, (top + bottom) / 2, side, math.atan2(y1 - y0, x1 - x0))


def _cut_off(points: np.ndarray, tile: ImageTile) -> bool:
    """Whether a face reaches beyond a side at which the image goes on: another tile holds all of it."""
    low, high = points[:2].tolist()
    beyond = (low[0] < 0, low[1] < 0, high[0] > 1, high[1] > 1)
    return any(reaches and goes_on for reaches, goes_on in zip(beyond, tile.open_sides, strict=True))
