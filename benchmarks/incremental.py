"""Incremental occlusion against dense inference at its best, Captum's Occlusion and the loop of the paper's release.

    python benchmarks/incremental.py [--models DIR] [--only NAME ...] [--rounds 5] [--quick] [--json FILE]

Every figure of ours is a whole call of ``inference="auto"``: tracing, planning, the check against dense inference, the
clean run and all patches. Dense inference is a bare loop over ``model(batch)`` with ready batches of 1, 4, 16 and 64
rows, in both memory formats; the fastest of all counts. The methods take turns, and the figures are medians over rounds
of the ratio within a round. "theory" is the ratio of multiply-adds that the planner computes before anything runs.

The process starts itself anew with glibc told to keep freed memory: page faults otherwise hit the large maps of dense
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
from captum_canonical.incremental import IncrementalInference, choose_inference
from captum_canonical.inference import DenseInference, Patches, Scorer
from captum_canonical.splat import footprints
from networks import Network, networks, vgg16
from timing import alternated, machine, seconds

ROWS = (1, 4, 16, 64)
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
DENSE_SECONDS = 30  # so long may dense inference of a call's evaluations take
PATCHES = (7, 15, 31)  # at 224 pixels; scaled with the input
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
Results = dict[str, Any]


def scaled(side: int, size: int) -> int:
    """An odd patch side for an input of ``size`` pixels that is ``side`` at 224."""
    return 2 * int(side * size / 224 / 2) + 1


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


def compare(network: Network, net: nn.Module, best: str, side: int, images: int, args: Any, count: int) -> Results:
    """Ours against dense inference at its best, as milliseconds and as a ratio per evaluation."""
    rows, layout = int(best.split()[0]), best.split()[1]
    photos = torch.rand(images, network.channels, network.size, network.size)
    hidden = patches_of(network.size, side, images, count)
    few = Patches(hidden.image[:64], (hidden.boxes[0][:64],))
    scorer = Scorer(net, 0, (), images)
    engines: list[DenseInference | IncrementalInference] = []

    def ours() -> None:
        engines[:] = [choose_inference("auto", scorer, (photos,), (0.0,), None, hidden)]
        engines[0].clean_scores()
        engines[0].occluded_scores(hidden)

    turned = photos.contiguous(memory_format=FORMATS[layout])
    dense = DenseInference(scorer, (turned,), (0.0,), rows)
    batch = turned[:1].repeat(rows, 1, 1, 1).contiguous(memory_format=FORMATS[layout])
    loops = max(64, rows)
    works = {
        "ours": ours,
        "bare": bare_loop(net, batch, loops),
        "dense": lambda: dense.occluded_scores(few),
    }
    with torch.no_grad():
        times = alternated(works, args.rounds)
    per = {"ours": len(hidden), "bare": -(-loops // rows) * rows, "dense": len(few)}
    each = {name: [t / per[name] for t in times[name]] for name in works}
    ratios = [b / o for b, o in zip(each["bare"], each["ours"], strict=True)]
    engine = engines[0]
    theory = engine.plan(hidden).ratio if isinstance(engine, IncrementalInference) else 1.0
    ratio = statistics.median(ratios)
    return {
        "inference": "incremental" if isinstance(engine, IncrementalInference) else "dense",
        "rows": engine.rows,
        "evaluations": len(hidden),
        "ours_ms": 1000 * statistics.median(each["ours"]),
        "bare_ms": 1000 * statistics.median(each["bare"]),
        "dense_over_bare": statistics.median(d / b for d, b in zip(each["dense"], each["bare"], strict=True)),
        "ratio": ratio,
        "ratio_range": [min(ratios), max(ratios)],
        "theory": theory,
        "of_theory": ratio / theory,
    }


def against_captum(network: Network, net: nn.Module, args: Any) -> Results:
    """Captum's Occlusion and ours with as many evaluations; whole calls."""
    side = scaled(15, network.size)
    x = torch.rand(1, network.channels, network.size, network.size)
    window = {"sliding_window_shapes": (network.channels, side, side), "strides": (network.channels, side, side)}
    evaluations = (-(-(network.size - side) // side) + 1) ** 2
    hidden = patches_of(network.size, side, 1, evaluations)

    def captum(rows: int) -> Callable[[], object]:
        return lambda: Occlusion(net).attribute(x, target=0, perturbations_per_eval=rows, **window)

    def ours() -> None:
        engine = choose_inference("auto", Scorer(net, 0, (), 1), (x,), (0.0,), None, hidden)
        engine.clean_scores()
        engine.occluded_scores(hidden)

    with torch.no_grad():
        trial = {rows: seconds(captum(rows)) for rows in (1, 4, 16)}
        best = min(trial, key=trial.__getitem__)
        times = alternated({"ours": ours, "captum": captum(best)}, args.rounds)
    return {
        "evaluations": evaluations,
        "perturbations_per_eval": best,
        "captum_ms": 1000 * statistics.median(times["captum"]) / evaluations,
        "ours_ms": 1000 * statistics.median(times["ours"]) / evaluations,
        "ratio": statistics.median(c / o for c, o in zip(times["captum"], times["ours"], strict=True)),
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
    triangles = torch.tensor([[0, 1, 2]])
    vertices = torch.cat([centres, torch.zeros(count, 1)], 1)
    face = cc.CanonicalFace(vertices, triangles, size=(size, size))
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
    best = min(table, key=table.__getitem__)
    shown = ", ".join(f"{key} {value:.2f}" for key, value in table.items())
    print(f"{network.label}: dense, ms per image by rows and format: {shown}", flush=True)
    count = min(args.patches, int(1000 * DENSE_SECONDS / table[best]))
    result: Results = {"dense_ms": table, "best": best, "cases": {}}
    for side in (15,) if args.quick else PATCHES:
        for images in (1,) if args.quick else (1, 8):
            case = f"patch {scaled(side, network.size)}, batch {images}"
            result["cases"][case] = compare(network, net, best, scaled(side, network.size), images, args, count)
            show(network.label, case, result["cases"][case])
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
    parser.add_argument("--patches", type=int, default=1024, help="evaluations of a call of ours")
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
