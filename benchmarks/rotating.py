"""What rotating points save: maps of networks from all points and from few that rotate, on the same photographs.

    python benchmarks/rotating.py --images DIR --models DIR [--photos 160] [--points 32 64 128] [--json FILE]

``--models`` is a folder of converted networks (``examples/get_face_nets.py``, ``examples/train_fairface_heads.py``).
For each network and number of points: the processor time of a photograph, the squared standard error of the mean map
(mean over the pixels of the face) and of the means of its regions (mean over regions), both times the number of
photographs, and how many times less time the same standard errors take than with all points. The correlations are with
the complete map of as many other photographs, over the face's pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

import captum_canonical as cc
from captum_canonical.faces.photos import list_photos
from studies.face_nets import command
from timing import machine

BATCH = 32  # what a call begins with is shared by all photographs of a batch
NETWORKS = ("gender", "gender_xception", "expression", "fairface:gender", "fairface:race")


@dataclass(frozen=True)
class Figures:
    """One way to make the map of a network."""

    network: str
    points: int | None
    photographs: int
    seconds: float
    pixel_error: float
    region_error: float
    correlation: float

    def less_time(self, complete: Figures) -> tuple[float, float]:
        """How many times less than with all points, for pixels and for regions."""
        time = complete.seconds / self.seconds
        return time * complete.pixel_error / self.pixel_error, time * complete.region_error / self.region_error


@dataclass(frozen=True, eq=False)
class Task:
    """A network, and photographs cut out for it in two halves."""

    name: str
    confidence: cc.ClassConfidence
    halves: tuple[cc.AlignedFaces, cc.AlignedFaces]
    arguments: dict[str, object]


def load_task(name: str, paths: list[Path], models: Path, cache: Path) -> Task:
    """As the command line explains it."""
    factory, _, head = name.partition(":")
    network, settings = getattr(command, factory)(models)
    crop = {key: settings[key] for key in ("size", "margin", "channels", "crop") if key in settings}
    halves = tuple(cc.AlignedFaces(part, cache=cache, **crop) for part in (paths[::2], paths[1::2]))
    fill = torch.tensor(settings["fill"]).reshape(1, -1, 1, 1)
    arguments = {"baselines": fill, "patch_size": settings["patch_size"], "show_progress": False}
    arguments["batch_size"] = BATCH
    part = {"output": head, "classes": settings["classes"]} if head else {}
    return Task(name, cc.ClassConfidence(network.eval(), link="log_odds", **part), halves, arguments)


def run(task: Task, half: int, points: int | None) -> tuple[cc.ModelSaliency, float]:
    """The result, in memory, and processor seconds of a photograph."""
    data = task.halves[half].align(show_progress=False)
    chosen = {} if points is None else {"num_points": points, "points": "rotating"}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = cc.explain_dataset(task.confidence, data, folder, **task.arguments, **chosen)
        seconds = time.process_time() - start
        maps, coverage = (torch.tensor(each) for each in (result.photos.maps, result.photos.coverage))
    return cc.ModelSaliency.from_maps(maps, coverage, result.canonical_face), seconds / len(data)


def squared_errors(result: cc.ModelSaliency) -> tuple[float, float]:
    """Of the pixels of the mean map and of its regions, for one photograph."""
    face = result.canonical_face.raster.covered & (result.count[0] > 1)
    pixels = float((result.variance / result.count)[0][face].mean())
    widths = [high - low for low, high in (row.mean_interval for row in cc.region_table(result, level=0.68).rows)]
    return pixels * result.n, sum((width / 2) ** 2 for width in widths) / len(widths) * result.n


def correlation(one: Tensor, other: Tensor, face: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one[0][face], other[0][face]]))[0, 1])


def measure(task: Task, numbers: list[int]) -> list[Figures]:
    other, _ = run(task, 1, None)
    rows: list[Figures] = []
    for points in (None, *numbers):
        result, seconds = run(task, 0, points)
        r = correlation(result.mean, other.mean, result.canonical_face.raster.covered)
        rows.append(Figures(task.name, points, result.n, seconds, *squared_errors(result), r))
        print(rows[-1], "times less: {:.2f}, regions {:.2f}".format(*rows[-1].less_time(rows[0])), flush=True)
    return rows


def table(rows: list[Figures]) -> str:
    """Markdown: how many times less time the same standard errors take than with all points."""
    complete = {row.network: row for row in rows if row.points is None}
    numbers = sorted({row.points for row in rows if row.points is not None})
    lines = ["| network | photographs | " + " | ".join(f"{each} points" for each in numbers) + " |"]
    lines.append("|---" * (len(numbers) + 2) + "|")
    for name, whole in complete.items():
        found = {row.points: row.less_time(whole) for row in rows if row.network == name}
        cells = ["{:.1f} x, regions {:.1f} x".format(*found[each]) for each in numbers]
        lines.append(f"| {name} | {whole.photographs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="prints the table of these results, and measures nothing")
    parser.add_argument("--images", type=Path, help="folder of photographs, of one person each at best")
    parser.add_argument("--models", type=Path, help="folder of converted networks")
    parser.add_argument("--photos", type=int, default=160, help="half are explained, half are held out")
    parser.add_argument("--points", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        values = json.loads(arguments.table.read_text(encoding="utf-8"))
        print(table([Figures(**row) for row in values["rows"]]))
        return
    if not arguments.images or not arguments.models:
        parser.error("expected --images and --models, or --table")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    everything = list_photos(arguments.images)
    paths = everything[:: max(1, len(everything) // arguments.photos)][: arguments.photos]
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as cache:
        for name in arguments.networks:
            rows += measure(load_task(name, paths, arguments.models, Path(cache)), arguments.points)
    if arguments.json:
        values = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
