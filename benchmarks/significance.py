"""What corrected tests of model-level maps cost: seconds and memory of max-T, of clusters and of the group test.

    python benchmarks/significance.py [--maps 1000] [--size 224] [--permutations 10000] [--rounds 3] [--threads 1]
        [--json FILE]

A run folder is written with so many maps, smooth noise on the canonical face, of which each photograph shows another
part (a turned head hides a strip at one side). Each measurement is a process of its own that opens the folder, looks at
its resident memory, runs one test, and says the wall-clock and processor seconds of the test and how far the resident
memory rose at most; the pages of the memory-mapped files that the test reads are part of that. Other work on the
machine ("load", the mean number of running processes over the last minute) lengthens the first number. With several
threads it lengthens the second one, too: threads that wait for each other count as busy.

Tests: ``pixels`` flips signs of all maps (one sample, max-T over pixels), ``clusters`` the same with clusters by mass,
``groups`` compares one half of the people with the other, pixels and regions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import captum_canonical as cc
from captum_canonical.run_folder.manifest import Manifest
from captum_canonical.run_folder.writer import RunWriter, begin_run
from timing import machine

AT_ONCE = 50
COARSE = 16  # values of the noise in each direction: about as coarse as maps of occluded patches


# ---------------------------------------------------------------------------------------------------- a drawn run
def write_run(root: Path, count: int, size: int) -> None:
    """The folder of a run over so many photographs, each of another person, half of them in each of two groups."""
    face = cc.CanonicalFace.default(size)
    root.mkdir()
    begin_run(root, Manifest(count, face.size, {}, "drawn", "drawn"), face)
    writer = RunWriter(root)
    for start in range(0, count, AT_ONCE):
        rows = range(start, min(start + AT_ONCE, count))
        generator = torch.Generator().manual_seed(start)
        coarse = torch.randn(len(rows), 1, COARSE, COARSE, generator=generator)
        maps = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
        seen = (face.raster.triangle >= 0).repeat(len(rows), 1, 1, 1)
        for row, strip in enumerate(torch.randint(0, size // 4, (len(rows),), generator=generator).tolist()):
            seen[row, :, :, :strip] = False
        records = [{"name": f"{row}.jpg", "place": row, "identity": str(row), "group": str(row % 2)} for row in rows]
        writer.write(start, maps.numpy(), seen.numpy().astype(np.float32), [r | {"status": "done"} for r in records])


# ------------------------------------------------------------------------------------------------------ the tests
def pixels(result: cc.ModelSaliency, permutations: int) -> int:
    return int(result.significance(permutations).mask.sum())


def clusters(result: cc.ModelSaliency, permutations: int) -> int:
    return int(result.significance(permutations, clusters=True).mask.sum())


def groups(result: cc.ModelSaliency, permutations: int) -> int:
    sides = result.strata("group")
    return int(cc.compare_groups(sides["0"], sides["1"], permutations=permutations).significance.mask.sum())


TESTS: dict[str, Callable[[cc.ModelSaliency, int], int]] = {"pixels": pixels, "clusters": clusters, "groups": groups}


def measured(folder: str, test: str, permutations: int, threads: int) -> dict[str, float]:
    """In this process."""
    torch.set_num_threads(threads)
    result = cc.ModelSaliency.open(folder)
    before = resident()
    wall, processor = time.perf_counter(), time.process_time()
    found = TESTS[test](result, permutations)
    return {
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "baseline_megabytes": before,
        "load": os.getloadavg()[0],
        "significant_pixels": found,
    }


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def in_a_process(folder: Path, test: str, permutations: int, threads: int) -> dict[str, float]:
    options = ["--permutations", str(permutations), "--threads", str(threads)]
    command = [sys.executable, __file__, "--of", str(folder), test, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--json", type=Path, help="write the result into this file")
    parser.add_argument("--of", nargs=2, metavar=("FOLDER", "TEST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        print(json.dumps(measured(*arguments.of, arguments.permutations, arguments.threads)))
        return
    settings = {name: getattr(arguments, name) for name in ("maps", "size", "permutations", "threads")}
    result: dict[str, Any] = {**machine(), **settings, "tests": {}}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_run(run, arguments.maps, arguments.size)
        for test in arguments.tests:
            rounds = [
                in_a_process(run, test, arguments.permutations, arguments.threads) for _ in range(arguments.rounds)
            ]
            most = {f"most_{name}": max(each[name] for each in rounds) for name in list(rounds[0])[:3]}
            result["tests"][test] = {**most, "rounds": rounds}
            print(test, json.dumps(most), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
