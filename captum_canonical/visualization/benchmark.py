"""What a benchmark has found: values with their intervals, as a forest of dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.visualization.drawing import COLOURS, CONTROL, plain_axes, wrapped

MARKERS = {"per image": "o", "canonical mean": "D"}
LABEL_WIDTH = 40
"""Letters of a row's label beyond which it goes on in the next line."""
ROW, LINE, GAP = 0.2, 0.13, 0.14
"""Inches: height of a row, of each further line of its label, and what is left free above the controls."""


class RowToDraw(Protocol):
    """What is drawn of a row: see :class:`captum_canonical.benchmarking.BenchmarkRow`."""

    kind: Any
    control: bool
    per_image: dict[tuple[str, str], Tensor]
    curves: dict[str, RemovalCurves]
    canonical_curves: dict[str, RemovalCurves]
    failure: str | None

    @property
    def label(self) -> str:
        """Unique."""

    def value(self, measure: str, fill: str) -> float:
        """NaN if there is none."""


class Benchmark(Protocol):
    """What is drawn of a :class:`captum_canonical.BenchmarkResult`, which lies above this package."""

    @property
    def rows(self) -> Sequence[RowToDraw]:
        """In the order of the table."""

    @property
    def fills(self) -> tuple[str, ...]:
        """Names."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names."""

    @property
    def settings(self) -> dict[str, Any]:
        """With the level and the number of resamples of the intervals."""

    @property
    def interval_units(self) -> Tensor:
        """(N,) int64, what intervals are resampled by."""

    def interval(self, label: str, measure: str, fill: str) -> tuple[float, float]:
        """NaN if there is none."""


def show_benchmark(
    result: Benchmark,
    measure: str | None = None,
    fills: Sequence[str] | None = None,
    *,
    axis_title: str | None = None,
) -> Figure:
    """One measure of all rows, a dot with its bootstrap interval for each, in one panel for each fill.

    Methods stand above, controls below them in grey. Canonical means are diamonds, maps per image are circles. All
    panels have the same scale. :meth:`BenchmarkResult.plot` is the same with the measure's title and direction.

    Mean maps need no figure of their own: :func:`montage` draws them, as in the last lines of the example, each on a
    scale of its own because the units of methods differ.

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
    places, end = _places(rows, labels)
    width = 0.065 * max(len(line) for label in labels for line in label.split("\n")) + 2.1 * len(fills) + 0.3
    figure = Figure(figsize=(max(width, 4.5), end + 1.2), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(fills), sharex=True, sharey=True, squeeze=False)[0]
    for axis, fill in zip(axes, fills, strict=True):
        plain_axes(axis, f"fill: {fill}")
        for row, place in zip(rows, places, strict=True):
            _draw_row(axis, place, row, row.value(measure, fill), result.interval(row.label, measure, fill))
    low, high = axes[0].get_xlim()
    for axis in axes:
        if low < 0 < high:
            axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        for number in range(1, len(rows)):
            if rows[number].control and not rows[number - 1].control:
                axis.axhline((places[number - 1] + places[number]) / 2, color="0.6", linewidth=0.6)
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(end, 0)
    for tick, row in zip(axes[0].get_yticklabels(), rows, strict=True):
        tick.set_color(CONTROL if row.control else "black")
    title = axis_title or measure.replace("_", " ")
    figure.supxlabel(f"{title}\n{_how(result, rows, measure, fills)}", fontsize=8, linespacing=1.5)
    figure.legend(handles=_kinds(rows), loc="outside upper center", ncols=3, fontsize=7, frameon=False)
    return figure


def _places(rows: Sequence[RowToDraw], labels: Sequence[str]) -> tuple[list[float], float]:
    """The middle of each row, and the end of the last, in inches from the top: long names have more room."""
    places, end = [], 0.0
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        end += GAP if row.control and number and not rows[number - 1].control else 0.0
        height = ROW + LINE * label.count("\n")
        places.append(end + height / 2)
        end += height
    return places, end


def _draw_row(axis: Axes, place: float, row: RowToDraw, value: float, interval: tuple[float, float]) -> None:
    color = CONTROL if row.control else COLOURS[0]
    axis.axhline(place, color="0.92", linewidth=0.6, zorder=0)
    if value != value:
        missing = "failed" if row.failure is not None else "no value"
        beside: Any = axis.get_yaxis_transform()
        style: dict[str, Any] = {"fontsize": 6, "style": "italic", "va": "center", "color": "0.45"}
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axis.text(0.02, place, missing, transform=beside, bbox=behind, **style)
        return
    if interval[0] == interval[0]:
        axis.plot(interval, (place, place), color=color, linewidth=1.4, solid_capstyle="butt")
    axis.plot([value], [place], marker=MARKERS[row.kind], color=color, markersize=4.5, linestyle="none")


def chosen_of(result: Benchmark, measure: str | None, fills: Sequence[str] | None) -> tuple[str, list[str]]:
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


def _how(result: Benchmark, rows: Sequence[RowToDraw], measure: str, fills: Sequence[str]) -> str:
    """How many images there are, and how intervals are made."""
    values = [row.per_image[measure, fill] for row in rows for fill in fills if (measure, fill) in row.per_image]
    counts = {int((~value.isnan()).sum()) for value in values} or {0}
    told = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    units = len(result.interval_units.unique())
    if units < 2:
        return f"n = {told} images; no intervals: there is but one to resample"
    settings = result.settings
    by = "images" if units == len(result.interval_units) else "identities"
    return (
        f"n = {told} images; {100 * settings['level']:g} % bootstrap intervals, {settings['resamples']} resamples of "
        f"{units} {by}"
    )


def _kinds(rows: Sequence[RowToDraw]) -> list[Line2D]:
    """What the markers and colours mean, as far as they occur."""
    style: dict[str, Any] = {"linestyle": "none", "markersize": 4.5}
    known = {row.kind for row in rows}
    kinds = [
        Line2D([], [], marker=MARKERS[kind], color=COLOURS[0], label=kind, **style) for kind in MARKERS if kind in known
    ]
    grey = Line2D([], [], marker="s", color=CONTROL, label="control: knows nothing of the network", **style)
    return kinds + ([grey] if any(row.control for row in rows) else [])
