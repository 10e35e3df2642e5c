"""Maps over the canonical face or over photographs, with one colour scale per figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from captum_canonical.checks import check_integer
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace, FaceLike
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.visualization.drawing import (
    Map,
    MapOnPicture,
    Picture,
    ShownFigure,
    colour_bar,
    draw_cell,
    grey_of,
    legend_of_unseen,
    picture_of,
    scale_of,
    values_of,
    wrapped,
)

COLUMN_WIDTH = 24
"""Letters of a column's label after which the line is wrapped."""


def show_canonical(
    saliency: Map,
    canonical_face: FaceLike,
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
    face = CanonicalFace.of(canonical_face)
    cell = MapOnPicture(values_of(saliency, coverage, face.size), grey_of(face))
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

    Example::

        >>> import torch
        >>> figure = show_on_photo(torch.randn(1, 1, 16, 16), torch.rand(3, 64, 64), unit="drop in log-odds")
        >>> len(figure.axes)  # the photograph and the colour bar
        2
    """
    cell = MapOnPicture(values_of(saliency, coverage), grey_of(photo))
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
        backgrounds: the pictures beneath the maps: one picture or canonical face for all, or column label -> picture.
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
    sized = all(isinstance(each, Sized) for each in (photos, row_labels) if each is not None)
    if not isinstance(maps, Mapping) or not sized:
        raise CanonicalError(
            f"montage: expected maps by the labels of their columns, and photos and row labels as sequences, got "
            f"{type(maps).__name__}, {type(photos).__name__} and {type(row_labels).__name__}."
        )
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
    cells: list[list[MapOnPicture]] = []
    for row in range(wanted[0]):
        photo = None if photos is None else photos[row]
        cells.append([] if photo is None else [MapOnPicture(None, picture_of(photo))])
        for name in columns:
            beneath = named.get(name, photo if common is None else common)
            if beneath is None:
                raise CanonicalError(f"montage: nothing lies beneath the maps of {name!r}; give photos or backgrounds.")
            seen = coverage[name][row] if coverage and name in coverage else None
            cells[-1].append(MapOnPicture(values_of(maps[name][row], seen), grey_of(beneath)))
    labels = [wrapped(name, COLUMN_WIDTH) for name in columns]
    labels = labels if photos is None else ["", *labels]
    return _draw(cells, labels, row_labels, vmax, unit, title=title)


def _draw(
    cells: list[list[MapOnPicture]],
    column_labels: Sequence[str],
    row_labels: Sequence[str] | None,
    vmax: float | None,
    unit: str,
    title: str | None = None,
    side: float = 1.9,
) -> Figure:
    values = [cell.values for row in cells for cell in row if cell.values is not None]
    norm, note, extend = scale_of(np.concatenate([value.ravel() for value in values]), vmax)
    height, width = (max(cell.picture.shape[axis] for row in cells for cell in row) for axis in (0, 1))
    further_lines = 0.15 * max(label.count("\n") for label in column_labels)
    size = (len(cells[0]) * side + 1.2, max(len(cells) * side * height / width + 0.4, 2.2) + further_lines)
    figure = ShownFigure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(len(cells), len(cells[0]), squeeze=False)
    for line, row in zip(axes, cells, strict=True):
        for axis, cell in zip(line, row, strict=True):
            draw_cell(axis, cell, norm)
    for axis, label in zip(axes[0], column_labels, strict=True):
        axis.set_title(label, fontsize=9)
    for axis, label in zip(axes[:, 0], row_labels or (), strict=False):
        axis.set_ylabel(label, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    colour_bar(figure, norm, axes, f"{unit}\n{note}" if note else unit, extend)
    for axis in axes[0] if further_lines else ():
        axis.set_anchor("S")  # low in its place, so that the label has room; colour bars set it, too
    legend_of_unseen(figure, values)
    return figure


LETTERS = 24  # of a label in one line


def show_strata(
    strata: Mapping[str, ModelSaliency],
    *,
    columns: int = 4,
    vmax: float | None = None,
    unit: str = "drop in probability",
    title: str | None = None,
) -> Figure:
    r"""The mean maps of strata, or of any results, on one scale: the same colour means the same value in all of them.

    Maps of few photographs look stronger than they are, because their noise does: each label says how many there are.
    Whether two strata differ is for :func:`~captum_canonical.compare_groups` to say.

    Args:
        strata: label -> result, such as :meth:`ModelSaliency.strata` gives.
        columns: maps in a line.
        vmax, unit, title: as in :func:`show_canonical`.

    Raises:
        CanonicalError: there are no strata, one has no canonical face, or an argument does not fit.

    Example::

        >>> import torch
        >>> from captum_canonical import CanonicalFace
        >>> face = CanonicalFace.default(size=64)
        >>> maps = torch.randn(5, 1, 64, 64)
        >>> result = ModelSaliency.from_maps(maps, None, face, label=[0, 1, 1, 0, 1], predicted=[0, 1, 0, 0, 1])
        >>> figure = show_strata(result.strata("correct"), unit="drop in log-odds", columns=2)
        >>> [axis.get_title() for axis in figure.axes[:2]]
        ['correct\n4 photographs', 'wrong\n1 photograph']
    """
    if (
        not isinstance(strata, Mapping)
        or not strata
        or not all(isinstance(each, ModelSaliency) for each in strata.values())
    ):
        raise CanonicalError("show_strata: expected results by label, such as those of result.strata(...).")
    check_integer("columns", columns, 1)
    faces = {label: each.face("show_strata") for label, each in strata.items()}
    cells = {
        label: MapOnPicture(values_of(each.mean, each.count, faces[label].size), grey_of(faces[label]))
        for label, each in strata.items()
    }
    values = [cell.values for cell in cells.values() if cell.values is not None]
    norm, note, extend = scale_of(np.concatenate([value.ravel() for value in values]), vmax)
    labels = {label: wrapped(f"{label}\n{_counted(each.n)}", LETTERS) for label, each in strata.items()}
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    height = 1.9 + 0.15 * (1 + max(label.count("\n") for label in labels.values()))
    figure = ShownFigure(figsize=(1.9 * columns + 1.2, max(lines * height + 0.3 * bool(title), 2.4)), dpi=150)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(cells) :]:
        axis.set_axis_off()
    for axis, (label, cell) in zip(axes.flat, cells.items(), strict=False):
        draw_cell(axis, cell, norm)
        axis.set_title(labels[label], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    colour_bar(figure, norm, axes, f"{unit}\n{note}" if note else unit, extend)
    legend_of_unseen(figure, values)
    return figure


def _counted(photographs: int) -> str:
    return f"{photographs:,} photograph{'s' if photographs != 1 else ''}"
