"""Wall-clock times of works that take turns, so that a noisy minute hits all of them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object]) -> float:
    """Of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternated(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, by round; the order rotates, and a first round warms up."""
    names, times = list(works), {name: [] for name in works}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            needed = seconds(works[name])
            if turn:
                times[name].append(needed)
    return times


def machine() -> dict[str, object]:
    """What the times were taken on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "device": "cpu",
    }
