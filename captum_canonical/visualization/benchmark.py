"""A benchmark's figures: values with their intervals as a forest plot, and mean deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from captum_canonical.benchmarking.scores import BenchmarkRow, BenchmarkScores
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.visualization.drawing import COLOURS, CONTROL, ShownFigure, plain_axes, wrapped

MARKERS = {"per image": "o", "canonical mean": "D"}
LABEL_WIDTH = 40
"""Letters of a row's label after which the line is wrapped."""
ROW, LINE, GAP = 0.2, 0.13, 0.14
"""Inches: height of a row, of each further line of its label, and of the gap above the controls."""


def show_benchmark(
    result: BenchmarkScores,
    measure: str | None = None,
    fills: Sequence[str] | None = None,
    *,
    axis_title: str | None = None,
) -> Figure:
    """One measure of all rows, a dot with its bootstrap interval for each, in one panel for each fill.

    Methods are above, controls below them in grey. Canonical means are diamonds, maps per image are circles. All
    panels share one scale. :meth:`BenchmarkResult.plot` adds the measure's title and direction.

    :func:`montage` draws the mean maps, as in the last lines of the example, each on a scale of its own because the
    units of methods differ.

    Args:
        result: of :func:`captum_canonical.benchmark`.
        measure: one of ``result.measures``. Default: the first.
        fills: some of ``result.fills``, from left to right. Default: all.
        axis_title: the measure's title and which direction is better. Default: its name.

    Raises:
        CanonicalError: there is no such measure or fill.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_canonical import CanonicalFace, FaceMesh, benchmark
        >>> face = CanonicalFace.default(32)
        >>> faces = FaceMesh(face.vertices.repeat(4, 1, 1), image_size=(32, 32), topology=face.topology)
        >>> net = lambda x: x[:, :, 20:26, 12:20].mean((1, 2, 3))  # reads the mouth
        >>> methods = {"Saliency": Saliency(net)}
        >>> options = {"faces": faces, "canonical_face": face, "fills": ["mean", "blur"], "fractions": [0, 0.5, 1]}
        >>> result = benchmark(net, torch.rand(4, 3, 32, 32), methods, folds=2, **options)
        >>> figure = show_benchmark(result, "gain", axis_title="Gain (higher is better)")
        >>> [axis.get_title() for axis in figure.axes]
        ['fill: mean', 'fill: blur']
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()][:2]
        ['Saliency, per image', 'Saliency, canonical mean']
        >>> from captum_canonical.visualization import montage
        >>> shares = {name: [mean / mean.nan_to_num().abs().max()] for name, mean in result.mean_maps.items()}
        >>> beneath = {name: result.canonical_faces[name] for name in shares}
        >>> figure = montage(shares, backgrounds=beneath, vmax=1, unit="share of the map's largest value")
        >>> [axis.get_title() for axis in figure.axes[:-1]]
        ['Saliency', 'random', 'edges']
    """
    measure, fills = chosen_of(result, measure, fills)
    rows = sorted(result.rows, key=lambda row: row.control)  # stable: methods first, in the order of the table
    labels = [wrapped(row.label + (" (failed)" if row.failure is not None else ""), LABEL_WIDTH) for row in rows]
    positions, end = _positions(rows, labels)
    width = 0.065 * max(len(line) for label in labels for line in label.split("\n")) + 2.1 * len(fills) + 0.3
    figure = ShownFigure(figsize=(max(width, 4.5), end + 1.2), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(fills), sharex=True, sharey=True, squeeze=False)[0]
    for axis, fill in zip(axes, fills, strict=True):
        plain_axes(axis, f"fill: {fill}")
        for row, position in zip(rows, positions, strict=True):
            _draw_row(axis, position, row, row.value(measure, fill), result.interval(row.label, measure, fill))
    low, high = axes[0].get_xlim()
    for axis in axes:
        if low < 0 < high:
            axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        for number in range(1, len(rows)):
            if rows[number].control and not rows[number - 1].control:
                axis.axhline((positions[number - 1] + positions[number]) / 2, color="0.6", linewidth=0.6)
    axes[0].set_yticks(positions, labels)
    axes[0].set_ylim(end, 0)
    for tick, row in zip(axes[0].get_yticklabels(), rows, strict=True):
        tick.set_color(CONTROL if row.control else "black")
    title = axis_title or measure.replace("_", " ")
    figure.supxlabel(f"{title}\n{_caption(result, rows, measure, fills)}", fontsize=8, linespacing=1.5)
    figure.legend(handles=_legend_handles(rows), loc="outside upper center", ncols=3, fontsize=7, frameon=False)
    return figure


def _positions(rows: Sequence[BenchmarkRow], labels: Sequence[str]) -> tuple[list[float], float]:
    """The middle of each row, and the end of the last one, in inches from the top; wrapped labels get more room."""
    positions, end = [], 0.0
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        end += GAP if row.control and number and not rows[number - 1].control else 0.0
        height = ROW + LINE * label.count("\n")
        positions.append(end + height / 2)
        end += height
    return positions, end


def _draw_row(axis: Axes, position: float, row: BenchmarkRow, value: float, interval: tuple[float, float]) -> None:
    color = CONTROL if row.control else COLOURS[0]
    axis.axhline(position, color="0.92", linewidth=0.6, zorder=0)
    if value != value:
        missing = "failed" if row.failure is not None else "no value"
        beside: Any = axis.get_yaxis_transform()
        style: dict[str, Any] = {"fontsize": 6, "style": "italic", "va": "center", "color": "0.45"}
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(0.02, position, missing, transform=beside, bbox=behind, **style)
        return
    if interval[0] == interval[0]:
        axis.plot(interval, (position, position), color=color, linewidth=1.4, solid_capstyle="butt")
    axis.plot([value], [position], marker=MARKERS[row.kind], color=color, markersize=4.5, linestyle="none")


def chosen_of(result: BenchmarkScores, measure: str | None, fills: Sequence[str] | None) -> tuple[str, list[str]]:
    """The measure and the fills to draw."""
    measures, known = result.measures, result.fills
    measure = measure if measure is not None or not measures else measures[0]
    chosen = list(known if fills is None else fills)
    if measure not in measures or not chosen or isinstance(fills, str) or not set(chosen) <= set(known):
        raise CanonicalError(
            f"expected one of the measures {list(measures)} and one or more of the fills {list(known)}, got "
            f"{measure!r} and {fills!r}."
        )
    return measure, chosen


def _caption(result: BenchmarkScores, rows: Sequence[BenchmarkRow], measure: str, fills: Sequence[str]) -> str:
    """How many images there are, and how intervals are made."""
    values = [row.per_image[measure, fill] for row in rows for fill in fills if (measure, fill) in row.per_image]
    counts = {int((~value.isnan()).sum()) for value in values} or {0}
    n = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    units = len(result.interval_units.unique())
    if units < 2:
        return f"n = {n} images; no intervals: there is but one to resample"
    settings = result.settings
    by = "images" if units == len(result.interval_units) else "identities"
    return (
        f"n = {n} images; {100 * settings['level']:g} % bootstrap intervals, {settings['resamples']} resamples of "
        f"{units} {by}"
    )


def _legend_handles(rows: Sequence[BenchmarkRow]) -> list[Line2D]:
    """The markers and colours that occur, with their meaning."""
    style: dict[str, Any] = {"linestyle": "none", "markersize": 4.5}
    present = {row.kind for row in rows}
    handles = [
        Line2D([], [], marker=marker, color=COLOURS[0], label=kind, **style)
        for kind, marker in MARKERS.items()
        if kind in present
    ]
    if any(row.control for row in rows):
        label = "control: knows nothing of the network"
        handles.append(Line2D([], [], marker="s", color=CONTROL, label=label, **style))
    return handles


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
    figure = ShownFigure(figsize=(2.1 * len(fills) + 3.0, height), dpi=150, layout="constrained")
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
