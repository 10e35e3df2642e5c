"""Figures about planted marks: rates by size of effect, and mean maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes

import captum_canonical as cc
from studies.paper.drawing import COLOURS, new_figure, picture
from studies.planted.finding import METHODS
from studies.planted.page import LEVEL, SHOWN, effects_of, of
from studies.planted.study import AGAIN, GROUPED, PIXELS, TOP, TRAINED, WIRED, Outcome, Rate, rate
from studies.planted.trials import Trial

PANELS = (TOP, GROUPED, PIXELS, AGAIN)
AXES = {WIRED: "effect (standard deviations of the score)", TRAINED: "effect (how well mark and class agree)"}


def draw_curves(outcomes: Sequence[Outcome], path: Path) -> None:
    """Rates by size of effect, with exact binomial intervals."""
    figure, axes = new_figure(10, 5, 2, len(PANELS))
    for line, (network, methods) in zip(axes, SHOWN, strict=True):
        effects = effects_of(outcomes, network)
        for axis, question in zip(line, PANELS, strict=True):
            for number, method in enumerate(methods):
                rates = [rate(of(outcomes, network, effect), method, question) for effect in effects]
                _curve(axis, rates, number - (len(methods) - 1) / 2, COLOURS[number], method)
            axis.axhline(LEVEL if question == AGAIN else 0.95, color="0.6", linewidth=0.7, linestyle=":", zorder=0)
            axis.set_title(question if network == SHOWN[0][0] else "", fontsize=8)
            axis.set_xlabel(AXES[network], fontsize=7)
            axis.set_ylim(-0.03, 1.03)
            axis.set_xticks(range(len(effects)), [f"{effect:g}" for effect in effects])
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(f"{network} networks: share of trials", fontsize=7.5)
    axes[1, -1].legend(fontsize=7.5, frameon=False, loc="upper left")
    figure.savefig(path, bbox_inches="tight")


def _curve(axis: Axes, rates: Sequence[Rate], step: float, colour: str, label: str) -> None:
    places = np.arange(len(rates)) + 0.08 * step
    share, ends = np.array([each.share for each in rates]), np.array([each.interval for each in rates])
    error = np.stack([share - ends[:, 0], ends[:, 1] - share]).clip(0)
    style = {"markersize": 3, "linewidth": 1.2, "elinewidth": 0.8, "capsize": 1.5}
    axis.errorbar(places, share, error, fmt="o-", color=colour, label=label, **style)


def draw_maps(trials: Sequence[tuple[Trial, dict[str, cc.ModelSaliency]]], path: Path) -> None:
    """Mean maps of a few trained networks, with outlines of the planted region and the decoy's."""
    figure, axes = new_figure(6.6, 1.72 * len(trials), len(trials), 1 + len(METHODS))
    for number, (line, (trial, results)) in enumerate(zip(axes, trials, strict=True)):
        picture(line[0], trial.photos[_shown(trial)], "a photograph of group A" if number == 0 else "")
        line[0].set_ylabel(f"mark: {trial.names[0]}\ndecoy: {trial.names[1]}".replace("_", " "), fontsize=7)
        for axis, method in zip(line[1:], METHODS, strict=True):
            sides = results[method].strata("group")
            _map(axis, sides["A"] + sides["B"], trial, method if number == 0 else "")
    figure.supxlabel(
        "Means over 40 photographs, each on a scale of its own (red speaks for the answer, blue against it).\n"
        "Solid outline: the mark's region; dotted: the decoy's.",
        fontsize=7,
    )
    figure.savefig(path, bbox_inches="tight")


def _shown(trial: Trial) -> int:
    """The photograph of group A with mark and decoy in which most of both is seen."""
    covers = trial.photographs.marks.sum((2, 3))
    seen = covers[:, trial.planted].minimum(covers[:, trial.decoy])
    return int((seen * trial.carries * trial.decoyed * trial.photographs.in_a).argmax())


def _map(axis: Axes, result: cc.ModelSaliency, trial: Trial, title: str) -> None:
    face = result.face("a picture")
    picture(axis, 0.5 + 0.5 * face.image.mean(0, keepdim=True), title)
    values = result.mean[0] * face.raster.covered
    most = float(values.abs().max()) or 1.0
    axis.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.75, interpolation="bilinear")
    for name, style in zip(trial.names, ("solid", "dotted"), strict=True):
        smooth = cv2.GaussianBlur(face.region_mask(name).numpy().astype(np.float32), (0, 0), 0.8)
        axis.contour(smooth, levels=[0.5], colors="0.1", linewidths=1.1, linestyles=style)
