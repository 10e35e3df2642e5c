"""Pictures that the package's own figures do not cover: strips of photographs, bars, and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import captum_canonical as cc
from studies.paper.study import on_face

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")  # Okabe and Ito
SIDE = 1.7  # inches of a picture


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure without a window, and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def picture(axis: Axes, photo: Tensor | np.ndarray, title: str = "", below: str = "") -> None:
    """A photograph (3 or 1, H, W) in 0..1, or (H, W, 3) uint8."""
    shown = photo.expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy() if isinstance(photo, Tensor) else photo
    axis.imshow(shown)
    axis.set(xticks=[], yticks=[])
    axis.set_frame_on(False)
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(below, fontsize=7)


def nothing(axis: Axes, why: str, title: str = "") -> None:
    """A frame where a picture would be."""
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.spines[:].set_color("0.85")
    axis.text(0.5, 0.5, why, ha="center", va="center", fontsize=7, color="0.4")
    axis.set_title(title, fontsize=8)


def strip(photos: Sequence[tuple[Tensor, str, str]], path: Path, columns: int = 6) -> None:
    """Photographs with something written above and below each."""
    rows = -(-len(photos) // columns)
    figure, axes = new_figure(columns * SIDE, rows * (SIDE + 0.4), rows, columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (photo, above, below) in zip(axes.flat, photos, strict=False):
        axis.axis("on")
        picture(axis, photo, above, below)
    figure.savefig(path, bbox_inches="tight")


def bars(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]], axis: Axes, title: str, percent: bool = True
) -> None:
    """For each group (along x) and each series a bar with its interval: value, low, high."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / len(series)
    for number, name in enumerate(series):
        places = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
        found = np.array([group.get(name, (np.nan,) * 3) for group in groups.values()], dtype=float)
        value = np.nan_to_num(found[:, 0])
        axis.bar(places, value, width * 0.92, color=COLOURS[number % len(COLOURS)], label=name)
        known = ~np.isnan(found[:, 1:]).any(1)
        error = np.stack([value - found[:, 1], found[:, 2] - value])[:, known].clip(0)
        axis.errorbar(places[known], value[known], error, fmt="none", ecolor="0.2", elinewidth=0.8, capsize=1.5)
    axis.set_xticks(range(len(groups)), [name.replace(", ", "\n") for name in groups], fontsize=7)
    axis.set_title(title, fontsize=9)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    if percent:
        axis.set_ylim(0, max(5.0, axis.get_ylim()[1]))


def lines(
    axis: Axes, series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]], **labels: str
) -> None:
    """Lines with a band of plus and minus: x, y, spread."""
    for colour, (name, (x, y, spread)) in zip(COLOURS, series.items(), strict=False):
        values, around = np.asarray(y, dtype=float), np.nan_to_num(np.asarray(spread, dtype=float))
        axis.plot(x, values, "o-", color=colour, label=name, linewidth=1.5, markersize=3)
        axis.fill_between(x, values - around, values + around, color=colour, alpha=0.15, linewidth=0)
    axis.set(**labels)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)


def face_maps(
    columns: Mapping[str, Sequence[Tensor]],
    faces: Any,
    path: Path,
    rows: Sequence[str] = (),
    by: Literal["column", "row"] = "column",
) -> None:
    """Maps (H_F, W_F) of different units: each column (or row) has a scale of its own, whose end is written beside it.

    Args:
        columns: label -> one map for each row.
        faces: the canonical face of all, or label -> picture beneath.
        path: of the file.
        rows: labels.
        by: what shares a scale.
    """
    beneath = {label: faces[label] if isinstance(faces, Mapping) else faces for label in columns}
    cut = {
        label: [
            on_face(m.double(), beneath[label]) if isinstance(beneath[label], cc.CanonicalFace) else m for m in maps
        ]
        for label, maps in columns.items()
    }
    if by == "column":
        ends = {label: largest(maps) for label, maps in cut.items()}
        shown = {f"{label}\nmax {ends[label]:.2g}": [m / ends[label] for m in maps] for label, maps in cut.items()}
        beneath = dict(zip(shown, beneath.values(), strict=True))
        labels = list(rows)
    else:
        tops = [largest(row) for row in zip(*cut.values(), strict=True)]
        shown = {label: [m / top for m, top in zip(maps, tops, strict=True)] for label, maps in cut.items()}
        labels = [f"{label}\nmax {top:.2g}" for label, top in zip(rows, tops, strict=True)]
    figure = cc.visualization.montage(
        shown,
        backgrounds=beneath,
        row_labels=labels or None,
        vmax=1.0,
        unit=f"share of the {by}'s largest value",
    )
    figure.savefig(path, bbox_inches="tight")


def largest(maps: Sequence[Tensor]) -> float:
    """The largest magnitude in some maps; 1 if all are 0."""
    return max(float(values.abs().max()) for values in maps) or 1.0


def not_blank(path: Path) -> bool:
    """Whether a picture shows anything at all."""
    import cv2

    image = cv2.imread(str(path))
    return image is not None and float(image.std()) > 1.0
