"""How the faces of photographs are found: by an aligner, or in meshes that are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captum_canonical.adapters.aligner import Aligner
from captum_canonical.adapters.detector import DetectorAligner
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import AlignmentError, CanonicalError, MissingDependencyError, NoFaceError
from captum_canonical.faces.mesh import FaceMesh

Asked = tuple[int, PhotoRow, np.ndarray]
"""Place and row of a photograph, and its pixels (H, W, 3) uint8."""
AT_ONCE = 32  # photographs in which faces are looked for together


@dataclass(frozen=True)
class Find:
    """A way to find faces: for each of some photographs in turn a mesh of one row, or why there is none.

    Attributes:
        one: place, row and pixels of a photograph -> its mesh; its errors other than those two are raised.
        together: several photographs and their names -> what each gives. Default: there is no faster way than ``one``.
    """

    one: Callable[[int, PhotoRow, np.ndarray], FaceMesh]
    together: Callable[[Sequence[np.ndarray], Sequence[str]], Sequence[FaceMesh | NoFaceError]] | None = None

    @property
    def at_once(self) -> int:
        """How many photographs to collect before it is called."""
        return 1 if self.together is None else AT_ONCE

    def __call__(self, asked: Sequence[Asked]) -> Iterator[FaceMesh | AlignmentError | NoFaceError]:
        """The results in order."""
        try:
            if self.together is not None and len(asked) > 1:
                yield from self.together([photo for *_, photo in asked], [row.name for _, row, _ in asked])
                return
        except Exception:  # that of one photograph, which is raised again in its turn
            pass
        for each in asked:
            try:
                yield self.one(*each)
            except (AlignmentError, NoFaceError) as error:
                yield error


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
        return Find(lambda place, row, photo: aligner([photo], names=[row.name]))
    # An error has the reason, which a row without a face has not.
    return Find(lambda place, row, photo: aligner.align([photo], [row.name], "raise"), aligner.align_each)


def look_up(faces: Callable[[Path], FaceMesh] | FaceMesh | None, count: int) -> Find:
    """Meshes that are there already: one row for each photograph, or a callable from paths."""
    if isinstance(faces, FaceMesh):
        if len(faces) != count:
            raise CanonicalError(f"faces: expected a row for each of {count} photographs, got {len(faces)}.")
        return Find(lambda place, row, photo: faces[place])
    if not callable(faces):
        raise CanonicalError(f"faces: expected a FaceMesh or a callable from a path, got {type(faces).__name__}.")

    def find(place: int, row: PhotoRow, photo: np.ndarray) -> FaceMesh:
        try:
            return faces(row.path)
        except (NoFaceError, MissingDependencyError):
            raise
        except (CanonicalError, OSError) as error:
            raise AlignmentError(str(error)) from error  # a file of meshes that is missing or damaged

    return Find(find)
