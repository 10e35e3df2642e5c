"""Sixty-eight landmarks of faces, by iBUG's numbers: which vertices they are, and a whole mesh fitted to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import AlignmentError
from captum_canonical.faces.similarity import fit_similarity

# fmt: off
LANDMARKS_68: tuple[int, ...] = (
    127, 234, 93, 132, 172, 136, 150, 176, 152, 400, 379, 365, 397, 361, 323, 454, 356,  # jaw, from the image's left
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose, down its ridge, then along its base
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips, outer contour
    78, 82, 13, 312, 308, 317, 14, 87,  # lips, inner contour
)
# fmt: on
"""The MediaPipe vertex nearest to each iBUG landmark, symmetric: mirrored landmarks have mirrored vertices."""

# fmt: off
_PRNET_2194 = (
    1071, 1317, 1542, 1751, 2044, 2045, 2063, 2064, 2098, 2074, 2100, 2059, 2060, 1771, 1552, 1315, 1106,
    544, 483, 422, 435, 436, 462, 426, 439, 489, 588,
    621, 818, 1027, 1150, 1297, 1334, 1310, 1359, 1249,
    754, 705, 681, 743, 755, 779, 770, 672, 685, 796, 820, 795,
    1636, 1512, 1489, 1524, 1501, 1536, 1660, 1735, 1777, 1808, 1745, 1734,
    1647, 1592, 1581, 1581, 1593, 1670, 1713, 1702,
)
# fmt: on

LANDMARKS_OF = {
    "mediapipe-468": LANDMARKS_68,
    "ibug-68": tuple(range(68)),
    "prnet-2194": _PRNET_2194,
    "prnet-43867": tuple(20 * vertex for vertex in _PRNET_2194),
}
"""Topology -> its vertex for each iBUG landmark. Of PRNet's vertices, every 20th, the one nearest to MediaPipe's vertex
in 60 photographs, on average 4 % of the distance between the outer eye corners from it."""
TOPOLOGY_OF = {468: "mediapipe-468", 68: "ibug-68", 2194: "prnet-2194", 43_867: "prnet-43867"}
"""Number of vertices -> topology that meshes without a name are taken for."""

FIVE_POINTS: tuple[tuple[int, ...], ...] = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))
"""Landmarks whose mean is each of five keypoints: eye on the image's left, on its right, nose tip, mouth corners."""
FIVE_POINTS_468 = ((33, 133, 159, 145), (263, 362, 386, 374), (1,), (61,), (291,))
"""The same as vertices of MediaPipe. Detectors of five points mark the tip of the nose below iBUG's: with vertex 1 in
place of 4, ArcFace's crops let an encoder tell 99.2 and not 99.0 % of LFW's pairs (``benchmarks/verification.py``)."""

OUTER_EYE_CORNERS = (36, 45)

SMOOTHING = 0.1
"""Of the spline, whose unit of length is the distance between the outer eye corners. Landmarks of 60 photographs, and
mean shapes of other photographs, gave errors of 1.06 / 0.98 / 1.28 % of it at 0 / 0.1 / 1, and with 2 % noise on the
landmarks 2.85 / 1.60 / 1.53 %."""


def fit_landmarks_68(
    landmarks: Tensor | np.ndarray, vertices: Tensor | np.ndarray, indices: Sequence[int] = LANDMARKS_68
) -> Tensor:
    """All vertices of a face of which 68 landmarks are known.

    The canonical shape is laid on the landmarks by the best similarity, then bent by a thin-plate spline of what is
    left: with x_i the canonical place of landmark i and y_i its place in the image taken back by that similarity,
    ``f(x) = x + g(x)``, where g is the smooth function with g(x_i) close to y_i - x_i. Networks disagree about whether
    depth grows towards the camera; the sign under which the similarity fits better is taken.

    Args:
        landmarks: (68, 3) or (B, 68, 3), x, y and z of the iBUG 300-W landmarks in pixels.
        vertices: (N, 3) of the canonical face, z towards the camera.
        indices: the vertex that corresponds to each landmark.

    Returns:
        (B, N, 3) float64 in the landmarks' pixels, z towards the camera, on the CPU.

    Raises:
        AlignmentError: other shapes, or landmarks that coincide or are not finite.

    Example::

        >>> shape = torch.rand(468, 3)
        >>> fitted = fit_landmarks_68(100 * shape[list(LANDMARKS_68)] + 7, shape)
        >>> torch.testing.assert_close(fitted[0], 100 * shape.double() + 7, rtol=0, atol=1e-3)
    """
    from scipy.interpolate import RBFInterpolator

    places = _as_float64(landmarks)
    places = places[None] if places.ndim == 2 else places
    shape = _as_float64(vertices)
    if places.ndim != 3 or places.shape[1:] != (68, 3) or shape.ndim != 2 or shape.shape[1] != 3 or len(indices) != 68:
        raise AlignmentError(
            f"fit_landmarks_68: expected landmarks (B, 68, 3), vertices (N, 3) and 68 indices, got "
            f"{tuple(places.shape)}, {tuple(shape.shape)} and {len(indices)}."
        )
    if not len(places):
        return shape.new_zeros(0, *shape.shape)
    known = shape[list(indices)]
    first, second = (known[corner] for corner in OUTER_EYE_CORNERS)
    unit = (first - second).norm()
    places = _towards_camera(known, places)
    similarity = fit_similarity(known, places)
    rest = similarity.undo(places) - known
    spline = RBFInterpolator(
        (known / unit).numpy(),
        rest.permute(1, 0, 2).reshape(68, -1).numpy(),
        kernel="thin_plate_spline",
        smoothing=SMOOTHING,
    )
    bend = torch.from_numpy(spline((shape / unit).numpy())).reshape(len(shape), -1, 3).permute(1, 0, 2)
    return similarity.apply(shape + bend)


def _towards_camera(known: Tensor, places: Tensor) -> Tensor:
    """The landmarks of each face with the sign of z under which the canonical landmarks fit them better."""
    candidates = [places, places * places.new_tensor([1.0, 1.0, -1.0])]
    errors = [(fit_similarity(known, each).apply(known) - each).square().sum((1, 2)) for each in candidates]
    return torch.where((errors[1] < errors[0])[:, None, None], candidates[1], candidates[0])


def _as_float64(values: Tensor | np.ndarray) -> Tensor:
    return torch.as_tensor(values).detach().cpu().double()
