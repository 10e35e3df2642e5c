"""Whether two model-level maps are of one kind: only then may they be added or compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

if TYPE_CHECKING:
    from captum_canonical.saliency.result import ModelSaliency

TOLD_APART = ("method.canonical_face",)
"""Settings that :func:`check_same_faces` compares better."""
SAME_PLACE = 1e-3
"""Vertices that differ by no more than this share of the face's size are the same."""


def check_same_faces(ours: ModelSaliency, theirs: ModelSaliency, who: str) -> None:
    """Raises CanonicalError unless a pixel of the one map is the same place of the face in the other.

    A face that is not known fits any of its size.
    """
    sides = [(_size(side), _topology(side), side.symmetric) for side in (ours, theirs)]
    faces = [side.canonical_face for side in (ours, theirs)]
    if sides[0][0] != sides[1][0] or sides[0][2] != sides[1][2] or (None not in faces and sides[0] != sides[1]):
        raise CanonicalError(
            f"{who}: expected maps with the same (height, width), topology and symmetric = {sides[0]}, got {sides[1]}."
        )
    if faces[0] is not None and faces[1] is not None and not _same_places(faces[0], faces[1]):
        raise CanonicalError(
            f"{who}: expected maps on the same canonical face, got two whose {len(faces[0].vertices)} and "
            f"{len(faces[1].vertices)} vertices lie in other places; explain both on one canonical_face."
        )


def _size(side: ModelSaliency) -> tuple[int, ...]:
    return tuple(side.mean.shape[1:]) if side.canonical_face is None else side.canonical_face.size


def _topology(side: ModelSaliency) -> str | None:
    return None if side.canonical_face is None else side.canonical_face.topology


def _same_places(one: CanonicalFace, other: CanonicalFace) -> bool:
    if one is other:
        return True
    if one.vertices.shape != other.vertices.shape or not torch.equal(one.triangles, other.triangles):
        return False
    return bool((one.vertices - other.vertices).abs().max() <= SAME_PLACE * max(one.size))


def differing_settings(ours: ModelSaliency, theirs: ModelSaliency) -> dict[str, tuple[str, str]]:
    """Setting -> what it is in both, of all that the maps' values depend on and that differs.

    What maps in memory were made with is not known: they fit any.
    """
    sides = [side.photos.made_with() if side.photos is not None else [] for side in (ours, theirs)]
    found: dict[str, tuple[str, str]] = {}
    for one in sides[0]:
        for other in sides[1]:
            names = dict.fromkeys([*one, *other])
            different = [name for name in names if name not in TOLD_APART and one.get(name) != other.get(name)]
            found |= {name: (one.get(name, "nothing"), other.get(name, "nothing")) for name in different}
    return found


def in_words(settings: dict[str, tuple[str, str]]) -> str:
    """Differences such as those of :func:`differing_settings`.

    Example::

        >>> in_words({"arguments.patch_size": ("15", "21")})
        'arguments.patch_size (15 and 21)'
    """
    return ", ".join(f"{name} ({one} and {other})" for name, (one, other) in settings.items())


def check_addable(ours: ModelSaliency, theirs: ModelSaliency) -> None:
    """Raises CanonicalError unless the maps of both may be averaged together."""
    who = "ModelSaliency + ModelSaliency"
    check_same_faces(ours, theirs, who)
    different = differing_settings(ours, theirs)
    if different:
        raise CanonicalError(
            f"{who}: expected maps of one network made with the same settings, but {in_words(different)} differ."
        )
    twice = 0 if ours.photos is None or theirs.photos is None else ours.photos.shared(theirs.photos)
    if twice or ours is theirs:
        raise CanonicalError(
            f"{who}: expected different photographs, but {twice or ours.n} are in both; counted twice, they would make "
            "the map look surer than it is."
        )
