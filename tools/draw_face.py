"""Draws a schematic neutral face over canonical vertices: the shaded surface with brows, eyes, nostrils and lips."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from captum_canonical.faces.warp import rasterize

SKIN, BACKGROUND = np.array([226.0, 204.0, 190.0]), np.array([250.0, 250.0, 250.0])
LIP, LIP_LINE, BROW, LASH, IRIS = (190, 128, 122), (120, 70, 70), (110, 88, 76), (80, 62, 56), (104, 84, 66)
OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
MOUTH_LINE = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LINE = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
LID_FOLD = (226, 247, 30, 29, 27, 28, 56, 190)
BROW_SHAPE = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
NOSTRIL = (99, 60, 75, 79, 238)


def draw_face(vertices: np.ndarray, triangles: np.ndarray, permutation: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB; ``vertices`` (N, 3) in pixels of that image."""
    zoom = 4
    canvas = size * zoom
    points = vertices * zoom
    image = _shaded_surface(points, triangles, canvas)
    for side in (np.arange(len(points)), permutation):
        _features_of_one_side(image, points[side], canvas / 896)
    lips = _smooth(points[list(OUTER_LIP)])
    _blend_polygon(image, lips, LIP, 0.75)
    line = (points[list(MOUTH_LINE)] + points[list(LOWER_LINE)]) / 2
    _line(image, _smooth(line, closed=False), LIP_LINE, 5 * canvas / 896)
    half = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    half = (half + half[:, ::-1]) / 2  # exactly symmetric, whatever the drawing routines round
    return half.round().clip(0, 255).astype(np.uint8)


def _shaded_surface(points: np.ndarray, triangles: np.ndarray, canvas: int) -> np.ndarray:
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal *= np.sign(normal[:, 2].sum())
    vertex_normal = np.zeros_like(points)
    for corner in range(3):
        np.add.at(vertex_normal, triangles[:, corner], normal)
    vertex_normal /= np.linalg.norm(vertex_normal, axis=1, keepdims=True)
    raster = rasterize(torch.from_numpy(points), torch.from_numpy(triangles).long(), (canvas, canvas))
    weights, owner = raster.weights.numpy(), raster.triangle.numpy()
    pixel_normal = (weights[..., None] * vertex_normal[triangles[owner]]).sum(2)
    light = np.array([0.0, -0.35, 0.94])
    shade = 0.62 + 0.40 * np.clip(pixel_normal @ light, 0, 1)
    surface = cv2.GaussianBlur(SKIN * shade[..., None], (0, 0), canvas / 180)
    cover = cv2.GaussianBlur((owner >= 0).astype(np.float64), (0, 0), canvas / 700)[..., None]
    filled = np.where((owner >= 0)[..., None], SKIN * shade[..., None], 0)
    weight = cv2.GaussianBlur((owner >= 0).astype(np.float64), (0, 0), canvas / 120)[..., None]
    surface = cv2.GaussianBlur(filled, (0, 0), canvas / 120) / np.maximum(weight, 1e-3)
    return cover * surface + (1 - cover) * BACKGROUND


def _features_of_one_side(image: np.ndarray, points: np.ndarray, unit: float) -> None:
    _blend_polygon(image, _smooth(points[list(BROW_SHAPE)]), BROW, 0.85)
    eye = _smooth(points[list(EYE)])
    _blend_polygon(image, eye, (246, 244, 240), 1.0)
    opening = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(opening, [eye], 255)
    centre = points[list(EYE), :2].mean(0)
    width = np.ptp(points[list(EYE), 0])
    iris = np.zeros_like(opening)
    pupil = np.zeros_like(opening)
    place = (int(centre[0]), int(centre[1] - 0.02 * width))
    cv2.circle(iris, place, int(0.23 * width), 255, -1)
    cv2.circle(pupil, place, int(0.10 * width), 255, -1)
    image[(iris & opening) > 0] = IRIS
    image[(pupil & opening) > 0] = (38, 30, 28)
    _line(image, eye, LASH, 2 * unit, closed=True)
    _line(image, _smooth(points[list(UPPER_LID)], closed=False), LASH, 6 * unit)
    _line(image, _smooth(points[list(LID_FOLD)], closed=False), (176, 148, 136), 3 * unit)
    _blend_polygon(image, _smooth(points[list(NOSTRIL)]), (128, 92, 84), 0.8)


def _smooth(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """Integer points of a Catmull-Rom curve through the given ones."""
    points = points[:, :2]
    ring = np.concatenate([points[-1:], points, points[:2]] if closed else [points[:1], points, points[-1:]])
    t = (np.arange(steps) / steps)[:, None]
    pieces = []
    for a, b, c, d in zip(ring[:-3], ring[1:-2], ring[2:-1], ring[3:], strict=True):
        curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        pieces.append(curve / 2)
    return np.concatenate(pieces).round().astype(np.int32)


def _blend_polygon(image: np.ndarray, polygon: np.ndarray, colour: tuple[int, int, int], opacity: float) -> None:
    cover = np.zeros(image.shape[:2], np.float64)
    cv2.fillPoly(cover, [polygon], 1.0)
    cover = opacity * cv2.GaussianBlur(cover, (0, 0), image.shape[0] / 450)[..., None]
    image[:] = image * (1 - cover) + np.array(colour) * cover


def _line(
    image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], width: float, closed: bool = False
) -> None:
    cover = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(cover, [points], closed, 255, max(1, round(width)), cv2.LINE_AA)
    alpha = cover[..., None] / 255
    image[:] = image * (1 - alpha) + np.array(colour) * alpha
