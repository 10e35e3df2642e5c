"""What CanonicalOcclusion costs outside the network, against captum.attr.Occlusion at equal perturbations_per_eval.

    python benchmarks/overhead.py [--models DIR] [--rounds 5] [--json FILE]

Wall-clock ratios of whole runs drown in noise, so the forward callable is timed and subtracted. The order of the
methods rotates from round to round; medians are printed. ``sys`` is the share of system time: much of it means that the
memory allocator, not this code or Captum, sets the pace.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import Occlusion
from torch import Tensor, nn

import captum_canonical as cc
from networks import scaled, vgg16


class Timed:
    """A forward callable that adds up its own time and rows."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.seconds, self.rows = 0.0, 0

    def __call__(self, photos: Tensor) -> Tensor:
        """The network's output, timed."""
        start = time.perf_counter()
        output = self.net(photos)
        self.seconds += time.perf_counter() - start
        self.rows += len(photos)
        return output


def measure(net: nn.Module, run: Callable[[Timed], object]) -> dict[str, float]:
    timed = Timed(net)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run(timed)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    outside = wall - timed.seconds
    return {
        "evaluations": timed.rows,
        "wall_s": wall,
        "outside_share": outside / wall,
        "outside_us_per_evaluation": 1e6 * outside / timed.rows,
        "sys_share": (after.ru_stime - before.ru_stime) / cpu,
    }


def case(net: nn.Module, size: int, points: int | None, stride: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds of ours and captum's."""
    face = cc.CanonicalFace.default()
    mesh = cc.FaceMesh(face.resized((size, size)).vertices[None], image_size=(size, size), topology=face.topology)
    photo = torch.rand(1, 3, size, size)
    patch = scaled(15, size)
    window = {"sliding_window_shapes": (3, patch, patch), "strides": (3, stride, stride)}
    runs: dict[str, Callable[[Timed], object]] = {
        "ours": lambda f: cc.CanonicalOcclusion(f, mesh).attribute(
            photo, target=0, num_points=points, perturbations_per_eval=32
        ),
        "captum": lambda f: Occlusion(f).attribute(photo, target=0, perturbations_per_eval=32, **window),
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        names = list(runs) if turn % 2 else list(runs)[::-1]
        for name in names:
            result = measure(net, runs[name])
            if turn:  # the first round warms up
                results[name].append(result)
    return {n: {key: statistics.median(r[key] for r in rs) for key in rs[0]} for n, rs in results.items()}


def splat_ratio(rounds: int) -> dict[str, float]:
    """Splatting 2,194 points on 619 x 619 against the slice loop of Algorithm 1, alternated."""
    from captum_canonical.faces.splat import footprints, splat

    torch.manual_seed(0)
    size = (619, 619)
    centres, values = 619 * torch.rand(1, 2194, 2), torch.rand(1, 2194)
    counted = torch.ones(1, 2194, dtype=torch.bool)
    boxes = footprints(centres, 83, size)
    rows, numbers = boxes[0].tolist(), values[0].tolist()

    def loop() -> None:
        total, hits = torch.zeros(size), torch.zeros(size)
        for (left, top, right, bottom), value in zip(rows, numbers, strict=True):
            total[top:bottom, left:right] += value
            hits[top:bottom, left:right] += 1
        total.div_(hits.clamp_(min=1))

    ratios = []
    for _ in range(5 * rounds):
        start = time.perf_counter()
        loop()
        middle = time.perf_counter()
        splat(boxes, values, counted, size)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def main() -> None:
    """Prints one table and, if asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder with age_gender.safetensors; left out without it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, help="occlusion points with age_gender (default: all)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    if arguments.models:
        from studies.face_nets import networks as face_nets  # networks.py makes it importable

        net = face_nets.load(arguments.models, "age_gender")
        results["age_gender 112"] = case(net, 112, arguments.points, 4, arguments.rounds)
    results["VGG-16 224"] = case(vgg16(), 224, 96, 15, max(1, arguments.rounds // 2))
    for name, result in results.items():
        for method, row in result.items():
            print(
                f"{name:15} {method:7} {row['evaluations']:6.0f} evaluations, {row['wall_s']:6.2f} s, outside the "
                f"network {row['outside_share']:6.2%} = {row['outside_us_per_evaluation']:6.1f} us per evaluation, "
                f"sys {row['sys_share']:.0%}"
            )
        ratio = result["ours"]["outside_us_per_evaluation"] / result["captum"]["outside_us_per_evaluation"]
        print(f"{name:15} ours / captum outside the network, per evaluation: {ratio:.2f}")
        result["ratio"] = {"outside_us_per_evaluation": ratio}
    results["splat"] = {"loop_over_ours": splat_ratio(arguments.rounds)}
    print("splat of 2,194 points on 619 x 619, slice loop / ours:", results["splat"]["loop_over_ours"])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
