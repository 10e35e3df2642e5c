"""What cc.benchmark() costs beside the networks and methods that it runs: for each fill, and per photograph and method.

    python benchmarks/faithfulness.py [--models DIR] [--photos 4] [--rounds 3] [--json FILE]

``model`` is the time inside the network while maps are scored, and inside the methods while they make them; ``outside``
is all the rest of the call: masks, filled pixels, curves, warps, means and statistics. ``ratio`` is outside / model.
Each fill is a benchmark of its own, with deletion and insertion curves of eleven steps. Times are wall-clock, medians
over rounds. VGG-16 has two photographs and one round, and goes without Score-CAM, which is 512 forward passes for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import Tensor, nn

import captum_canonical as cc
from networks import scaled, vgg16
from timing import machine

FILLS = ("zero", "mean", "blur", "imputed")
POINTS = 96


class Timed(nn.Module):
    """A network that adds up its own time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seconds = net, 0.0

    def forward(self, photos: Tensor) -> Tensor:
        """The network's confidences."""
        start = time.perf_counter()
        output = self.net(photos)
        self.seconds += time.perf_counter() - start
        return output


def methods_of(net: nn.Module, layer: nn.Module, small: bool, size: int) -> dict[str, Any]:
    """Those that the paper compares, and integrated gradients; Score-CAM of small networks only."""
    occlusion = {"patch_size": scaled(15, size), "num_points": POINTS}
    methods: dict[str, Any] = {
        "canonical occlusion": (cc.CanonicalOcclusion(net), occlusion),
        "Grad-CAM": LayerGradCam(net, layer),
        "Grad-CAM++": cc.LayerGradCamPlusPlus(net, layer),
        "integrated gradients": (IntegratedGradients(net), {"n_steps": 16}),
    }
    return methods | ({"Score-CAM": cc.LayerScoreCam(net, layer)} if small else {})


def one(net: nn.Module, layer: nn.Module, small: bool, size: int, photos: int, fill: str) -> dict[str, Any]:
    """A benchmark with one fill."""
    face = cc.CanonicalFace.default()
    vertices = face.resized((size, size)).vertices.expand(photos, -1, -1)
    mesh = cc.FaceMesh(vertices, image_size=(size, size), topology=face.topology)
    data = torch.rand(photos, 3, size, size, generator=torch.Generator().manual_seed(0))
    timed, start = Timed(net), time.perf_counter()
    methods = methods_of(net, layer, small, size)
    result = cc.benchmark(timed, data, methods, 0, faces=mesh, fills=[fill], folds=2, resamples=200)
    result.table()
    wall = time.perf_counter() - start
    seconds = {row.name: row.seconds for row in result.rows if row.kind == "per image" and not row.control}
    assert set(seconds) == set(methods) and len(result.scored) == len(result.rows)
    return {
        "wall_s": wall,
        "scoring_s": timed.seconds,
        "scoring_evaluations": sum(row.scoring_evaluations for row in result.rows),
        "methods_s_per_photo": {name: value / photos for name, value in seconds.items()},
        "methods_s": sum(seconds.values()),
    }


def case(net: nn.Module, layer: nn.Module, small: bool, size: int, photos: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds for each fill; the fills take turns."""
    net = cc.ClassConfidence(net).eval()
    runs: dict[str, list[dict[str, Any]]] = {fill: [] for fill in FILLS}
    one(net, layer, small, size, 2, "zero")  # warms up
    for _ in range(rounds):
        for fill in FILLS:
            runs[fill].append(one(net, layer, small, size, photos, fill))
    found = {}
    for fill, results in runs.items():
        outside = [r["wall_s"] - r["scoring_s"] - r["methods_s"] for r in results]
        model = [r["scoring_s"] + r["methods_s"] for r in results]
        evaluations = results[0]["scoring_evaluations"]
        found[fill] = {
            "wall_s": statistics.median(r["wall_s"] for r in results),
            "model_s": statistics.median(model),
            "ratio": statistics.median(o / m for o, m in zip(outside, model, strict=True)),
            "scoring_evaluations": evaluations,
            "outside_ms_per_evaluation": 1000 * statistics.median(outside) / evaluations,
            "network_ms_per_evaluation": 1000 * statistics.median(r["scoring_s"] for r in results) / evaluations,
        }
    everything = [r["methods_s_per_photo"] for results in runs.values() for r in results]
    return {
        "fills": found,
        "methods_s_per_photo": {name: statistics.median(r[name] for r in everything) for name in everything[0]},
    }


def main() -> None:
    """Prints one table and, if asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="folder with age_gender.safetensors; left out without it")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    cases: dict[str, tuple[nn.Module, str, bool, int]] = {}
    if arguments.models:
        from studies.face_nets import networks as face_nets  # networks.py makes it importable

        cases["age_gender 112"] = (face_nets.load(arguments.models, "age_gender"), "relu_out", True, 112)
    cases["VGG-16 224"] = (vgg16(), "28", False, 224)
    for name, (net, layer, small, size) in cases.items():
        photos, rounds = (arguments.photos, arguments.rounds) if small else (2, 1)
        found = case(net, net.get_submodule(layer), small, size, photos, rounds)
        results[name] = {"photos": photos, "rounds": rounds, **found}
        for fill, row in found["fills"].items():
            print(
                f"{name:15} fill {fill:8} outside / model {row['ratio']:7.1%}: "
                f"{row['outside_ms_per_evaluation']:6.2f} ms an evaluation beside "
                f"{row['network_ms_per_evaluation']:6.2f} in the network"
            )
        for method, value in found["methods_s_per_photo"].items():
            print(f"{name:15} {method:20} {value:7.3f} s per photograph")
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
