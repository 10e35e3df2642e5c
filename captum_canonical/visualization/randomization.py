"""A model randomisation test: maps of one photograph and similarities, layer after layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.sanity.result import RandomizationTest
from captum_canonical.sanity.similarity import MEASURES, TOP
from captum_canonical.visualization.drawing import (
    COLOURS,
    MapOnPicture,
    Picture,
    ShownFigure,
    colour_bar,
    draw_cell,
    grey_of,
    legend_of_unseen,
    plain_axes,
    scale_of,
    values_of,
    wrapped,
)

MOST_PICTURES = 10
"""Layers whose maps are shown at most, evenly spaced from the first to the last."""
TITLES = {
    "spearman": "Spearman's rank correlation",
    "ssim": "SSIM",
    "top_share": f"share of the top {100 * TOP:g} %",
    "mass_overlap": "overlap of mass",
}
MARKERS = dict(zip(MEASURES, "osD^", strict=True))
ORDERS = {
    "top_down": "layers randomised so far, from the output on",
    "bottom_up": "layers randomised so far, from the input on",
    "independent": "the one layer that is randomised",
}
AGAIN = "none, run again"
BAR_WIDTH = 20
"""Letters beside a colour bar after which the line is wrapped."""


def show_randomization(
    result: RandomizationTest,
    canonical_face: CanonicalFace | None = None,
    photos: Sequence[Picture] | Tensor | None = None,
    *,
    example: int = 0,
    seed: int = 0,
    measures: Sequence[str] = ("spearman", "ssim"),
    unit: str = "drop in probability",
) -> Figure:
    """A map while layer after layer is randomised, as in the paper's Fig. 8, and how similar all maps stay.

    Above, the maps of one photograph on one scale, which shows them fade or explode; below each on a scale of its
    own, whose end is written beneath it, which shows their patterns. Then the curves: means over images and seeds,
    with a band of one standard deviation over the seeds on either side where there are several. Markers are hollow
    where a measure is undefined for some of the maps, and missing where it is for all. Without maps
    (``model_randomization(..., keep_maps=[0])`` keeps them) there are the curves alone.

    Args:
        result: of :func:`captum_canonical.model_randomization`.
        canonical_face: drawn beneath canonical maps, which have its size.
        photos: drawn beneath maps of photographs, which are stretched over them: all N of the test, in its order.
            Default, without a canonical face: white.
        example: whose maps, as a place in ``result.examples``. Channels are added up.
        seed: which random weights, as a place in ``result.seeds``.
        measures: one or more of ``"spearman"``, ``"ssim"``, ``"top_share"`` and ``"mass_overlap"``.
        unit: of the maps, written beside the colour bar.

    Raises:
        CanonicalError: there is no such example, seed or measure, or a picture does not fit.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> from captum_canonical import model_randomization
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(400, 2))
        >>> photos = torch.rand(2, 1, 12, 12)
        >>> test = model_randomization(Saliency(net), photos, target=1, keep_maps=[0])
        >>> figure = show_randomization(test, photos=photos, unit="gradient")
        >>> [axis.get_title() for axis in figure.axes[:3]]  # as they were, then layer after layer
        ['original', '2', '0']
    """
    _check(result, canonical_face, photos, example, seed, measures)
    shown = _evenly(len(result.layers)) if result.examples else []
    names = short_names(result.layers)
    width = max(5.5, 1.0 * (len(shown) + 1) + 1.0, 0.2 * len(names) + 1.5)
    turn = _turn(names, width)
    heights = [3.1 if shown else 0.0, 2.6 + 0.05 * max(map(len, names)) * (turn / 90)]
    figure = ShownFigure(figsize=(width, sum(heights)), dpi=150, layout="constrained")
    if shown:
        above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
        maps = [result.original[example], *result.maps[shown, seed, example]]
        beneath = canonical_face if photos is None else photos[result.examples[example]]
        titles = ["original", *(names[layer].replace(".", "\n") for layer in shown)]
        image, weights = result.examples[example], result.seeds[seed]
        above.suptitle(f"maps of image {image}, random weights of seed {weights}", fontsize=8)
        _draw_maps(above, [_cell(values, beneath, canonical_face) for values in maps], titles, unit)
    axis = (below if shown else figure).subplots()
    _draw_curves(axis, result, measures)
    _label_layers(axis, result.order, names, shown, turn)
    above_axis: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": int(width // 2)}
    axis.legend(title=_legend_title(result), fontsize=7, title_fontsize=7, frameon=False, **above_axis)
    return figure


def _check(
    result: RandomizationTest,
    canonical_face: CanonicalFace | None,
    photos: Sequence[Picture] | Tensor | None,
    example: int,
    seed: int,
    measures: Sequence[str],
) -> None:
    if canonical_face is not None and photos is not None:
        raise CanonicalError("show_randomization: expected a canonical face or photos beneath the maps, got both.")
    if photos is not None and len(photos) != len(result.flags):
        raise CanonicalError(f"photos: expected all {len(result.flags)} of the test, got {len(photos)}.")
    if not measures or isinstance(measures, str) or not set(measures) <= set(MEASURES):
        raise CanonicalError(f"measures: expected one or more of {MEASURES}, got {measures!r}.")
    for name, place, known in (("example", example, result.examples), ("seed", seed, result.seeds)):
        if known and not 0 <= place < len(known):
            raise CanonicalError(f"{name}: expected a place 0..{len(known) - 1} in {known}, got {place!r}.")


def _evenly(layers: int) -> list[int]:
    """Layers to show: all, or an even selection with the first and the last."""
    return [round(place) for place in np.linspace(0, layers - 1, min(layers, MOST_PICTURES)).tolist()]


def short_names(layers: Sequence[str]) -> list[str]:
    """Names of modules without their common prefix, and without the middle of long ones.

    Example::

        >>> short_names(["model.fc", "model.block3.conv"]), short_names(["fc"])
        (['fc', 'block3.conv'], ['fc'])
    """
    parts = [layer.split(".") for layer in layers]
    common = 0
    while all(len(part) > common + 1 for part in parts) and len({part[common] for part in parts}) == 1:
        common += 1
    cut = [part[common:] if len(part) - common <= 3 else [part[common], "…", *part[-2:]] for part in parts]
    names = [".".join(part) for part in cut]
    return names if len(set(names)) == len(names) else [".".join(part[common:]) for part in parts]


# ------------------------------------------------------------------------------------------------------------- maps
def _cell(values: Tensor, beneath: Picture | None, canonical_face: CanonicalFace | None) -> MapOnPicture:
    """A map (C, H, W), its channels added up, over a picture or white."""
    plane = values_of(values.double().sum(0), None, canonical_face.size if canonical_face is not None else None)
    return MapOnPicture(plane, np.ones(plane.shape) if beneath is None else grey_of(beneath))


def _draw_maps(figure: SubFigure, cells: list[MapOnPicture], titles: list[str], unit: str) -> None:
    """Two rows: on one scale, and each on its own."""
    axes = figure.subplots(2, len(cells), squeeze=False)
    values = [cell.values for cell in cells if cell.values is not None]
    norm, note, extend = scale_of(np.concatenate([value.ravel() for value in values]), None)
    share = Normalize(-1, 1)
    for number, cell in enumerate(cells):
        draw_cell(axes[0, number], cell, norm)
        axes[0, number].set_title(titles[number], fontsize=7)
        own = scale_of(values[number], None)[0].vmax
        draw_cell(axes[1, number], MapOnPicture(values[number] / own, cell.picture), share)
        # Where all values are 0 any scale would do: the end that scale_of chose says nothing.
        axes[1, number].set_xlabel(f"±{own:.2g}" if np.nan_to_num(values[number]).any() else "all 0", fontsize=7)
    if (cells[0].picture == 1).all():  # nothing shows where a map on white ends
        for axis in axes.flat:
            axis.set_frame_on(True)
            axis.spines[:].set(color="0.85", linewidth=0.6)
    axes[0, 0].set_ylabel("one scale\nfor all", fontsize=8)
    axes[1, 0].set_ylabel("each scaled\nto itself", fontsize=8)
    label = wrapped(f"{unit}\n{note}" if note else unit, BAR_WIDTH)
    common_bar = colour_bar(figure, norm, axes[0], label, extend)
    own_bar = colour_bar(figure, share, axes[1], "share of the number\nbelow each map")
    own_bar.set_ticks([-1, 0, 1])
    for bar in (common_bar, own_bar):
        bar.ax.yaxis.label.set_fontsize(7)
    legend_of_unseen(figure, values)


# ----------------------------------------------------------------------------------------------------------- curves
def _draw_curves(axis: Axes, result: RandomizationTest, measures: Sequence[str]) -> None:
    plain_axes(axis)
    for color, measure in zip(COLOURS, measures, strict=False):
        _draw_curve(axis, result, measure, color)
        if measure == "top_share":
            by_chance = f"{TITLES[measure]}, by chance"
            axis.axhline(TOP, color=color, linewidth=0.8, linestyle=":", label=by_chance)
    axis.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), max(1.05, axis.get_ylim()[1]))
    axis.set_ylabel("similarity to the\noriginal map", fontsize=8)


def _turn(names: Sequence[str], width: float) -> int:
    """Degrees by which names are rotated to fit below a plot of this width in inches."""
    fits = 0.065 * max(map(len, [AGAIN, *names])) < (width - 1.0) / (len(names) + 1)
    return 0 if fits else 30 if len(names) <= MOST_PICTURES else 90


def _label_layers(axis: Axes, order: str, names: Sequence[str], shown: Sequence[int], turn: int) -> None:
    """The layers below the curve; if only some have a map above, those are bold."""
    selected = 0 < len(shown) < len(names)
    axis.set_xticks(range(len(names) + 1), [AGAIN, *names])
    for number, tick in enumerate(axis.get_xticklabels()):
        if turn:
            tick.set(rotation=turn, rotation_mode="anchor", ha="right", va="center" if turn == 90 else "top")
        if selected and number - 1 in shown:
            tick.set_fontweight("bold")
    axis.set_xlim(-0.4, len(names) + 0.4)
    axis.set_xlabel(ORDERS[order] + (" (bold: shown above)" if selected else ""), fontsize=8)


def _draw_curve(axis: Axes, result: RandomizationTest, measure: str, color: str) -> None:
    summary, control = result.summary(measure), result.control[measure]
    mean = np.array([float(control.nanmean()), *summary.mean.tolist()])
    undefined = np.array([int(control.isnan().sum()), *summary.undefined.tolist()]) > 0
    x = np.arange(len(mean))
    spread = summary.over_seeds.numpy()
    if not np.isnan(spread).all():
        band: dict[str, Any] = {"color": color, "alpha": 0.18, "linewidth": 0}
        axis.fill_between(x[1:], mean[1:] - spread, mean[1:] + spread, **band)
    style: dict[str, Any] = {"marker": MARKERS[measure], "markersize": 4.5, "linestyle": "none", "color": color}
    axis.plot(x, mean, color=color, linewidth=1.2, linestyle=":" if result.order == "independent" else "-")
    axis.plot(x[~undefined], mean[~undefined], label=TITLES[measure], **style)
    if undefined.any():
        hollow = f"{TITLES[measure]}, undefined for some maps"
        axis.plot(x[undefined], mean[undefined], markerfacecolor="white", label=hollow, **style)


def _legend_title(result: RandomizationTest) -> str:
    maps, seeds = len(result.flags), len(result.seeds)
    mean = f"mean over {maps} map{'s' * (maps > 1)}"
    if seeds == 1:
        return f"{mean}, one seed"
    return f"{mean} and {seeds} seeds, ± standard deviation over seeds"
