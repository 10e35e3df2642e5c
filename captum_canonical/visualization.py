"""Figures: maps over the canonical face or over photographs, with one colour scale per figure.

Every function returns a :class:`matplotlib.figure.Figure`, made without pyplot: nothing is shown, no global state is
touched, and no display is needed. Save it with ``figure.savefig(path)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError

Map = Tensor | np.ndarray
Picture = Tensor | np.ndarray | CanonicalFace

COLORS = colormaps["RdBu_r"]  # diverging, and told apart without red-green vision: red speaks for the target
PALEST = 0.18
OPACITY = 0.9
DARKEST = 0.6
"""Brightness of black in a picture beneath a map: pale, so that the map's colours are seen and grey is not."""
MIDDLE = (1 + DARKEST) / 2
UNSEEN = (0.2, 0.2, 0.2, 0.58)
"""Laid over what was not seen: its greys lie between 0.37 and 0.54, darker than any that was seen and is 0."""
PERCENTILE = 99.5
"""The scale ends at this percentile of the absolute values, so that single pixels do not pale everything else."""


def show_canonical(
    saliency: Map,
    canonical_face: CanonicalFace,
    coverage: Map | None = None,
    *,
    vmax: float | None = None,
    unit: str = "drop in probability",
    title: str | None = None,
) -> Figure:
    """One map over the canonical face.

    Args:
        saliency: (H, W), (1, H, W) or (1, 1, H, W); NaN counts as not seen.
        canonical_face: the face that the map is written on.
        coverage: like the map; grey where it is 0. Default: all seen.
        vmax: value at the ends of the colour scale, which is symmetric around 0. Default: a high percentile of the
            absolute values, see :data:`PERCENTILE`; the colour bar says when values lie beyond.
        unit: what the values are, written beside the colour bar.
        title: written above.

    Raises:
        CanonicalError: a shape or vmax is not as above.

    Example::

        >>> import torch
        >>> face = CanonicalFace.default(size=64)
        >>> figure = show_canonical(torch.ones(1, 1, 64, 64), face, unit="drop in log-odds")
        >>> figure.axes[-1].get_ylabel()
        'drop in log-odds'
    """
    cell = _Cell(_values(saliency, coverage, canonical_face.size), _grey(canonical_face))
    return _draw([[cell]], [title or ""], None, vmax, unit, side=3.4)


def show_on_photo(
    saliency: Map,
    photo: Picture,
    coverage: Map | None = None,
    *,
    vmax: float | None = None,
    unit: str = "drop in probability",
    title: str | None = None,
) -> Figure:
    """One image-space map over its photograph.

    The map is stretched over the whole photograph: both show the same part of the world, at any resolution.

    Args:
        saliency, coverage, vmax, unit, title: as in :func:`show_canonical`.
        photo: (3, H, W) or (1, 3, H, W) floats in 0..1, or (H, W, 3) uint8.
    """
    cell = _Cell(_values(saliency, coverage), _grey(photo))
    return _draw([[cell]], [title or ""], None, vmax, unit, side=3.4)


def montage(
    maps: Mapping[str, Map | Sequence[Map]],
    photos: Sequence[Picture] | Tensor | None = None,
    *,
    coverage: Mapping[str, Map | Sequence[Map]] | None = None,
    backgrounds: Picture | Mapping[str, Picture] | None = None,
    row_labels: Sequence[str] | None = None,
    vmax: float | None = None,
    unit: str = "drop in probability",
    title: str | None = None,
) -> Figure:
    """Rows of photographs, columns of methods, one colour scale for all of them.

    The same colour means the same value in every cell; there is no scaling of single maps. Without photographs the
    rows may be anything: model-level maps of several tasks are one row on one canonical face.

    Args:
        maps: column label -> its maps, (N, 1, H, W) or N maps of any size, one for each row.
        photos: N photographs, shown in a column of their own on the left.
        coverage: column label -> coverage of its maps; all seen in columns that are not in here.
        backgrounds: what lies beneath the maps: one picture or canonical face for all, or column label -> picture.
            Default, also for columns that are not in here: the row's photograph.
        row_labels: N labels.
        vmax, unit, title: as in :func:`show_canonical`.

    Raises:
        CanonicalError: numbers of rows differ, a column is unknown, or there is nothing to put a map over.

    Example::

        >>> import torch
        >>> face, maps = CanonicalFace.default(size=64), torch.randn(2, 1, 64, 64)
        >>> figure = montage({"Occlusion": maps, "Grad-CAM": maps / 2}, torch.rand(2, 3, 80, 64), backgrounds=face)
        >>> len(figure.axes)  # 2 x (photograph, Occlusion, Grad-CAM) and the colour bar
        7
    """
    columns = list(maps)
    rows = {len(maps[name]) for name in columns}
    wanted = [*rows] + [len(given) for given in (photos, row_labels) if given is not None]
    named, common = (backgrounds, None) if isinstance(backgrounds, Mapping) else ({}, backgrounds)
    unknown = [name for name in [*(coverage or ()), *named] if name not in maps]
    if len(set(wanted)) != 1 or not wanted[0] or unknown:
        raise CanonicalError(
            f"montage: expected as many maps in each column as there are photos and row labels, and columns among "
            f"{columns}, got {wanted} and {unknown}."
        )
    cells: list[list[_Cell]] = []
    for row in range(wanted[0]):
        photo = None if photos is None else photos[row]
        cells.append([] if photo is None else [_Cell(None, _picture(photo))])
        for name in columns:
            beneath = named.get(name, photo if common is None else common)
            if beneath is None:
                raise CanonicalError(f"montage: nothing lies beneath the maps of {name!r}; give photos or backgrounds.")
            seen = coverage[name][row] if coverage and name in coverage else None
            cells[-1].append(_Cell(_values(maps[name][row], seen), _grey(beneath)))
    labels = columns if photos is None else ["", *columns]
    return _draw(cells, labels, row_labels, vmax, unit, title=title)


# ------------------------------------------------------------------------------------------------------ drawing
@dataclass(frozen=True, eq=False)
class _Cell:
    """A map, NaN where nothing was seen, over a picture; without a map the picture itself."""

    values: np.ndarray | None
    picture: np.ndarray


def _draw(
    cells: list[list[_Cell]],
    column_labels: Sequence[str],
    row_labels: Sequence[str] | None,
    vmax: float | None,
    unit: str,
    title: str | None = None,
    side: float = 1.9,
) -> Figure:
    values = [cell.values for row in cells for cell in row if cell.values is not None]
    norm, note, extend = _scale(np.concatenate([value.ravel() for value in values]), vmax)
    height, width = (max(cell.picture.shape[axis] for row in cells for cell in row) for axis in (0, 1))
    size = (len(cells[0]) * side + 1.2, max(len(cells) * side * height / width + 0.4, 2.2))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(len(cells), len(cells[0]), squeeze=False)
    for line, row in zip(axes, cells, strict=True):
        for axis, cell in zip(line, row, strict=True):
            _draw_cell(axis, cell, norm)
    for axis, label in zip(axes[0], column_labels, strict=True):
        axis.set_title(label, fontsize=9)
    for axis, label in zip(axes[:, 0], row_labels or (), strict=False):
        axis.set_ylabel(label, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    steps = norm.inverse(np.linspace(0, 1, 256))
    shown = ListedColormap(_over(_heat(steps, norm), MIDDLE))  # as it looks on a picture of middle brightness
    bar = figure.colorbar(ScalarMappable(norm, shown), ax=axes, extend=extend, aspect=25, pad=0.02)
    bar.set_label(f"{unit}\n{note}" if note else unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if not all(np.isfinite(value).all() for value in values):
        patch = Patch(facecolor=tuple(_over(np.array(UNSEEN), MIDDLE)), label="not seen")
        figure.legend(handles=[patch], loc="outside lower right", fontsize=7, frameon=False)
    return figure


def _draw_cell(axis: Axes, cell: _Cell, norm: Normalize) -> None:
    height, width = cell.picture.shape[:2]
    place: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "antialiased"}
    axis.set(xticks=[], yticks=[], frame_on=False)
    if cell.values is None:
        axis.imshow(cell.picture, **place)
        return
    beneath = DARKEST + (1 - DARKEST) * cell.picture
    axis.imshow(np.repeat(beneath[..., None], 3, axis=2), **place)
    axis.imshow(_heat(cell.values, norm), **place)


def _heat(values: np.ndarray, norm: Normalize) -> np.ndarray:
    """(..., 4) colours to lay over a picture: transparent at 0, nearly opaque at the ends, dark grey where unseen."""
    share = norm(np.clip(np.nan_to_num(values), norm.vmin, norm.vmax)) * 2 - 1
    # The map's pale middle is left out: fading is the opacity's part, and a white veil would leave a dark line at 0.
    colors = COLORS(0.5 + np.sign(share) * (PALEST + (0.5 - PALEST) * np.abs(share)))
    colors[..., 3] = OPACITY * np.abs(share) ** 0.8  # below 1: faint values are still seen
    colors[~np.isfinite(values)] = UNSEEN
    return colors


def _over(colors: np.ndarray, grey: float) -> np.ndarray:
    """(..., 3) what colours with an alpha look like on grey."""
    alpha = colors[..., 3:]
    return colors[..., :3] * alpha + grey * (1 - alpha)


def _scale(values: np.ndarray, vmax: float | None) -> tuple[Normalize, str, str]:
    """The one scale of a figure, what to say about it, and on which sides values lie beyond it."""
    if vmax is not None and not 0 < vmax < np.inf:
        raise CanonicalError(f"vmax: expected a positive number, the value at the end of the scale, got {vmax}.")
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


# ---------------------------------------------------------------------------------------------------- reading
def _values(saliency: Map, coverage: Map | None, size: tuple[int, int] | None = None) -> np.ndarray:
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
    array = _array(value).astype(np.float64)
    plane = array.reshape(array.shape[-2:]) if array.ndim >= 2 and array.size == np.prod(array.shape[-2:]) else None
    if plane is None or not plane.size:
        raise CanonicalError(f"expected one {what} of shape (H, W), (1, H, W) or (1, 1, H, W), got {array.shape}.")
    return plane


def _picture(picture: Picture) -> np.ndarray:
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


def _grey(picture: Picture) -> np.ndarray:
    """(H, W) brightness in 0..1."""
    return _picture(picture) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma


def _array(value: object) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
