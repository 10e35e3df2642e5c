"""The parts of all figures: maps over grey pictures, colour scales, palettes and colour bars."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Patch
from torch import Tensor

from captum_canonical.checks import check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

Map = Tensor | np.ndarray
Picture = Tensor | np.ndarray | CanonicalFace

COLORS = colormaps["RdBu_r"]  # diverging and safe for red-green blindness; red speaks for the target
PALEST = 0.18
OPACITY = 0.9
DARKEST = 0.6
"""Brightness of black in a picture beneath a map: pale, so that the map's colours stand out."""
MIDDLE = (1 + DARKEST) / 2
UNSEEN = (0.2, 0.2, 0.2, 0.58)
"""Over unseen pixels; on a picture its greys lie between 0.37 and 0.54, darker than those of seen pixels at 0."""
PERCENTILE = 99.5
"""The scale ends at this percentile of the absolute values, so that single pixels do not make the others pale."""


@dataclass(frozen=True, eq=False)
class MapOnPicture:
    """A map, NaN where nothing was seen, over a picture; or a picture alone."""

    values: np.ndarray | None
    picture: np.ndarray


def draw_cell(axis: Axes, cell: MapOnPicture, norm: Normalize) -> None:
    """Draws the map over its picture, stretched to the picture's size."""
    height, width = cell.picture.shape[:2]
    place: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "antialiased"}
    axis.set(xticks=[], yticks=[], frame_on=False)
    if cell.values is None:
        axis.imshow(cell.picture, **place)
        return
    beneath = DARKEST + (1 - DARKEST) * cell.picture
    axis.imshow(np.repeat(beneath[..., None], 3, axis=2), **place)
    axis.imshow(heat(cell.values, norm), **place)


def colour_bar(
    figure: FigureBase, norm: Normalize, axes: Sequence[Axes] | np.ndarray, label: str, extend: str = "neither"
) -> Colorbar:
    """The bar beside some axes, in the colours that values have on a picture of middle brightness."""
    shown = ListedColormap(over(heat(norm.inverse(np.linspace(0, 1, 256)), norm), MIDDLE))
    bar = figure.colorbar(ScalarMappable(norm, shown), ax=axes, extend=extend, aspect=25, pad=0.02)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return bar


def legend_of_unseen(figure: FigureBase, values: Sequence[np.ndarray]) -> None:
    """Explains dark grey if some map has unseen pixels."""
    if not all(np.isfinite(value).all() for value in values):
        patch = Patch(facecolor=tuple(over(np.array(UNSEEN), MIDDLE)), label="not seen")
        figure.legend(handles=[patch], loc="outside lower right", fontsize=7, frameon=False)


def heat(values: np.ndarray, norm: Normalize) -> np.ndarray:
    """(..., 4) colours to lay over a picture: transparent at 0, nearly opaque at the ends, dark grey where unseen."""
    share = norm(np.clip(np.nan_to_num(values), norm.vmin, norm.vmax)) * 2 - 1
    # The map's pale middle is left out: fading is the opacity's part, and a white veil would leave a dark line at 0.
    colors = COLORS(0.5 + np.sign(share) * (PALEST + (0.5 - PALEST) * np.abs(share)))
    colors[..., 3] = OPACITY * np.abs(share) ** 0.8  # below 1: faint values are still seen
    colors[~np.isfinite(values)] = UNSEEN
    return colors


def over(colors: np.ndarray, grey: float) -> np.ndarray:
    """(..., 3) colours with an alpha, blended over grey."""
    alpha = colors[..., 3:]
    return colors[..., :3] * alpha + grey * (1 - alpha)


def scale_of(values: np.ndarray, vmax: float | None) -> tuple[Normalize, str, str]:
    """A figure's scale, a note about it, and on which sides values lie beyond it (matplotlib's ``extend``)."""
    if vmax is not None:
        check_number(
            "vmax", vmax, above=0, below=np.inf, expected="a positive number, the value at the end of the scale"
        )
    seen = values[np.isfinite(values)]
    largest = float(np.abs(seen).max()) if seen.size else 0.0
    if vmax is None:
        vmax = float(np.percentile(np.abs(seen), PERCENTILE)) if seen.size else 0.0
        vmax = vmax or largest or 1.0  # a map that is 0 nearly everywhere: its largest value; all 0: any scale
    below, above = bool((seen < -vmax).any()), bool((seen > vmax).any())
    note = f"(clipped, largest |value| {largest:.2g})" if below or above else ""
    if not largest:
        note = "(all values are 0)" if seen.size else "(nothing was seen)"
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return Normalize(-vmax, vmax), note, extend[below, above]


class ShownFigure(Figure):
    """A figure that notebooks show as a picture, also where nothing has set up ``pyplot``.

    Example::

        >>> ShownFigure(figsize=(1, 1))._repr_png_()[1:4]
        b'PNG'
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


# ---------------------------------------------------------------------------------------------------- reading
def values_of(saliency: Map, coverage: Map | None, size: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W) float64, NaN where nothing was seen."""
    values = _plane(saliency, "map")
    if size is not None and values.shape != size:
        raise CanonicalError(f"expected a map of the canonical face's size {size}, got {values.shape}.")
    if coverage is not None:
        hits = _plane(coverage, "coverage")
        if hits.shape != values.shape:
            raise CanonicalError(f"expected a coverage of the map's size {values.shape}, got {hits.shape}.")
        values = np.where(hits > 0, values, np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _plane(value: Map, what: str) -> np.ndarray:
    try:
        array = _array(value).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CanonicalError(f"expected one {what} of numbers, got a {type(value).__name__}.") from error
    plane = array.reshape(array.shape[-2:]) if array.ndim >= 2 and array.size == np.prod(array.shape[-2:]) else None
    if plane is None or not plane.size:
        raise CanonicalError(f"expected one {what} of shape (H, W), (1, H, W) or (1, 1, H, W), got {array.shape}.")
    return plane


def picture_of(picture: Picture) -> np.ndarray:
    """(H, W, 3) float64 in 0..1."""
    array = _array(picture.image if isinstance(picture, CanonicalFace) else picture)
    if array.dtype == np.uint8:
        array = array / 255.0
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    array = array[..., None] if array.ndim == 2 else array
    good = array.ndim == 3 and array.shape[-1] in (1, 3) and array.size and array.dtype.kind == "f"
    if not good or not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise CanonicalError(
            f"expected a picture (3, H, W) of floats in 0..1 or (H, W, 3) uint8, got {array.dtype} of shape "
            f"{array.shape}; undo the network's normalisation."
        )
    return np.repeat(array.clip(0, 1), 3 // array.shape[-1], axis=2).astype(np.float64)


def grey_of(picture: Picture) -> np.ndarray:
    """(H, W) brightness in 0..1."""
    return picture_of(picture) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma


def _array(value: object) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


LEVELS = 255
"""Number of colours of a scale: odd, so that 0 has a colour of its own."""
UNSEEN_LEVEL = LEVELS
"""Index in a palette for unseen pixels."""
Kind = Literal["diverging", "error", "count"]
_SEQUENTIAL = {"error": "Purples", "count": "Greens"}  # one hue each, from light to dark


def palette(kind: Kind) -> np.ndarray:
    """(LEVELS, 3) uint8 colours on white paper, from the lowest to the highest value.

    Args:
        kind: ``"diverging"`` for signed values, in the colours of all figures of maps (red speaks for the target);
            ``"error"`` and ``"count"`` for values from 0 on, light to dark. All are safe for red-green
            blindness.

    Example::

        >>> colours = palette("diverging")
        >>> colours.shape, colours[127].tolist()  # 0 is white
        ((255, 3), [255, 255, 255])
    """
    share = np.linspace(0, 1, LEVELS)
    if kind == "diverging":
        colours = over(heat(2 * share - 1, Normalize(-1, 1)), 1.0)
    else:
        colours = colormaps[_SEQUENTIAL[kind]](0.95 * share)[:, :3]
    return np.rint(255 * colours).astype(np.uint8)


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8c6d1f")
"""Of lines. The first six are of the Okabe-Ito palette, without yellow, too pale for lines, and black, for controls."""
CONTROL = "0.5"


def plain_axes(axis: Axes, title: str = "") -> None:
    """Small labels, and spines on two sides only."""
    axis.set_title(title, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def wrapped(text: str, width: int) -> str:
    """The text wrapped at spaces to a width in letters; its own line breaks stay."""
    return "\n".join("\n".join(textwrap.wrap(line, width, break_on_hyphens=False)) for line in text.split("\n"))
