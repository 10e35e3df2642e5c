"""Model-level maps of several kinds of photographs beside each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from captum_canonical.errors import CanonicalError
from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.visualization.cells import (
    Cell,
    colour_bar,
    draw_cell,
    grey_of,
    legend_of_unseen,
    scale_of,
    values_of,
)
from captum_canonical.visualization.lines import wrapped

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
    if not strata or not all(isinstance(each, ModelSaliency) for each in strata.values()):
        raise CanonicalError("show_strata: expected results by label, such as those of result.strata(...).")
    if isinstance(columns, bool) or not isinstance(columns, int) or columns < 1:
        raise CanonicalError(f"columns: expected an integer from 1 on, got {columns!r}.")
    faces = {label: each.face("show_strata") for label, each in strata.items()}
    cells = {
        label: Cell(values_of(each.mean, each.count, faces[label].size), grey_of(faces[label]))
        for label, each in strata.items()
    }
    values = [cell.values for cell in cells.values() if cell.values is not None]
    norm, note, extend = scale_of(np.concatenate([value.ravel() for value in values]), vmax)
    labels = {label: wrapped(f"{label}\n{_counted(each.n)}", LETTERS) for label, each in strata.items()}
    columns = min(columns, len(cells))
    lines = -(-len(cells) // columns)
    height = 1.9 + 0.15 * (1 + max(label.count("\n") for label in labels.values()))
    figure = Figure(figsize=(1.9 * columns + 1.2, max(lines * height + 0.3 * bool(title), 2.4)), dpi=150)
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
