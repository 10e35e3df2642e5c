"""Boxes of faces: what the detector's values say of them, and which of those that overlap are one face."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from captum_canonical.adapters.face_networks import DETECTOR_SIZE

OVERLAP = 0.3  # boxes that share more than this (intersection over union) are one face
WITHIN = 0.6  # in tiles, which differ in scale, also boxes that share more than this of the smaller one


@lru_cache(maxsize=1)
def anchors() -> np.ndarray:
    """(896, 2) centres x, y in 0..1: two at each place of a 16 x 16 grid, six at each of an 8 x 8 grid."""
    grids = []
    for cells, copies in ((16, 2), (8, 6)):
        y, x = np.indices((cells, cells))
        grids.append(((np.stack([x, y], -1) + 0.5) / cells).reshape(-1, 2).repeat(copies, 0))
    return np.concatenate(grids)


def decode(boxes: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
    """(896, 16) raw boxes, or K of them, to (K, 8, 2) points in shares of the image.

    The points are two opposite corners of the box, then right eye, left eye, nose, mouth, right ear, left ear.
    """
    pairs = boxes[chosen].reshape(-1, 8, 2) / DETECTOR_SIZE
    around = anchors()[chosen, None]
    centre, size, points = pairs[:, :1] + around, pairs[:, 1:2], pairs[:, 2:] + around
    return np.concatenate([centre - size / 2, centre + size / 2, points], 1)


def merge_overlapping(scores: np.ndarray, places: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Detections of one face as one: the mean of those that overlap the surest, weighted by their scores.

    Args:
        scores: (K,) in 0..1.
        places: (K, 8, 2), see :func:`decode`.

    Returns:
        For each face, surest first, the largest score and (8, 2) points.
    """
    order = np.argsort(-scores, kind="stable")
    faces = []
    while len(order):
        same = _overlap(places[order[0]], places[order]) > OVERLAP
        same[0] = True  # a box without area overlaps with nothing, itself included
        weights = scores[order[same]]
        mean = (places[order[same]] * weights[:, None, None]).sum(0) / weights.sum()
        faces.append((float(scores[order[0]]), mean))
        order = order[~same]
    return faces


def _overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Intersection over union of the boxes of (8, 2) and (K, 8, 2) points."""
    low, high = np.maximum(one[0], many[:, 0]), np.minimum(one[1], many[:, 1])
    shared = (high - low).clip(min=0).prod(-1)
    area = (one[1] - one[0]).prod() + (many[:, 1] - many[:, 0]).prod(-1)
    return shared / np.maximum(area - shared, 1e-12)


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
