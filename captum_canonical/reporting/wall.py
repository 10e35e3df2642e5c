"""A wall of photographs, each beside its own map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.reporting.photo_source import Finder, PhotoSource, finder_of
from captum_canonical.reporting.pictures import (
    Panel,
    RegionNames,
    Scale,
    jpeg,
    panel_of,
    seen_values,
    signed_scale,
    thumbnail_of,
)
from captum_canonical.reporting.words import counted, number

MAP_SIDE = 112  # pixels
SHOWN = ("group", "label", "predicted", "target", "score", "yaw", "pitch")


@dataclass(frozen=True)
class Tile:
    """One photograph with its map.

    Attributes:
        name: of the photograph.
        group: of it, or "".
        facts: (what, value) about it.
        photo: source of the image, or None.
        missing: why there is none.
        panel: its map.
    """

    name: str
    group: str
    facts: list[tuple[str, str]]
    photo: str | None
    missing: str
    panel: Panel


@dataclass(frozen=True)
class Wall:
    """Tiles, the scale that all of them share, and a sentence about which photographs they are."""

    tiles: list[Tile]
    scale: Scale
    note: str


def wall_of(result: ModelSaliency, photos: PhotoSource, limit: int, unit: str, regions: RegionNames) -> Wall:
    """The first photographs with a map in the order of the result.

    Args:
        result: with single maps.
        photos: see :func:`report`.
        limit: photographs at most.
        unit: of the values.
        regions: of the face.
    """
    assert result.photos is not None
    find = finder_of(result, photos)
    chosen = result.photos.subset(range(min(limit, len(result.photos))))
    maps = [
        thumbnail_of(seen_values(value, hits), MAP_SIDE)
        for values, coverage in chosen.chunks()
        for value, hits in zip(values, coverage, strict=True)
    ]
    scale = signed_scale(maps, unit)
    small = _shrunk(regions, maps)
    tiles = [_tile(row, chosen.records, values, scale, find, small) for row, values in enumerate(maps)]
    return Wall(tiles, scale, _note(len(tiles), len(result.photos), result))


def _note(shown: int, count: int, result: ModelSaliency) -> str:
    if shown == count:
        return f"All {counted(count, 'photograph')} with a map."
    order = "" if result.run is None else f" in the order of the run ({result.run.settings.get('order', 'unknown')})"
    return f"The first {number(shown)} of {counted(count, 'photograph')} with a map{order}."


def _tile(
    row: int, records: Mapping[str, Sequence[Any]], values: np.ndarray, scale: Scale, find: Finder, regions: RegionNames
) -> Tile:
    def column(name: str) -> Any:
        return records[name][row] if name in records else None

    place = column("place")
    place = row if place is None else int(place)
    name = _called(str(column("name") or f"photograph {place}"))
    try:
        photo, missing = jpeg(find(place, str(column("name") or ""))), ""
    except CanonicalError as error:
        photo, missing = None, str(error)
    facts = [(title, _fact(title, column(title))) for title in SHOWN if column(title) is not None]
    return Tile(name, str(column("group") or ""), facts, photo, missing, panel_of(values, scale, "Map", regions))


def _called(name: str) -> str:
    """The name as it was given, without the folders of a whole path."""
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
