"""How a page shows values: numbers, names and tables as text, maps as palette images that its script can read back."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.tables import Table
from captum_canonical.visualization.drawing import (
    DARKEST,
    LEVELS,
    UNSEEN_LEVEL,
    Kind,
    grey_of,
    palette,
    scale_of,
    values_of,
)

MINUS = "\u2212"
NOTHING = "\u2013"
"""Stands where there is no value."""


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, integers with thousands separators; a dash for None and NaN.

    Example::

        >>> number(0.012345), number(12345), number(123456.7), number(1e20)
        ('0.0123', '12,345', '123,457', '1e20')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = f"{value:,}" if isinstance(value, int) else _rounded(value, digits)
    return text.replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = int(exponent)
    return f"{value:,.0f}" if 0 < power < 7 else f"{mantissa}e{power}"


def interval(low: Any, high: Any) -> str:
    """Such as "[low, high]"; empty where an end is not known."""
    if any(end is None or math.isnan(end) for end in (low, high)):
        return ""
    return f"[{number(low)}, {number(high)}]"


def percent(share: float) -> str:
    """A share as a percentage with one digit."""
    return f"{100 * share:.1f} %".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """Such as "1 photograph" and "2 photographs"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def region_name(name: str) -> str:
    """A region's name without underscores."""
    return name.replace("_", " ")


def on_page(table: Table, **headings: str) -> Table:
    """A result's table as a page shows it: region names as words, three significant digits, other headings."""
    columns = [
        replace(
            column,
            heading=headings.get(column.name, column.heading),
            format=region_name if column.name == "region" else column.format,
        )
        for column in table.columns
    ]
    return replace(table, columns=columns).with_numbers(number, NOTHING)


@dataclass(frozen=True)
class Scale:
    """The values that colours stand for; all maps of a comparison share one scale.

    Attributes:
        kind: of the palette.
        low, high: the values of the first and the last colour.
        unit: in words.
        note: about values beyond the ends; empty if there are none.
    """

    kind: Kind
    low: float
    high: float
    unit: str
    note: str = ""

    @property
    def ticks(self) -> list[str]:
        """Labels of the lower end, the middle and the upper end of the colour bar."""
        return [number(value) for value in (self.low, (self.low + self.high) / 2, self.high)]

    @property
    def bar(self) -> str:
        """The colour bar as the source of an image."""
        return png(np.arange(LEVELS, dtype=np.uint8)[None].repeat(8, 0), palette(self.kind))

    def as_json(self) -> dict[str, Any]:
        """For the page's script, which shows values in words."""
        return {"kind": self.kind, "low": self.low, "high": self.high, "unit": self.unit}

    def levels(self, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8 indices in the palette; NaN, for unseen pixels, becomes UNSEEN_LEVEL."""
        share = (np.nan_to_num(values) - self.low) / ((self.high - self.low) or 1.0)
        level = np.rint(share.clip(0, 1) * (LEVELS - 1))
        return np.where(np.isfinite(values), level, UNSEEN_LEVEL).astype(np.uint8)


@dataclass(frozen=True)
class Panel:
    """A map as an image.

    Attributes:
        title: above it.
        text: a description for screen readers.
        source: of the image.
        scale: of its colours.
        size: (H, W) of the map in pixels.
        caption: below it.
    """

    title: str
    text: str
    source: str
    scale: Scale
    size: tuple[int, int]
    caption: str = ""


def signed_scale(maps: Iterable[np.ndarray], unit: str) -> Scale:
    """Symmetric about 0, as in all figures of maps: its ends are a high percentile of the absolute values."""
    values = np.concatenate([each.ravel() for each in maps] or [np.zeros(0)])
    norm, note, _ = scale_of(values, None)
    end = float(norm.vmax or 1.0)
    return Scale("diverging", -end, end, unit, note.strip("()"))


def error_scale(maps: Iterable[np.ndarray], unit: str) -> Scale:
    """From 0 to a high percentile."""
    signed = signed_scale(maps, unit)
    return Scale("error", 0.0, signed.high, unit, signed.note)


def count_scale(maps: Iterable[np.ndarray], unit: str) -> Scale:
    """From 0 to the largest number."""
    largest = max((float(np.nanmax(each)) for each in maps if np.isfinite(each).any()), default=0.0)
    return Scale("count", 0.0, largest or 1.0, unit)


def seen_values(values: Tensor, count: Tensor) -> np.ndarray:
    """A map (1, H, W) as (H, W), NaN where nothing was seen."""
    return values_of(values, count)


def panel_of(
    values: np.ndarray, scale: Scale, title: str, regions: RegionNames | None = None, caption: str = ""
) -> Panel:
    """A map as a panel; with ``regions`` its description names the region of the largest value."""
    source = png(scale.levels(values), palette(scale.kind))
    text = _description(values, title, regions)
    return Panel(title, text, source, scale, (values.shape[0], values.shape[1]), caption)


def _description(values: np.ndarray, title: str, regions: RegionNames | None) -> str:
    if not np.isfinite(values).any():
        return f"{title}: nothing was seen."
    place = np.unravel_index(int(np.nanargmax(np.abs(values))), values.shape)
    where = regions.at(int(place[0]), int(place[1])) if regions else None
    inside = f" ({where})" if where else ""
    largest = f"the largest magnitude is {number(float(values[place]))}{inside}"
    return f"{title}: {largest}; values from {number(float(np.nanmin(values)))} to {number(float(np.nanmax(values)))}."


@dataclass(frozen=True, eq=False)
class RegionNames:
    """The region of each pixel of a canonical face.

    Attributes:
        names: of the regions, in words.
        places: (H, W) uint8, 0 for none, else 1 + the index of the region in ``names``.
    """

    names: Sequence[str]
    places: np.ndarray

    @classmethod
    def of(cls, face: CanonicalFace) -> RegionNames:
        """The regions of a face; a pixel in several regions gets the last one."""
        places = np.zeros(face.size, np.uint8)
        names = list(face.regions)[:255]
        for place, name in enumerate(names, 1):
            places[face.region_mask(name).numpy()] = place
        return cls([name.replace("_", " ") for name in names], places)

    def at(self, row: int, column: int) -> str | None:
        """The name of a pixel's region, or None."""
        place = int(self.places[row, column])
        return self.names[place - 1] if place else None

    @property
    def source(self) -> str:
        """The source of an image whose grey levels are the places."""
        return png(self.places, np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1))


def drawing_of(face: CanonicalFace) -> str:
    """The face's image, pale and grey, as the source of an image that is multiplied with maps."""
    grey = np.rint(255 * (DARKEST + (1 - DARKEST) * grey_of(face))).astype(np.uint8)
    return png(grey, np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1))


def mesh_of(face: CanonicalFace) -> dict[str, Any] | None:
    """Vertices (x, y, z in pixels of the face's image) and triangles as lists; None if the face has no surface.

    The page's script divides the triangles and colours them from the flat maps, so that both show the same values.
    """
    flat = float(face.vertices[:, 2].max() - face.vertices[:, 2].min()) == 0
    if not len(face.triangles) or flat:
        return None
    vertices = [[round(value, 2) for value in vertex] for vertex in face.vertices.tolist()]
    return {"vertices": vertices, "triangles": face.triangles.tolist(), "size": list(face.size)}


def thumbnail_of(values: np.ndarray, side: int) -> np.ndarray:
    """A smaller map: means over the seen pixels of square blocks; NaN where none was seen.

    Args:
        values: (H, W), NaN where nothing was seen.
        side: of the result in pixels; the longer side is at most this.
    """
    block = max(1, math.ceil(max(values.shape) / side))
    height, width = (math.ceil(length / block) * block for length in values.shape)
    padded = np.full((height, width), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(height // block, block, width // block, block)
    seen = np.isfinite(blocks)
    count = seen.sum((1, 3))
    return np.where(count > 0, np.where(seen, blocks, 0).sum((1, 3)) / count.clip(min=1), np.nan)


def png(levels: np.ndarray, colours: np.ndarray) -> str:
    """(H, W) uint8 palette indices as the source of an image; UNSEEN_LEVEL is transparent in a palette of LEVELS."""
    image = Image.fromarray(levels).convert("P")  # keeps the levels
    holes = {"transparency": UNSEEN_LEVEL} if len(colours) == LEVELS else {}
    image.putpalette(np.vstack([colours, np.zeros((256 - len(colours), 3))]).astype(np.uint8).tobytes())
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True, **holes)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def jpeg(photo: np.ndarray) -> str:
    """(H, W, 3) uint8 as the source of an image without metadata."""
    target = io.BytesIO()
    Image.fromarray(photo).save(target, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()
