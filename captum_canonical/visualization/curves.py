"""Mean deletion and insertion curves of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_canonical.benchmarking.scores import BenchmarkRow, BenchmarkScores
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.visualization.benchmark import LABEL_WIDTH, chosen_of
from captum_canonical.visualization.drawing import COLOURS, CONTROL, plain_axes, wrapped

MOST_LINES = 8
"""Curves of a panel by default: more cannot be distinguished."""
SHARES = {"deletion": "hidden", "insertion": "shown"}


def show_curves(
    result: BenchmarkScores,
    rows: Sequence[str] | None = None,
    fills: Sequence[str] | None = None,
    *,
    space: Literal["image", "canonical"] = "image",
) -> Figure:
    """Mean scores while the face disappears (deletion, above) and appears (insertion, below), a column for each fill.

    The mean height of a row's curve is its ``deletion_auc`` or ``insertion_auc``. Controls are dashed.

    Args:
        result: of :func:`captum_canonical.benchmark`.
        rows: labels, such as ``"Grad-CAM, per image"``. Default: maps per image, methods before controls, at most
            :data:`MOST_LINES`, at least one control among them.
        fills: some of ``result.fills``, from left to right. Default: all.
        space: where shares of the face were counted, see :func:`removal_curves`.

    Raises:
        CanonicalError: there is no such row or fill, or there are no such curves.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_canonical import CanonicalFace, FaceMesh, benchmark
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(4, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> net = lambda x: x[:, :, 20:26, 12:20].mean((1, 2, 3))  # reads the mouth
        >>> photos, methods = torch.rand(4, 3, 32, 32), {"Saliency": Saliency(net)}
        >>> result = benchmark(net, photos, methods, faces=faces, canonical_face=face, fills=["mean"], folds=2)
        >>> figure = show_curves(result, ["Saliency, per image", "random, per image"])
        >>> [axis.get_title() for axis in figure.axes]
        ['deletion, fill: mean', 'insertion, fill: mean']
    """
    _, fills = chosen_of(result, None, fills)
    known = {row.label: row for row in result.rows if _curves(row, space)}
    chosen = _default_rows(known) if rows is None else list(rows)
    if not chosen or not set(chosen) <= set(known) or space not in ("image", "canonical"):
        raise CanonicalError(
            f"show_curves: expected space 'image' or 'canonical', and rows that have such curves, which are "
            f"{list(known)}; got {space!r} and {chosen}."
        )
    height = max(4.2, 0.24 * len(chosen))
    figure = Figure(figsize=(2.1 * len(fills) + 3.0, height), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(fills), sharey=True, squeeze=False)
    styles = _styles([known[label] for label in chosen])
    for column, fill in zip(axes.T, fills, strict=True):
        for axis, order in zip(column, SHARES, strict=True):
            plain_axes(axis, f"{order}, fill: {fill}")
            for label, style in zip(chosen, styles, strict=True):
                _draw_curve(axis, _curves(known[label], space)[fill], order, label, style)
            axis.set_xlabel(f"share of the face {SHARES[order]}", fontsize=7)
    for axis, order in zip(axes[:, 0], SHARES, strict=True):
        better = RemovalCurves.DIRECTIONS[f"{order}_auc"]
        axis.set_ylabel(f"mean score, {order}\n({better} is better)", fontsize=7)
    cut = rows is None and len(chosen) < sum(row.kind == "per image" for row in known.values())
    title = f"n = {len(result.interval_units)} images" + ("; not all rows" if cut else "")
    figure.legend(
        handles=axes[0, 0].lines,
        labels=[wrapped(label, LABEL_WIDTH) for label in chosen],
        title=title,
        loc="outside right upper",
        fontsize=7,
        title_fontsize=7,
        frameon=False,
    )
    return figure


def _curves(row: BenchmarkRow, space: str) -> dict[str, RemovalCurves]:
    if row.failure is not None:
        return {}
    return row.canonical_curves if space == "canonical" else row.curves


def _default_rows(known: Mapping[str, BenchmarkRow]) -> list[str]:
    methods = [label for label, row in known.items() if row.kind == "per image" and not row.control]
    controls = [label for label, row in known.items() if row.kind == "per image" and row.control]
    return [*methods[: MOST_LINES - bool(controls)], *controls][:MOST_LINES]


def _styles(rows: Sequence[BenchmarkRow]) -> list[dict[str, Any]]:
    """A colour for each method, greys for controls; when colours repeat, the dashes change."""
    styles, count = [], {False: 0, True: 0}
    for row in rows:
        colors, dashes = ((CONTROL, "black"), ("--", ":", "-.")) if row.control else (COLOURS, ("-", (0, (5, 1, 1, 1))))
        number = count[row.control]
        count[row.control] += 1
        dash: Any = dashes[number // len(colors) % len(dashes)]
        styles.append({"color": colors[number % len(colors)], "linestyle": dash})
    return styles


def _draw_curve(axis: Axes, curves: RemovalCurves, order: str, label: str, style: dict[str, Any]) -> None:
    x = curves.fractions if order == "deletion" else 1 - curves.fractions.flip(0)
    y = curves.deletion if order == "deletion" else curves.insertion
    axis.plot(np.asarray(x), np.asarray(y.mean(0)), label=label, linewidth=1.2, **style)
