"""What a run over a data set costs beside the network: memory, finding faces again, and the gain of a second process.

    python benchmarks/runs.py memory [--photos 100 1000 10000] [--json FILE]
    python benchmarks/runs.py cache --images DIR [--copies 5] [--json FILE]
    python benchmarks/runs.py processes [--rounds 5] [--photos 160] [--json FILE]

``memory``: largest resident memory of a process that explains so many drawn photographs, inputs and canonical face of
224 x 224, a small network, meshes cached; each number in a process of its own. The faces are drawn, so no aligner is
in that memory. Needs 6 bytes for each pixel of a map on the disk (3 GB for 10,000), in the folder for temporary files.

``cache``: seconds from making the data set to the first forward pass, by FaceMeshAligner and from the cache, imports
left out; ``--copies`` makes more photographs of the same ones by writing them again a little smaller.

``processes``: photographs per second of one process and of two, one thread each, by turns. Counted is the time from
the second batch of each process to its last one, so that start-up, alignment and writing are excluded. "ratio" is by
the clock; where other work keeps the machine busy ("load"), "ratio_by_processor_time" is what says whether two
processes are in each other's way.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import captum_canonical as cc
from timing import machine

SIDE = 224


# ------------------------------------------------------------------------------------------------------ drawn faces
class DrawnFace:
    """Stands for an aligner: the canonical face somewhere in the photograph, as its pixels say."""

    def __init__(self, side: int = SIDE) -> None:
        self.side = side

    def __call__(self, images: list[np.ndarray], *, names: list[str]) -> cc.FaceMesh:
        """The mesh of one photograph."""
        shift = torch.from_numpy(images[0][0, 0].astype(np.float32) / 32)
        vertices = 0.8 * cc.CanonicalFace.default(self.side).vertices + 0.1 * self.side + shift
        return cc.FaceMesh(vertices[None], image_size=(self.side, self.side), topology="mediapipe-468")


def draw(folder: Path, count: int, side: int = SIDE) -> None:
    """Photographs of coarse noise, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number:06}.jpg")


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2)).eval()


# ----------------------------------------------------------------------------------------------------------- memory
def memory_of(count: int) -> dict[str, float]:
    """In this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root / "photos", count)
        data = cc.AlignedFaces(root / "photos", DrawnFace(), size=SIDE, crop=None, cache=root / "faces")
        start = time.perf_counter()
        result = cc.explain_dataset(small_network(), data, root / "run", num_points=8, show_progress=False)
        assert result.n == count
        measured = {"seconds": time.perf_counter() - start}
    return measured | {"photos": count, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = [json.loads(called("memory-of", str(count))) for count in arguments.photos]
    growth = max(row["megabytes"] for row in rows) - rows[0]["megabytes"]
    return {"size": SIDE, "rows": rows, "growth_in_megabytes": growth}


def called(*arguments: str) -> str:
    """The last line that this script prints in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


# ------------------------------------------------------------------------------------------------------------ cache
class FirstForward(Exception):
    """The network is called."""


def to_first_forward(photos: Path, cache: Path, aligner: Any) -> float:
    """Seconds from making the data set to the first forward pass."""

    def network(images: Tensor) -> Tensor:
        raise FirstForward(time.perf_counter())

    start = time.perf_counter()
    data = cc.AlignedFaces(photos, aligner, size=112, cache=cache)
    first = torch.utils.data.DataLoader(data, batch_size=8, collate_fn=data.collate)
    try:
        for batch in first:
            network(batch.images)
    except FirstForward as reached:
        return float(reached.args[0]) - start
    raise AssertionError("no batch")


def cache(arguments: argparse.Namespace) -> dict[str, Any]:
    from captum_canonical.adapters.face_mesh import FaceMeshAligner

    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for path in sorted(arguments.images.iterdir()):
            for copy in range(arguments.copies):
                with Image.open(path) as image:
                    smaller = image.convert("RGB").resize((image.width - copy, image.height - copy))
                    smaller.save(photos / f"{copy}-{path.stem}.jpg", quality=95)
        count = len(list(photos.iterdir()))
        aligner = FaceMeshAligner(on_missing="skip")
        first = to_first_forward(photos, Path(folder) / "faces", aligner)
        again = [to_first_forward(photos, Path(folder) / "faces", FaceMeshAligner(on_missing="skip")) for _ in range(5)]
    second = statistics.median(again)
    return {
        "photos": count,
        "first_run_seconds": first,
        "second_run_seconds": second,
        "ratio": first / second,
    }


# -------------------------------------------------------------------------------------------------------- processes
def worker(arguments: argparse.Namespace) -> None:
    """One of the processes: writes when each of its batches was finished."""
    from captum_canonical.run_folder.writer import RunWriter

    torch.set_num_threads(1)
    rank = int(os.environ.get("RANK", "0"))
    if arguments.pin:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    finished: list[tuple[float, float, int]] = []
    usual, written = RunWriter.write, [0.0, 0.0]

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def write(self: RunWriter, start: int, maps: Any, coverage: Any, records: Any) -> None:
        begun = now()
        usual(self, start, maps, coverage, records)
        ended = now()
        written[:] = [total + after - before for total, before, after in zip(written, begun, ended, strict=True)]
        finished.append((ended[0] - written[0], ended[1] - written[1], len(records)))

    RunWriter.write = write  # type: ignore[method-assign]
    data = cc.AlignedFaces(arguments.data, DrawnFace(), size=SIDE, crop=None, cache=arguments.cache)
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 2)),
    ).eval()
    cc.explain_dataset(network, data, arguments.out, num_points=64, show_progress=False, inference="dense")
    Path(f"{arguments.out}-{rank}.json").write_text(json.dumps(finished[1:]))


def throughput(ranks: int, folder: Path, turn: int, pin: bool) -> np.ndarray:
    """Photographs per second, and per second of processor time, of so many processes after their second batches."""
    out = folder / f"run-{turn}-{ranks}"
    ours = ["worker", "--data", folder / "photos", "--cache", folder / "faces", "--out", out]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), __file__]
    command = [sys.executable, *launch, *map(str, ours), *(["--pin"] if pin else [])]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    total = np.zeros(2)
    for rank in range(ranks):
        finished = np.array(json.loads(Path(f"{out}-{rank}.json").read_text()))
        total += finished[1:, 2].sum() / (finished[-1, :2] - finished[0, :2])
    return total


def processes(arguments: argparse.Namespace) -> dict[str, Any]:
    """By turns, first the one then the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "photos", arguments.photos)
        cc.AlignedFaces(folder / "photos", DrawnFace(), size=SIDE, crop=None, cache=folder / "faces").align()
        rounds = []
        for turn in range(arguments.rounds):
            load = os.getloadavg()[0]
            found = {n: throughput(n, folder, turn, arguments.pin) for n in ((1, 2) if turn % 2 == 0 else (2, 1))}
            ratio, by_processor = (found[2] / found[1]).tolist()
            each = {"one": found[1][0], "two": found[2][0], "ratio": ratio, "ratio_by_processor_time": by_processor}
            rounds.append(each | {"load": load})
            print(rounds[-1], flush=True)
    return {
        "photos": arguments.photos,
        "pinned": arguments.pin,
        "rounds": rounds,
        "median_ratio": statistics.median(each["ratio"] for each in rounds),
        "median_ratio_by_processor_time": statistics.median(each["ratio_by_processor_time"] for each in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("memory")
    one.add_argument("--photos", type=int, nargs="+", default=[100, 1000, 10_000])
    commands.add_parser("memory-of").add_argument("photos", type=int)
    two = commands.add_parser("cache")
    two.add_argument("--images", type=Path, required=True, help="folder of photographs")
    two.add_argument("--copies", type=int, default=5)
    three = commands.add_parser("processes")
    three.add_argument("--rounds", type=int, default=5)
    three.add_argument("--photos", type=int, default=160)
    three.add_argument("--pin", action="store_true", help="each process on a core of its own")
    four = commands.add_parser("worker")
    for name in ("--data", "--cache", "--out"):
        four.add_argument(name, type=Path)
    four.add_argument("--pin", action="store_true")
    for each in (one, two, three):
        each.add_argument("--json", type=Path, help="add the result to this file")
    arguments = parser.parse_args()
    if arguments.command == "memory-of":
        print(json.dumps(memory_of(arguments.photos)))
    elif arguments.command == "worker":
        worker(arguments)
    else:
        result = {"memory": memory, "cache": cache, "processes": processes}[arguments.command](arguments)
        print(json.dumps(result, indent=1))
        if arguments.json:
            there = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
            arguments.json.write_text(json.dumps(there | {arguments.command: {**machine(), **result}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
