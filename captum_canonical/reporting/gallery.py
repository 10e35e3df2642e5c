"""Photographs beside their own maps; they are read from a run's files, a folder, a data set, or memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from captum_canonical.data.aligned_faces import MAX_PIXELS, AlignedFaces
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.images import crop_photo, to_arrays
from captum_canonical.faces.photo_files import PathType
from captum_canonical.faces.photos import load_photo
from captum_canonical.reporting.display import (
    RegionNames,
    Scale,
    counted,
    jpeg,
    number,
    panel_of,
    seen_values,
    signed_scale,
    thumbnail_of,
)
from captum_canonical.reporting.page import Gallery, Section, Tile
from captum_canonical.saliency.result import ModelSaliency

PHOTO_SIDE = 128  # pixels
MAP_SIDE = 112  # pixels
AROUND_FACE = 1.4  # times the longer side of the face's box
BEYOND = 235  # grey beyond the photograph
SHOWN_FACTS = ("group", "label", "predicted", "target", "score", "yaw", "pitch")
Box = Sequence[float] | None
PhotoSource = bool | PathType | AlignedFaces | Tensor | Sequence[np.ndarray]
GetPhoto = Callable[[int, str], np.ndarray]
"""Place and name of a photograph -> (H, W, 3) uint8 as it is shown; CanonicalError with the reason if it is missing."""


def gallery_section(result: ModelSaliency, photos: PhotoSource, limit: int, unit: str, regions: RegionNames) -> Section:
    """The first photographs with a map, in the order of the result.

    Args:
        result: with single maps.
        photos: see :func:`report`.
        limit: photographs at most.
        unit: of the values.
        regions: of the face.

    Raises:
        CanonicalError: ``photos`` is not as :func:`report` says.
    """
    known = result.single_maps("the gallery of photographs")
    get_photo = photo_getter(result, photos)
    chosen = known.subset(range(min(limit, len(known))))
    maps = [
        thumbnail_of(seen_values(value, hits), MAP_SIDE)
        for values, coverage in chosen.chunks()
        for value, hits in zip(values, coverage, strict=True)
    ]
    scale = signed_scale(maps, unit)
    small = _shrunk(regions, maps)
    tiles = [_tile(row, chosen.records, values, scale, get_photo, small) for row, values in enumerate(maps)]
    gallery = Gallery(tiles, scale, _note(len(tiles), len(known), result))
    return Section("photographs", "Photographs and their maps", gallery=gallery)


def photo_getter(result: ModelSaliency, photos: PhotoSource) -> GetPhoto:
    """A function that reads photographs from where they are.

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
    known = result.run.photographs if result.run is not None and result.run.has_labels else None
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
    photo = load_photo(path, MAX_PIXELS)
    return _shown(photo.pixels, None if box is None else photo.box_of(box))


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


def _note(shown: int, count: int, result: ModelSaliency) -> str:
    made = f", each from {result.photos.approximation}" if result.photos and result.photos.approximation else ""
    if shown == count:
        return f"All {counted(count, 'photograph')} with a map{made}."
    order = "" if result.run is None else f" in the order of the run ({result.run.settings.get('order', 'unknown')})"
    return f"The first {number(shown)} of {counted(count, 'photograph')} with a map{made}{order}."


def _tile(
    row: int,
    records: Mapping[str, Sequence[Any]],
    values: np.ndarray,
    scale: Scale,
    get_photo: GetPhoto,
    regions: RegionNames,
) -> Tile:
    def column(name: str) -> Any:
        return records[name][row] if name in records else None

    place = column("place")
    place = row if place is None else int(place)
    name = _file_name(str(column("name") or f"photograph {place}"))
    try:
        photo, missing = jpeg(get_photo(place, str(column("name") or ""))), ""
    except CanonicalError as error:
        photo, missing = None, str(error)
    facts = [(title, _fact(title, column(title))) for title in SHOWN_FACTS if column(title) is not None]
    return Tile(name, str(column("group") or ""), facts, photo, missing, panel_of(values, scale, "Map", regions))


def _file_name(name: str) -> str:
    # Names in a table may have folders, which help to find the photograph; those of an absolute path tell too much.
    return Path(name).name if Path(name).is_absolute() else name


def _fact(title: str, value: Any) -> str:
    if title in ("yaw", "pitch"):
        return f"{number(round(value))}\N{DEGREE SIGN}"
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _shrunk(regions: RegionNames, maps: Sequence[np.ndarray]) -> RegionNames:
    """The regions on the grid of thumbnails."""
    if not maps:
        return regions
    height, width = maps[0].shape
    rows = ((np.arange(height) + 0.5) * regions.places.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * regions.places.shape[1] / width).astype(int)
    return RegionNames(regions.names, regions.places[np.ix_(rows, columns)])
