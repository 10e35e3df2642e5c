"""How well a face is seen: its size, the pose of the head, what lies outside the photograph, sharpness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_number
from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.plausible import deep
from captum_canonical.faces.similarity import fit_similarity

MEASURED = ("size", "yaw", "pitch", "outside", "sharpness")
"""Measured from photograph and mesh, whichever aligner found it: ``size``, the longer side of the box around the
vertices in pixels of the photograph; ``yaw`` and ``pitch`` of the head in degrees (:func:`head_pose`);
``outside``, the share of the vertices that lie outside the photograph; and ``sharpness``
(:func:`sharpness`)."""
REPORTED = ("detection", "presence", "disagreement", "turn", "faces")
"""Known to the aligner alone: ``detection``, 0..1, how sure the detector is; ``presence``, 0..1, how sure the mesh
network is that its crop shows a face; ``disagreement``, the mean distance between the vertices and those found in the
mirrored photograph, as a share of the face's size; ``turn``, the degrees (0, 90, 180, 270), clockwise, by which the
photograph had to be turned; and ``faces``, how many faces were found in the photograph."""
QUALITY = (*MEASURED, *REPORTED)
"""All that may be known about how well a face is seen."""

SHARP_SIDE = 112  # pixels of a face whose sharpness is measured
Limits = Mapping[str, tuple[float | None, float | None]]
"""Least and greatest value that is accepted of some of :data:`QUALITY`; None: without an end."""


def with_quality(faces: FaceMesh, images: Sequence[np.ndarray]) -> FaceMesh:
    """The same meshes with all that can be measured of them; what an aligner says about them stays.

    Args:
        faces: in pixels of the images.
        images: (H, W, 3) uint8.

    Example::

        >>> face = CanonicalFace.default()
        >>> mesh = FaceMesh(face.vertices[None], image_size=(224, 224), topology=face.topology)
        >>> seen = with_quality(mesh, [(face.image.permute(1, 2, 0) * 255).byte().numpy()]).quality
        >>> {name: round(float(values[0]), 2) + 0.0 for name, values in seen.items() if name != "sharpness"}
        {'size': 197.12, 'yaw': 0.0, 'pitch': 0.0, 'outside': 0.0}
    """
    rows, device = range(len(faces)), faces.vertices.device
    index = list(rows) if faces.image_index is None else faces.image_index.tolist()
    vertices, boxes = faces.vertices.detach().cpu().double(), faces.boxes.double()
    size = vertices.new_tensor([faces.image_size[1], faces.image_size[0]])
    inside = ((vertices[..., :2] >= 0) & (vertices[..., :2] <= size)).all(2).double().mean(1)
    sharp = [
        sharpness(images[index[row]], box) if found else math.nan
        for row, box, found in zip(rows, boxes.tolist(), faces.found.tolist(), strict=True)
    ]
    yaw, pitch = _pose(faces).unbind(1)
    values = {
        "size": (boxes[:, 2:] - boxes[:, :2]).amax(1),
        "yaw": yaw,
        "pitch": pitch,
        "outside": 1 - inside,
        "sharpness": torch.tensor(sharp, dtype=torch.float64),
    }
    known = {name: each.to(device).where(faces.found, math.nan) for name, each in values.items()}
    return replace(faces, quality={**faces.quality, **known})


def _pose(faces: FaceMesh) -> Tensor:
    """(B, 2) yaw and pitch; NaN for topologies without a canonical face."""
    face = CanonicalFace.default()
    if faces.topology != face.topology or faces.num_vertices != len(face.vertices):
        return torch.full((len(faces), 2), math.nan, dtype=torch.float64)
    return head_pose(faces, face)


def head_pose(faces: FaceMesh, canonical_face: CanonicalFace) -> Tensor:
    """Yaw and pitch of heads: how the frontal canonical face must be turned to lie on each of them best.

    The turn is the rotation of the least-squares similarity between all vertices (Umeyama 1991), seen and unseen ones
    alike. Where the canonical face looks straight out of the image, (0, 0, 1), the head looks to the turned direction
    (x, y, z): yaw = atan2(x, z), pitch = atan2(-y, hypot(x, z)). A photograph that lies on its side or upside down is
    turned upright first, by quarter turns; tilting the head turns the direction as well.

    Args:
        faces: B meshes with depth, z towards the camera.
        canonical_face: of the same topology, frontal, with depth.

    Returns:
        (B, 2) float64 yaw and pitch in degrees. Yaw is positive for a face that looks to the upright image's right,
        pitch for one that looks up. NaN where no face was found, or where a mesh or the canonical face has no depth.

    Raises:
        AlignmentError: the meshes have another number of vertices.

    Example::

        >>> import math
        >>> face = CanonicalFace.default()
        >>> cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
        >>> to_the_right = face.vertices.new_tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        >>> vertices = (face.vertices @ to_the_right.T)[None]
        >>> head_pose(FaceMesh(vertices, image_size=(224, 224)), face).round(decimals=3).tolist()
        [[30.0, 0.0]]
    """
    shape, heads = canonical_face.vertices.double().cpu(), faces.vertices.double().cpu()
    if heads.shape[1:] != shape.shape:
        raise AlignmentError(
            f"head_pose: expected meshes of {len(shape)} vertices like the canonical face, got {heads.shape[1]}."
        )
    pose = torch.full((len(heads), 2), torch.nan, dtype=torch.float64)
    usable = faces.found.cpu() & deep(heads)
    if not bool(deep(shape[None])) or not bool(usable.any()):
        return pose
    turns = fit_similarity(shape, heads[usable]).rotation
    x, y, z = turns[:, :, 2].unbind(1)  # of (0, 0, 1)
    in_plane = torch.atan2(turns[:, 1, 0] - turns[:, 0, 1], turns[:, 0, 0] + turns[:, 1, 1])
    quarters = (in_plane / (math.pi / 2)).round() * (math.pi / 2)
    x, y = quarters.cos() * x + quarters.sin() * y, quarters.cos() * y - quarters.sin() * x
    pose[usable] = torch.rad2deg(torch.stack([torch.atan2(x, z), torch.atan2(-y, torch.hypot(x, z))], 1))
    return pose


def sharpness(image: np.ndarray, box: Sequence[float]) -> float:
    """How much fine detail a part of a photograph shows: var(Laplacian) / var(brightness).

    The part is brought to a longer side of :data:`SHARP_SIDE` pixels first, so that faces of all sizes can be compared:
    a small face that has to be enlarged is not sharp. Division by the variance makes the measure one of detail and not
    of contrast. Of 24 portraits of CelebA, 178 pixels wide, nine tenths had 0.05 to 0.31; blurred by a Gaussian of one
    pixel 0.01 to 0.04, of two pixels 0.003 to 0.01.

    Args:
        image: (H, W, 3) uint8.
        box: left, top, right, bottom in pixels; what is outside the image does not count.

    Returns:
        0 or more; 0 where nothing is inside, or all of it has one brightness.

    Example::

        >>> photo = np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)
        >>> sharpness(photo, (0, 0, 50, 50)) > 2 * sharpness(cv2.blur(photo, (3, 3)), (0, 0, 50, 50))
        True
    """
    (height, width), (left, top, right, bottom) = image.shape[:2], box
    columns = slice(max(0, math.floor(left)), min(width, math.ceil(right)))
    rows = slice(max(0, math.floor(top)), min(height, math.ceil(bottom)))
    part = image[rows, columns]
    if not part.size:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY).astype(np.float32)
    factor = SHARP_SIDE / max(right - left, bottom - top)
    shape = tuple(max(1, round(side * factor)) for side in grey.shape[::-1])
    scaled = cv2.resize(grey, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    spread = float(scaled.var())
    return float(cv2.Laplacian(scaled, cv2.CV_32F).var()) / spread if spread > 1e-3 else 0.0


def known_quality(columns: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Columns of measures as JSON can hold them: None for NaN, and without those of which nothing is known.

    Example::

        >>> known_quality({"size": [40.0, math.nan], "turn": [math.nan, None]})
        {'size': [40.0, None]}
    """
    found = {
        name: [None if value is None or math.isnan(value) else value for value in values]
        for name, values in columns.items()
    }
    return {name: values for name, values in found.items() if any(value is not None for value in values)}


def checked_limits(limits: Limits | None) -> dict[str, tuple[float | None, float | None]]:
    """Limits by name.

    Raises:
        CanonicalError: this is no mapping, a name is unknown, or limits are not a pair in order.

    Example::

        >>> checked_limits({"size": (40, None)})
        {'size': (40.0, None)}
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    if limits is not None and not isinstance(limits, Mapping):
        raise CanonicalError(f"quality: expected limits by names, such as {{'size': (40, None)}}, got {limits!r:.80}.")
    for name, pair in (limits or {}).items():
        if name not in QUALITY:
            raise CanonicalError(f"quality: expected limits of some of {', '.join(QUALITY)}, got {name!r}.")
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise CanonicalError(
                f"quality: expected (least, greatest) of {name!r}, each a number or None, got {pair!r}."
            )
        low, high = (None if end is None else check_number(f"quality[{name!r}]", end) for end in pair)
        if low is not None and high is not None and low > high:
            raise CanonicalError(f"quality: expected (least, greatest) of {name!r} in this order, got {pair!r}.")
        found[name] = (low, high)
    return found


def beyond_limits(quality: Mapping[str, float], limits: Limits) -> str | None:
    """In which ways a face is beyond limits, in words; None if it is within all of them.

    Raises:
        CanonicalError: a value that has limits is not known.

    Example::

        >>> beyond_limits({"size": 31.25, "yaw": 4.0}, {"size": (40, None), "yaw": (-30, 30)})
        'size 31.2, at least 40 asked for'
    """
    reasons = []
    for name, (low, high) in limits.items():
        value = quality.get(name, math.nan)
        if math.isnan(value):
            raise CanonicalError(
                f"quality: limits of {name!r} are given, but the aligner's meshes do not tell it; leave it out, or use "
                "FaceMeshAligner, which tells all."
            )
        reasons += [f"{name} {value:.3g}, at least {low:g} asked for"] if low is not None and value < low else []
        reasons += [f"{name} {value:.3g}, at most {high:g} asked for"] if high is not None and value > high else []
    return "; ".join(reasons) or None
