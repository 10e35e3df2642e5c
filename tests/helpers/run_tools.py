"""Small runs of explain_dataset, in this process and in others that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical import files
from captum_canonical.data.records import FaceBatch
from captum_canonical.run_folder import layout, writer
from captum_canonical.run_folder.lock import FolderLock

SIDE, COUNT, BATCH = 32, 13, 2  # the last of seven batches holds one photograph


def face() -> cc.CanonicalFace:
    return cc.CanonicalFace.default(SIDE)


class Watch:
    """What a test wants to happen decides nothing about a network."""

    def __init__(self, on_image: Callable[[int], None]) -> None:
        self.on_image = on_image

    def __fingerprint__(self) -> None:
        return None


class Network(nn.Module):
    """Two scores of 4 x 4 means, and what a test wants to happen to the photographs of some numbers."""

    def __init__(self, on_image: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 8, 8)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
        self._watch = Watch(on_image or (lambda number: None))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        for number in number_of(images):
            self._watch.on_image(number)
        return self.layer(images).relu().flatten(2).sum(2)


def number_of(images: Tensor) -> list[int]:
    """Which photographs these are: the corner, which no patch hides, tells."""
    return (images[:, 0, 0, 0] * 1000).round().int().tolist()


def photographs(count: int = COUNT) -> tuple[Tensor, cc.FaceMesh, Tensor]:
    """Images that carry their number, meshes that are moved a little, and labels."""
    generator = torch.Generator().manual_seed(9)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    images[:, 0, 0, 0] = torch.arange(count) / 1000
    moved = torch.rand(count, 1, 3, generator=generator) * torch.tensor([4.0, 4.0, 0.0]) - 2
    canonical = face()
    vertices = 0.7 * (canonical.vertices - SIDE / 2) + SIDE / 2 + moved
    return images, cc.FaceMesh(vertices, image_size=(SIDE, SIDE), topology=canonical.topology), torch.arange(count) % 2


def labelled(groups: Any = None, identities: Any = None, names: Any = None) -> FaceBatch:
    """The same photographs with groups, identities and names."""
    images, faces, targets = photographs()
    given = [[f"photo {number}" for number in range(COUNT)] if names is None else names, torch.arange(COUNT)]
    return FaceBatch(images, faces, targets, groups, identities, *given)


def explain(out: Path, network: nn.Module | None = None, data: Any = None, **arguments: Any) -> cc.ModelSaliency:
    """The run that all tests of this kind make."""
    images, faces, targets = photographs()
    usual: dict[str, Any] = {
        "canonical_face": face(),
        "batch_size": BATCH,
        "num_points": 12,
        "patch_size": 7,
        "show_progress": False,
    }
    usual |= arguments
    given = (images, faces, targets) if data is None else data
    return cc.explain_dataset(network or Network(), given, out, **usual)


def summary(out: Path) -> bytes:
    return (out / "summary.npz").read_bytes()


# -------------------------------------------------------------------------------------------------- other processes
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["captum_canonical.runs", "captum_canonical.saliency", "multiprocessing.pool"])


def start(log: Path, work: str, rank: int = 0, ranks: int = 1, port: int = 0, **arguments: Any) -> ForkServerProcess:
    """A process that runs a function of this module; its output and errors go to the file ``log``."""
    process = _CONTEXT.Process(target=_child, args=(log, work, rank, ranks, port, arguments))
    process.start()
    return process


def _child(log: Path, work: str, rank: int, ranks: int, port: int, arguments: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    if ranks > 1:  # as torchrun does
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = str(port)
    with open(log, "a", buffering=1, encoding="utf-8") as sys.stderr:
        try:
            globals()[work](**arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)


def slow_run(out: Path, seconds: float = 0.01, **arguments: Any) -> None:
    """Each forward pass takes a little, so that there is time to do something to the process."""
    explain(out, Network(lambda number: time.sleep(seconds)), **arguments)


def run_that_fails_on(out: Path, numbers: tuple[int, ...], **arguments: Any) -> None:
    """The network cannot take photographs of these numbers."""

    def fail(number: int) -> None:
        if number in numbers:
            raise ValueError(f"photograph {number} is not to my taste")

    explain(out, Network(fail), **arguments)


def run_that_dies_on(out: Path, number: int, **arguments: Any) -> None:
    """The process is killed, as if from outside, when it comes to a photograph."""

    def die(each: int) -> None:
        if each == number:
            os.kill(os.getpid(), signal.SIGKILL)

    explain(out, Network(die), **arguments)


def labelled_run(out: Path, labels: dict[str, list[Any]], number: int) -> None:
    """With these labels; the process is killed when it comes to the photograph of this number."""
    run_that_dies_on(out, number, data=labelled(**labels))


def run_that_raises_on(out: Path, number: int, **arguments: Any) -> None:
    """A disk that is full when one process writes the batch of a photograph."""
    seen: list[int] = []
    usual = layout.RowFile.write

    def write(self: layout.RowFile, start: int, values: Any) -> None:
        if number in seen:
            raise OSError(28, "No space left on device")
        usual(self, start, values)

    layout.RowFile.write = write  # type: ignore[method-assign]  # in a process of its own
    explain(out, Network(seen.append), **arguments)


class HalfWritten:
    """A file whose process is killed in the middle of a write, when ``left`` others have gone well."""

    def __init__(self, file: Any, left: list[int]) -> None:
        self._file, self._left = file, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: Any) -> int:
        self._left[0] -= 1
        if self._left[0] < 0:
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._file.write(content)


def run_that_dies_writing(out: Path, what: str, times: int, **arguments: Any) -> None:
    """The process is killed when half of something is in its file, after so many times."""
    left = [times]

    def opened(path: Path, mode: str = "r", **more: Any) -> Any:
        file = open(path, mode, **more)
        return HalfWritten(file, left) if what in str(path) and mode != "rb" else file

    for module in (layout, writer, files):
        vars(module)["open"] = opened
    explain(out, Network(), **arguments)


def run_of_small_files(out: Path) -> None:
    """The system lets no file grow beyond 30 kB, which is less than the maps take."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    explain(out)


def locked_and_killed(out: Path, seconds: float) -> None:
    """The process is killed while it holds the lock of a folder; a child lives a little longer."""
    FolderLock(out).__enter__()
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def twice(out: Path) -> None:
    """Two calls in one process, and in all of them the same result."""
    results = [explain(out / name) for name in ("first", "second")]
    assert torch.equal(results[0].mean, results[1].mean)
    assert not torch.distributed.is_initialized()


def in_a_group_of_its_own(out: Path) -> None:
    """The script has begun a group before, which is there afterwards."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")
    explain(out)
    total = torch.tensor([rank + 1])
    torch.distributed.all_reduce(total)
    assert int(total) == count * (count + 1) // 2
    torch.distributed.destroy_process_group()


def different_calls(out: Path) -> None:
    """Processes that do not make the same call."""
    explain(out, seed=int(os.environ["RANK"]))


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(folder: Path, work: str, ranks: int, **arguments: Any) -> tuple[list[int | None], list[str]]:
    """Exit codes and words of so many processes that do the same; an argument ``by_rank`` is each one's own."""
    port, by_rank = free_port(), arguments.pop("by_rank", [{}] * ranks)
    logs = [folder / f"output-{port}-{rank}.txt" for rank in range(ranks)]
    members = [start(path, work, rank, ranks, port, **(arguments | by_rank[rank])) for rank, path in enumerate(logs)]
    for member in members:
        member.join(60)
        if member.is_alive():
            member.kill()
            member.join()
    return [member.exitcode for member in members], [path.read_text() for path in logs]


def stopped_run(out: Path) -> None:
    """Enough after 64 of 70 photographs, not after 32 or 48."""
    images, faces, targets = photographs(70)
    images[:, :, 8:24, 12:20] += 0.1
    explain(out, data=(images, faces, targets), until=cc.SplitHalf(0.4))


def aligned_run(out: Path, photos: Path) -> None:
    """Photographs in files, faces found once."""
    from dataset_tools import CornerAligner

    class Slowly(CornerAligner):
        def __call__(self, images: Any, *, names: Any) -> cc.FaceMesh:
            time.sleep(0.2)
            return super().__call__(images, names=names)

    data = cc.AlignedFaces(photos, Slowly(), size=(SIDE, SIDE), cache=out.with_name("cache"), cache_key="corners")
    vertices = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) * SIDE
    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), vertices)
    explain(out, data=data, canonical_face=corners, num_points=5)
    rank = os.environ["RANK"]
    out.with_name(f"aligned-{rank}.txt").write_text(" ".join(CornerAligner.calls))
