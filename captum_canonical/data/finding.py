"""How the faces of photographs are found: by an aligner, or in meshes that are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from captum_canonical.adapters.aligner import Aligner
from captum_canonical.adapters.detector import DetectorAligner
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import AlignmentError, CanonicalError, MissingDependencyError, NoFaceError
from captum_canonical.faces.mesh import FaceMesh

Asked = tuple[int, PhotoRow, np.ndarray]
"""Place and row of a photograph, and its pixels (H, W, 3) uint8."""
Find = Callable[[Sequence[Asked]], "Iterator[FaceMesh | AlignmentError | NoFaceError]"]
"""Photographs -> for each in turn a mesh of one row, or why there is none; other errors are raised in their turn."""


def find_with(aligner: Aligner) -> Find:
    """By an aligner; those that look for faces by themselves are given several photographs at once.

    Raises:
        CanonicalError: the aligner may give several faces for a photograph.
    """
    if aligner.face == "all":
        raise CanonicalError(
            'aligner: expected one face for each photograph, face="largest", "central" or "surest", got face="all".'
        )
    kind = type(aligner)
    own = (DetectorAligner.__call__, DetectorAligner.align)
    if not isinstance(aligner, DetectorAligner) or (kind.__call__, kind.align) != own:  # type: ignore[attr-defined]
        return _one_by_one(lambda place, row, photo: aligner([photo], names=[row.name]))
    alone = _one_by_one(
        lambda place, row, photo: aligner.align([photo], [row.name], "raise")
    )  # an error has the reason

    def find(asked: Sequence[Asked]) -> Iterator[FaceMesh | AlignmentError | NoFaceError]:
        try:
            together = aligner.align_each([photo for *_, photo in asked], [row.name for _, row, _ in asked])
        except Exception:  # that of one photograph, which is raised again in its turn
            return alone(asked)
        return iter(together)

    return find


def look_up(faces: Callable[[Path], FaceMesh] | FaceMesh | None, count: int) -> Find:
    """Meshes that are there already: one row for each photograph, or a callable from paths."""
    if isinstance(faces, FaceMesh):
        if len(faces) != count:
            raise CanonicalError(f"faces: expected a row for each of {count} photographs, got {len(faces)}.")
        return _one_by_one(lambda place, row, photo: faces[place])
    if not callable(faces):
        raise CanonicalError(f"faces: expected a FaceMesh or a callable from a path, got {type(faces).__name__}.")

    def find(place: int, row: PhotoRow, photo: np.ndarray) -> FaceMesh:
        try:
            return faces(row.path)
        except (NoFaceError, MissingDependencyError):
            raise
        except (CanonicalError, OSError) as error:
            raise AlignmentError(str(error)) from error  # a file of meshes that is missing or damaged

    return _one_by_one(find)


def _one_by_one(find: Callable[[int, PhotoRow, np.ndarray], FaceMesh]) -> Find:
    def find_all(asked: Sequence[Asked]) -> Iterator[FaceMesh | AlignmentError | NoFaceError]:
        for each in asked:
            try:
                yield find(*each)
            except (AlignmentError, NoFaceError) as error:
                yield error

    return find_all
