"""From face meshes to one symmetric frontal face: mean shape, mirror permutation, closed triangles, points, regions.

All functions are deterministic and work on numpy arrays; ``make_canonical_face.py`` puts them together.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

FOREHEAD_TOP, CHIN = 10, 152
OUTER_EYE_RIGHT, OUTER_EYE_LEFT = 33, 263

# Seeds of the named regions, MediaPipe's vertex numbers on the person's right side and the midline; a triangle belongs
# to the region of the seed nearest to its centroid. Regions with the suffix "_right" have a mirror image "_left".
REGION_SEEDS: dict[str, tuple[int, ...]] = {
    "forehead": (10, 151, 109, 67, 103, 54, 21, 108, 69, 104, 68, 71),
    "brow_right": (70, 63, 105, 66, 46, 53, 52, 65),
    "eye_right": (246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7, 29, 27, 28, 56, 190, 243)
    + (112, 26, 22, 23, 24, 110),
    "outer_eye_corner_right": (33, 130, 226, 35, 25, 247, 113, 31, 124),
    "glabella": (9, 8, 168, 107, 55),
    "nose_bridge": (6, 197, 195, 122, 196, 193, 245, 188, 174, 3, 51),
    "nose_tip": (5, 4, 1, 19, 94, 44, 45, 125),
    "nose_wing_right": (48, 115, 64, 98, 129, 49, 102, 240, 75, 60, 220, 131, 198, 59, 166, 219),
    "cheek_right": (50, 101, 205, 36, 187, 207, 123, 147, 117, 118, 119, 100, 142, 203, 206, 116, 111, 227, 234, 93)
    + (137, 177, 127, 34, 162, 139, 143),
    "upper_lip": (0, 37, 39, 40, 11, 72, 73, 74, 12, 38, 41, 42, 13, 82, 81, 80, 164, 167, 165, 2),
    "lower_lip": (17, 84, 181, 91, 16, 85, 180, 90, 15, 86, 179, 89, 14, 87, 178, 88),
    "mouth_corner_right": (61, 76, 62, 78, 57, 184, 146, 186, 43),
    "chin": (152, 148, 176, 175, 199, 200, 18, 83, 201, 208, 171, 32, 140),
    "jaw_right": (58, 172, 136, 150, 149, 138, 135, 169, 210, 214, 192, 215, 213, 132),
}


# ------------------------------------------------------------------------------------------------------- mean shape
def procrustes(shape: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``shape`` (N, 3) moved onto ``target`` (N, 3) by the best similarity without reflection (Umeyama 1991)."""
    a, b = shape - shape.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign).sum() / np.square(a).sum()
    return scale * a @ (u * sign) @ vt + target.mean(0)


def mean_shape(shapes: np.ndarray, rounds: int = 20) -> np.ndarray:
    """Generalised Procrustes mean (N, 3) of shapes (B, N, 3), centred, of unit root mean square radius."""
    mean = shapes[0]
    for _ in range(rounds):
        mean = np.mean([procrustes(shape, mean) for shape in shapes], axis=0)
        mean = mean - mean.mean(0)
        mean = mean / np.sqrt(np.square(mean).sum(1).mean())
    return mean


def mirror_permutation(mean: np.ndarray) -> np.ndarray:
    """(N,) the vertex on the other side for each vertex: best matching of the mean with its mirror image."""
    mirrored = mean * [-1.0, 1.0, 1.0]  # near enough to start with: the mean of upright photographs faces the camera
    permutation = np.arange(len(mean))
    for _ in range(10):
        distance = np.square(mean[:, None] - mirrored[None]).sum(-1)
        new = linear_sum_assignment(distance)[1]
        if (new == permutation).all():
            break
        permutation = new
        mirrored = procrustes(mean * [-1.0, 1.0, 1.0], mean[np.argsort(permutation)])
    if (permutation[permutation] != np.arange(len(mean))).any():
        raise ValueError("the left-right matching is no involution: too few, or too one-sided, photographs")
    return permutation


def frontal(mean: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """The mean made exactly symmetric about x = 0, turned so that forehead top and chin have the same depth."""
    across = mean[permutation] - mean  # every vertex to its partner: parallel to the left-right axis
    reference = across[OUTER_EYE_RIGHT]
    direction = (across * np.sign(across @ reference)[:, None]).sum(0)
    x = direction / np.linalg.norm(direction)
    midline = (mean + mean[permutation]) / 2
    down = midline[CHIN] - midline[FOREHEAD_TOP]
    y = down - (down @ x) * x
    y /= np.linalg.norm(y)
    turned = mean @ np.stack([x, y, np.cross(x, y)], 1)
    if turned[4, 2] < turned[:, 2].mean():  # the nose tip must point to the camera
        raise ValueError("the meshes' z does not run towards the camera")
    return (turned + turned[permutation] * [-1.0, 1.0, 1.0]) / 2


# -------------------------------------------------------------------------------------------------------- triangles
def tesselation() -> np.ndarray:
    """(852, 3) MediaPipe's triangles, consistently oriented; the eyes and the mouth are holes."""
    from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections

    edges = [(edge.start, edge.end) for edge in FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION]
    corners = [tuple(start for start, _ in edges[i : i + 3]) for i in range(0, len(edges), 3)]
    return np.array(list(dict.fromkeys(_rotated(triangle) for triangle in corners)))


def _rotated(triangle: tuple[int, ...]) -> tuple[int, int, int]:
    """The same oriented triangle, its lowest vertex first."""
    start = triangle.index(min(triangle))
    a, b, c = triangle[start:] + triangle[:start]
    return a, b, c


def _mirror(triangle: tuple[int, ...], permutation: np.ndarray) -> tuple[int, int, int]:
    a, b, c = (int(permutation[vertex]) for vertex in triangle)
    return _rotated((a, c, b))


def closed_triangles(vertices: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """(898, 3) the tesselation made mirror symmetric, with the eyes and the mouth closed by ladders of triangles."""
    triangles = {_rotated(tuple(int(v) for v in triangle)) for triangle in tesselation()}
    odd = {t for t in triangles if _mirror(t, permutation) not in triangles}
    kept = {t for t in odd if vertices[list(t), 0].mean() < 0}
    triangles = (triangles - odd) | kept | {_mirror(t, permutation) for t in kept}
    for loop in _boundaries(triangles):
        if len(loop) == 36:  # the outline of the face stays open
            continue
        if vertices[loop, 0].mean() > 0.05:  # the person's left eye: mirror image of the right one
            continue
        ladder = _ladder(loop, vertices)
        triangles |= ladder
        if vertices[loop, 0].mean() < -0.05:
            triangles |= {_mirror(t, permutation) for t in ladder}
    return np.array(sorted(triangles))


def _boundaries(triangles: set[tuple[int, int, int]]) -> list[list[int]]:
    """The closed loops of half edges that have no partner."""
    half = {(t[i], t[(i + 1) % 3]) for t in triangles for i in range(3)}
    following = {a: b for a, b in half if (b, a) not in half}
    loops = []
    while following:
        loop = [next(iter(sorted(following)))]
        while following[loop[-1]] != loop[0]:
            loop.append(following.pop(loop[-1]))
        following.pop(loop[-1])
        loops.append(loop)
    return loops


def _ladder(loop: list[int], vertices: np.ndarray) -> set[tuple[int, int, int]]:
    """Triangles across a hole: rungs between its two arcs, diagonals mirrored at the middle rung."""
    loop = loop[::-1]  # the hole's own orientation is opposite to that of its rim
    left = min(loop, key=lambda v: vertices[v, 0])
    start = loop.index(left)
    loop = loop[start:] + loop[:start]
    half = len(loop) // 2
    one, two = loop[: half + 1], [loop[0], *loop[: half - 1 : -1]]
    triangles = []
    for i in range(half):
        a, b, c, d = one[i], one[i + 1], two[i + 1], two[i]
        split = [(a, b, c), (a, c, d)] if i < half // 2 else [(a, b, d), (b, c, d)]
        triangles += [t for t in split if len(set(t)) == 3]
    return {_rotated(t) for t in triangles}


# -------------------------------------------------------------------------------------------------- points, regions
def occlusion_points(
    vertices: np.ndarray, triangles: np.ndarray, permutation: np.ndarray, pairs: int = 512, candidates: int = 20_000
) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread surface points in mirrored pairs, farthest first, so that every prefix covers the face evenly.

    There is no point on the midline itself: a patch of odd width cannot be centred there symmetrically.

    Returns:
        (2 * pairs, 3) vertex numbers and (2 * pairs, 3) weights; points 2i and 2i + 1 are mirror images.
    """
    random = np.random.default_rng(0)
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    triangle = triangles[random.choice(len(triangles), candidates, p=area / area.sum())]
    weights = random.dirichlet((1.0, 1.0, 1.0), candidates)
    place = (weights[..., None] * vertices[triangle]).sum(1)
    other_side = place[:, 0] > 0
    triangle[other_side] = permutation[triangle[other_side]]
    place[other_side, 0] *= -1
    distance = np.minimum(4 * place[:, 0] ** 2, np.square(place - vertices[1]).sum(1))
    numbers, shares = [], []
    for _ in range(pairs):
        best = int(distance.argmax())
        numbers += [triangle[best], permutation[triangle[best]]]
        shares += [weights[best], weights[best]]
        for twin in (place[best], place[best] * [-1, 1, 1]):
            distance = np.minimum(distance, np.square(place - twin).sum(1))
    return np.array(numbers), np.array(shares)


def regions(vertices: np.ndarray, triangles: np.ndarray, permutation: np.ndarray) -> dict[str, np.ndarray]:
    """Region name -> indices of its triangles; every triangle is in exactly one region."""
    seeds = []
    for name, numbers in REGION_SEEDS.items():
        seeds += [(name, number) for number in numbers]
        twin = name.replace("_right", "_left")
        seeds += [(twin, int(permutation[number])) for number in numbers]
    names = [name for name, _ in seeds]
    centroids = vertices[triangles].mean(1)
    nearest = np.linalg.norm(centroids[:, None] - vertices[[number for _, number in seeds]], axis=-1).argmin(1)
    labels = np.array(names)[nearest]
    return {name: np.flatnonzero(labels == name) for name in dict.fromkeys(names)}
