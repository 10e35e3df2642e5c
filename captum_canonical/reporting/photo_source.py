"""Where the photographs of a page come from: the files that a run remembers, a folder, a data set, or images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from captum_canonical.dataset import AlignedFaces
from captum_canonical.errors import CanonicalError
from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.photos import PathType, crop_photo, read_photo, to_arrays

PHOTO_SIDE = 128  # pixels
AROUND_FACE = 1.4  # times the longer side of the face's box
BEYOND = 235  # grey beyond the photograph
Box = Sequence[float] | None
PhotoSource = bool | PathType | AlignedFaces | Tensor | Sequence[np.ndarray]


class Finder(Protocol):
    """Gets photographs."""

    def __call__(self, place: int, name: str) -> np.ndarray:
        """(H, W, 3) uint8, as it is shown; raises CanonicalError with the reason if it is not there."""


def finder_of(result: ModelSaliency, photos: PhotoSource) -> Finder:
    """What gets the photograph at a place of the source of the data.

    Raises:
        CanonicalError: ``photos`` is not as :func:`report` says.
    """
    files = _files_of_run(result)
    if photos is True:
        return lambda place, name: _read(*files.get(place, (None, None)))
    if isinstance(photos, AlignedFaces):
        rows = photos.rows
        return lambda place, name: _read(rows[place].path if place < len(rows) else None, photos.face_box(place))
    if isinstance(photos, (Tensor, Sequence)) and not isinstance(photos, str):
        return lambda place, name: _in_memory(photos, place)
    folder = Path(photos) if not isinstance(photos, bool) else Path()
    if not folder.is_dir():
        raise CanonicalError(
            f"photos: expected True, False, a folder of photographs, AlignedFaces or images in the order of the data, "
            f"but {folder} is no folder."
        )
    return lambda place, name: _read(_below(folder, name), files.get(place, (None, None))[1])


def _files_of_run(result: ModelSaliency) -> dict[int, tuple[Path | None, Box]]:
    known = None if result.run is None else result.run.photographs
    if known is None:
        return {}
    return {
        place: (None if path is None else Path(path), box)
        for place, path, box in zip(known["place"], known["path"], known["box"], strict=True)
    }


def _below(folder: Path, name: str) -> Path:
    """The file of this name in a folder, with or without the folders in its name."""
    inside = folder / name
    return inside if inside.is_file() and ".." not in inside.parts else folder / Path(name).name


def _read(path: Path | None, box: Box) -> np.ndarray:
    if path is None:
        raise CanonicalError("not known where the photograph lies")
    if not path.is_file():
        raise CanonicalError("the photograph is not where it was")
    return _shown(read_photo(path), box)


def _in_memory(photos: Tensor | Sequence[np.ndarray], place: int) -> np.ndarray:
    if place >= len(photos):
        raise CanonicalError("there is no such image")
    return _shown(to_arrays(photos[place : place + 1])[0], None)


def _shown(photo: np.ndarray, box: Box) -> np.ndarray:
    """A square around the face, or all of the photograph if it is not known where the face is."""
    height, width = photo.shape[:2]
    left, top, right, bottom = (0.0, 0.0, width, height) if box is None else box
    side = max(right - left, bottom - top, 1.0) * (1 if box is None else AROUND_FACE)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    return crop_photo(photo, (x, y, x + side, y + side), (PHOTO_SIDE, PHOTO_SIDE), BEYOND)
