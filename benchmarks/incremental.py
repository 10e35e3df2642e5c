"""Incremental occlusion against dense inference at its best, Captum's Occlusion and the loop of the paper's release.

    python benchmarks/incremental.py [--models DIR] [--only NAME ...] [--rounds 5] [--quick] [--json FILE]

Every figure of ours is a whole call of ``inference="auto"`` for 1,024 points of each photograph: tracing, planning, the
check against dense inference, the clean run and the patches (of slow networks a part of these, see ``Ours``). Dense
inference is a bare loop over ``model(batch)`` with ready batches of 1, 4, 16 and 64 rows, in both memory formats; the
fastest of all counts. The methods take turns, and ratios are medians over rounds of the ratio within a round.
"theory" is the ratio of multiply-adds that the planner computes before anything runs.

The process restarts itself with glibc set to keep freed memory: page faults otherwise hit the large maps of dense
inference hardest, and ours would look better by chance.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captum.attr import Occlusion
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.faces.splat import footprints
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer
from networks import Network, networks, scaled, vgg16
from timing import alternated, machine, seconds

ROWS = (1, 4, 16, 64)
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
DENSE_SECONDS = 15  # so long may dense inference of the patches take
PATCHES = (7, 15, 31)  # at 224 pixels; scaled with the input
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
Results = dict[str, Any]


def patches_of(size: int, side: int, images: int, count: int) -> Patches:
    """``count`` patches in all, at the first points of a face that fills the image, the same for each image."""
    face = cc.CanonicalFace.default().resized((size, size))
    points = face.points(face.vertices)[face.point_order[: -(-count // images)]]
    boxes = footprints(points[None, :, :2], side, (size, size))[0]
    return Patches(torch.arange(images).repeat_interleave(len(boxes)), (boxes.repeat(images, 1),))


def bare_loop(net: nn.Module, batch: Tensor, evaluations: int) -> Callable[[], object]:
    """At least so many rows through the network."""

    def run() -> None:
        with torch.no_grad():
            for _ in range(-(-evaluations // len(batch))):
                net(batch)

    return run


def scan(network: Network, net: nn.Module, rounds: int) -> Results:
    """Milliseconds per image of dense inference at all rows and formats."""
    batches = {}
    for rows in ROWS:
        for name, layout in FORMATS.items():
            x = torch.rand(rows, network.channels, network.size, network.size).contiguous(memory_format=layout)
            batches[f"{rows} {name}"] = x
    times = alternated({key: bare_loop(net, x, 1) for key, x in batches.items()}, rounds)
    return {key: 1000 * statistics.median(t) / len(batches[key]) for key, t in times.items()}


class Ours:
    """A call of ours for ``points`` points of each of N photographs, of which ``most`` are run.

    Everything is done for all points: tracing, planning, the check and the clean run. Only the patches themselves are
    a part of them, if dense inference would take too long for all, and their time is multiplied.
    """

    def __init__(self, network: Network, net: nn.Module, side: int, images: int, points: int, most: int) -> None:
        self.photos = torch.rand(images, network.channels, network.size, network.size)
        self.hidden = patches_of(network.size, side, images, images * points)
        self.some, self.most = self.hidden, most
        self.scorer = Scorer(net, 0, (), images)
        self.engine: Any = None

    def prepare(self) -> None:
        """Everything but the patches."""
        self.engine = choose_inference("auto", self.scorer, (self.photos,), (0.0,), None, self.hidden)
        self.engine.clean_scores()
        if len(self.hidden) > self.most and isinstance(self.engine, IncrementalInference):
            plan = self.engine.plan(self.hidden)
            every = -(-len(self.hidden) // self.most)
            self.some = self.hidden[plan.order[plan.batch % every == 0]]  # whole batches, so that windows stay as large

    def run(self) -> None:
        """Those of the patches that are run."""
        self.engine.occluded_scores(self.some)

    def seconds(self, prepare: float, run: float) -> float:
        """Of the whole call."""
        return prepare + run * len(self.hidden) / len(self.some)

    @property
    def theory(self) -> float:
        """Multiply-adds of dense inference over ours; 1 where ours is dense."""
        return self.engine.plan(self.hidden).ratio if isinstance(self.engine, IncrementalInference) else 1.0


def compare(network: Network, net: nn.Module, dense: Results, side: int, images: int, args: Any) -> Results:
    """Ours against dense inference at its best: whole calls, as milliseconds per evaluation."""
    rows, layout = int(dense["best"].split()[0]), FORMATS[dense["best"].split()[1]]
    most = int(1000 * DENSE_SECONDS / dense["ms"][dense["best"]])
    ours = Ours(network, net, side, images, args.points, most)
    turned = ours.photos.contiguous(memory_format=layout)
    few = ours.hidden[: max(64, rows)]
    batch = turned[:1].repeat(rows, 1, 1, 1).contiguous(memory_format=layout)
    engine = DenseInference(ours.scorer, (turned,), (0.0,), rows)
    works = {
        "prepare": ours.prepare,
        "run": ours.run,
        "bare": bare_loop(net, batch, max(64, rows)),
        "dense": lambda: engine.occluded_scores(few),
    }
    with torch.no_grad():
        ours.prepare()
        times = alternated(works, args.rounds)
    evaluations = len(ours.hidden) + images  # with the clean ones
    whole = [ours.seconds(p, r) / evaluations for p, r in zip(times["prepare"], times["run"], strict=True)]
    bare = [t / (-(-max(64, rows) // rows) * rows) for t in times["bare"]]
    ratios = [b / o for b, o in zip(bare, whole, strict=True)]
    return {
        "inference": "incremental" if isinstance(ours.engine, IncrementalInference) else "dense",
        "rows": ours.engine.rows,
        "evaluations": evaluations,
        "run": len(ours.some),
        "prepare_s": statistics.median(times["prepare"]),
        "ours_ms": 1000 * statistics.median(whole),
        "bare_ms": 1000 * statistics.median(bare),
        "dense_over_bare": statistics.median(d / len(few) / b for d, b in zip(times["dense"], bare, strict=True)),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "theory": ours.theory,
        "of_theory": statistics.median(ratios) / ours.theory,
    }


def against_captum(network: Network, net: nn.Module, args: Any) -> Results:
    """Captum's Occlusion on a grid of patches side by side, and ours; milliseconds per evaluation."""
    side = scaled(15, network.size)
    ours = Ours(network, net, side, 1, args.points, 512)
    window = {"sliding_window_shapes": (network.channels, side, side), "strides": (network.channels, side, side)}
    evaluations = 1 + (-(-(network.size - side) // side) + 1) ** 2

    def captum(rows: int) -> Callable[[], object]:
        return lambda: Occlusion(net).attribute(ours.photos, target=0, perturbations_per_eval=rows, **window)

    with torch.no_grad():
        trial = {rows: seconds(captum(rows)) for rows in (1, 4, 16)}
        best = min(trial, key=trial.__getitem__)
        ours.prepare()
        times = alternated({"prepare": ours.prepare, "run": ours.run, "captum": captum(best)}, max(2, args.rounds // 2))
    whole = [ours.seconds(p, r) / (1 + len(ours.hidden)) for p, r in zip(times["prepare"], times["run"], strict=True)]
    each = [t / evaluations for t in times["captum"]]
    return {
        "evaluations": evaluations,
        "perturbations_per_eval": best,
        "captum_ms": 1000 * statistics.median(each),
        "ours_ms": 1000 * statistics.median(whole),
        "ratio": statistics.median(c / o for c, o in zip(each, whole, strict=True)),
    }


def against_the_release(args: Any) -> Results:
    """A whole map of VGG-16 at 224 pixels with a point at each of 2,194 vertices, and a heat map for each vertex.

    The loop occludes a copy of the photograph for every vertex, runs copies 16 at a time, and writes each drop into a
    heat map of the photograph's size which it adds to the sum. Its time is that of ``--release-points`` vertices,
    multiplied.
    """
    size, count = 224, 2194
    net, photo = vgg16(), torch.rand(1, 3, size, size)
    torch.manual_seed(0)
    centres = torch.rand(count, 2) * 126 + torch.tensor([49.0, 49.0])  # as large as a face in a CelebA photograph
    vertices = torch.cat([centres, torch.zeros(count, 1)], 1)
    face = cc.CanonicalFace.from_vertices(photo[0], vertices, topology="2194 points")
    faces = cc.FaceMesh(vertices[None], image_size=(size, size), topology=face.topology)

    def ours() -> None:
        cc.CanonicalOcclusion(net, faces, face).attribute(photo, target=0)

    def release() -> None:
        heat = torch.zeros(size, size)
        with torch.no_grad():
            clean = net(photo)[0, 0]
            for chunk in centres[: args.release_points].split(16):
                corners = [(max(0, int(x - 7.5)), max(0, int(y - 7.5))) for x, y in chunk.tolist()]
                copies = []
                for x, y in corners:
                    copy = photo[0].clone()
                    copy[:, y : y + 15, x : x + 15] = 0
                    copies.append(copy)
                scores = net(torch.stack(copies))[:, 0]
                for (x, y), score in zip(corners, scores, strict=True):
                    one = torch.zeros(size, size)
                    one[y : y + 15, x : x + 15] = clean - score
                    heat += one

    times = alternated({"ours": ours, "release": release}, max(1, args.rounds // 2))
    factor = count / args.release_points
    return {
        "points": count,
        "timed_points_of_the_release": args.release_points,
        "ours_s": statistics.median(times["ours"]),
        "release_s": factor * statistics.median(times["release"]),
        "ratio": statistics.median(factor * r / o for r, o in zip(times["release"], times["ours"], strict=True)),
    }


def peak_mib() -> float:
    """Largest memory of this process since it was last reset (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def print_memory(mode: str) -> None:
    """Memory above the loaded VGG-16 at 224 pixels and 32 rows, as JSON; for a process of its own."""
    net, photo = vgg16(), torch.rand(1, 3, 224, 224)
    hidden = patches_of(224, 15, 1, 256)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak_mib()
    scorer = Scorer(net, 0, (), 1)
    engine: Any = DenseInference(scorer, (photo,), (0.0,), 32)
    if mode == "incremental":
        engine = IncrementalInference(scorer, (photo,), (0.0,), 32)
    with torch.no_grad():
        engine.clean_scores()
        engine.occluded_scores(hidden)
    kept = engine.clean.memory / 2**20 if mode == "incremental" else 0.0
    print(json.dumps({"peak_mib": peak_mib() - before, "kept_mib": kept}))


def memory() -> Results:
    """Of both modes."""
    results = {}
    for mode in ("dense", "incremental"):
        command = [sys.executable, __file__, "--memory", mode]
        results[mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    results["ratio"] = results["incremental"]["peak_mib"] / results["dense"]["peak_mib"]
    return results


def show(label: str, case: str, row: Results) -> None:
    low, high = row["ratio_range"]
    print(
        f"{label:22} {case:18} {row['inference']:12} dense {row['bare_ms']:7.2f} ms  ours {row['ours_ms']:7.2f} ms  "
        f"{row['ratio']:5.2f} x ({low:.2f}-{high:.2f})  theory {row['theory']:5.2f}  {row['of_theory']:5.0%}  "
        f"our dense / bare {row['dense_over_bare']:.2f}",
        flush=True,
    )


def study(network: Network, args: Any) -> Results:
    """All patches and batch sizes of a network."""
    net = network.build()
    table = scan(network, net, max(3, args.rounds // 2))
    result: Results = {"ms": table, "best": min(table, key=table.__getitem__), "cases": {}}
    shown = ", ".join(f"{key} {value:.2f}" for key, value in table.items())
    print(f"{network.label}: dense, ms per image by rows and format: {shown}", flush=True)
    for side in (15,) if args.quick else PATCHES:
        for images in (1,) if args.quick else (1, 8):
            case = f"patch {scaled(side, network.size)}, batch {images}"
            row = compare(network, net, result, scaled(side, network.size), images, args)
            result["cases"][case] = row
            show(network.label, case, row)
    if not args.quick:
        result["captum"] = row = against_captum(network, net, args)
        print(
            f"{network.label:22} captum Occlusion {row['captum_ms']:.2f} ms with perturbations_per_eval="
            f"{row['perturbations_per_eval']}, ours {row['ours_ms']:.2f} ms: {row['ratio']:.2f} x",
            flush=True,
        )
    return result


def main() -> None:
    """Prints the table and, if asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder of the trained networks; left out without it")
    parser.add_argument("--only", nargs="*", help="labels, such as 'VGG-16 224', 'release' and 'memory'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=1024, help="of each face")
    parser.add_argument("--release-points", type=int, default=96)
    parser.add_argument("--quick", action="store_true", help="one patch size and one photograph")
    parser.add_argument("--json", type=Path, help="results; added to those that are there")
    parser.add_argument("--memory", choices=["dense", "incremental"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
    if args.memory:
        print_memory(args.memory)
        return
    results: Results = {"machine": machine()}
    if args.json and args.json.exists():
        results = json.loads(args.json.read_text(encoding="utf-8")) | results
    works: dict[str, Callable[[], Results]] = {
        network.label: lambda network=network: study(network, args) for network in networks(args.models)
    }
    works |= {"release": lambda: against_the_release(args), "memory": memory}
    for label, work in works.items():
        if args.only and label not in args.only:
            continue
        results[label] = work()
        if label in ("release", "memory"):
            print(label, results[label], flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
