"""Measures what operators cost on maps and windows of each size: the table ``captum_canonical/inference/costs.json``.

    python tools/measure_costs.py [--rounds 7] OUT.json

Processor time is measured, which other processes disturb less than wall time, so with one thread: OMP_NUM_THREADS=1.
Each figure is the fastest of some rounds. ``CAPTUM_CANONICAL_COSTS=OUT.json`` uses the table that was made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor, nn

from captum_canonical.inference.costs import KINDS, LAYOUTS
from captum_canonical.inference.dense import Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer

SIDES = (3, 7, 14, 28, 56, 112)
ROWS, PIXELS = 32, 100_000  # windows that are run together; fewer of large maps, whose memory would be new each time
FRESH = 2**24  # numbers; so much memory goes back to the system when it is freed
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
Case = tuple[
    Callable[[Tensor], object], int, int, int
]  # what is run; channels read; numbers moved, multiply-adds a pixel


def _conv(channels: int, out: int, kernel: int, groups: int = 1) -> Case:
    weight = torch.rand(out, channels // groups, kernel, kernel)
    work = lambda x: F.conv2d(x, weight, padding=kernel // 2, groups=groups)  # noqa: E731
    return work, channels, channels + out, weight.numel()


def _shuffle(x: Tensor) -> Tensor:
    rows, channels, height, width = x.shape
    return x.reshape(rows, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def _linear(channels: int, out: int) -> Case:
    weight = torch.rand(out, channels)
    return lambda x: F.linear(x.permute(0, 2, 3, 1), weight), channels, channels + out, weight.numel()


def _gather(x: Tensor) -> Tensor:
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return rows.index_select(0, torch.arange(len(rows), dtype=torch.int32))


CASES: dict[str, list[Case]] = {
    "convolution": [_conv(16, 16, 3), _conv(64, 64, 3), _conv(128, 128, 3)],
    "pixel": [_conv(16, 64, 1), _conv(128, 32, 1), _conv(256, 256, 1)],
    "depthwise": [_conv(64, 64, 3, 64), _conv(96, 96, 7, 96), _conv(32, 32, 5, 32)],
    "grouped": [_conv(64, 64, 3, 4), _conv(128, 128, 3, 16)],
    "pool": [(lambda x: F.max_pool2d(x, 3, 1, 1), 64, 128, 9 * 64), (lambda x: F.avg_pool2d(x, 2, 1), 64, 128, 4 * 64)],
    "light": [(torch.relu, 64, 128, 0), (lambda x: x + x, 64, 192, 0)],
    "heavy": [(F.gelu, 64, 128, 0), (torch.sigmoid, 64, 128, 0)],
    "moved": [(_shuffle, 64, 128, 0)],
    "product": [_linear(64, 64), _linear(192, 192)],
    "gather": [(_gather, 32, 64, 0), (_gather, 128, 256, 0)],
}


def _fastest(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def costs_of(kind: str, layout: str, rounds: int) -> list[list[float]]:
    """Nanoseconds for a multiply-add, and for a number, at each side."""
    found = []
    for side in SIDES:
        rows = max(4, min(ROWS, PIXELS // side**2))
        equations, times = [], []
        for work, channels, numbers, macs in CASES[kind]:
            x = torch.rand(rows, channels, side, side).contiguous(memory_format=FORMATS[layout])
            needed = _fastest(lambda work=work, x=x: work(x), rounds)
            pixels = rows * side**2
            equations.append([macs * pixels / needed, numbers * pixels / needed])  # relative errors count
            times.append(1e9)
        found.append(nnls(np.array(equations), np.array(times))[0].round(6).tolist())
    return [list(column) for column in zip(*found, strict=True)]


def calls(rounds: int) -> dict[str, float]:
    """Microseconds that a step takes whatever its size: on maps, on windows, and to trace, plan and check it."""
    steps = 40
    layers = [layer for _ in range(steps // 2) for layer in (nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    photo, patches = torch.rand(1, 1, 64, 64), Patches(torch.tensor([0]), (torch.tensor([[30, 30, 31, 31]]),))
    small, scorer = torch.rand(1, 1, 2, 2), Scorer(net, 0, (), 1)
    engine = IncrementalInference(scorer, (photo,), (0.0,))
    plan = engine.plan(patches, rows=1)
    works = {
        "complete": lambda: net(small),
        "window": lambda: engine.run(plan),
        "prepare": lambda: IncrementalInference(scorer, (photo,), (0.0,)).plan(patches),
    }
    with torch.inference_mode():
        return {name: round(1e6 * _fastest(work, 10 * rounds) / steps, 1) for name, work in works.items()}


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    table: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "sides": SIDES}
    with torch.inference_mode():
        for layout in LAYOUTS:
            table[layout] = {kind: costs_of(kind, layout, args.rounds) for kind in KINDS}
    table["calls"] = calls(args.rounds)
    table["fresh"] = (
        1e9 / FRESH * statistics.median(_fastest(lambda: torch.zeros(FRESH), 0) for _ in range(args.rounds))
    )
    args.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
