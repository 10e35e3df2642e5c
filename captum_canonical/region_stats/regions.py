"""The named regions of a canonical face, fixed before anybody looks at a map."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError


def regions_version(face: CanonicalFace) -> str:
    """What tells one set of regions from others: the topology's name and a digest of names and triangles.

    Regions that are chosen after a map was looked at find too much. Outputs hold this text, so that two of them can be
    told to be of the same regions.

    Example::

        >>> regions_version(CanonicalFace.default(64)) == regions_version(CanonicalFace.default(224))
        True
    """
    digest = hashlib.sha256()
    for name in sorted(face.regions):
        corners = face.triangles[face.regions[name]].sort(1).values.tolist()
        digest.update(f"{name} {sorted(corners)} ".encode())
    return f"{face.topology or 'unnamed'}-{digest.hexdigest()[:12]}"


def region_masks(face: CanonicalFace, who: str) -> tuple[list[str], Tensor]:
    """Names of the R regions, and (R, H * W) bool, the pixels of each.

    Raises:
        CanonicalError: the face has no regions.
    """
    if not face.regions:
        raise CanonicalError(
            f"{who}: expected a canonical face with named regions, got one without; use CanonicalFace.default(), or "
            "CanonicalFace.from_vertices(..., regions=...)."
        )
    names = list(face.regions)
    return names, torch.stack([face.region_mask(name).flatten() for name in names])


def side_pairs(names: list[str]) -> list[tuple[str, int, int]]:
    """Name without its side, number of the left region and of the right one, for regions that come in pairs.

    Example::

        >>> side_pairs(["chin", "eye_right", "eye_left", "ear_left"])
        [('eye', 2, 1)]
    """
    return [
        (name.removesuffix("_left"), number, names.index(name.removesuffix("_left") + "_right"))
        for number, name in enumerate(names)
        if name.endswith("_left") and name.removesuffix("_left") + "_right" in names
    ]
