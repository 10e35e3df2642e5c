"""``--dry-run``: how many forward passes a run takes and about how long, from a few photographs tried."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_canonical.attributions.arguments import prefix_of
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.points import PointGeometry
from captum_canonical.cli.console import Outcome, seconds, shown
from captum_canonical.cli.photographs import photographs
from captum_canonical.cli.session import Session
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.run_folder.files import COVERAGE_TYPE, MAP_TYPE
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.runs.explain import explain_dataset

SAMPLE = 64  # photographs in which faces are looked for
PATIENCE = 6.0  # seconds that a batch may take before only a part of its points is tried
TRIED = 2  # batches
FIRST_POINTS = 64
OTHER_PASSES = 2  # the prediction, and the clean score
OF_RUN = ("num_points", "patch_size", "baselines")


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        photographs: of the source.
        found: those with a face; extrapolated if ``exact`` is False.
        finished: those that an unfinished run in the folder has already.
        forward_passes: images that go through the network, incremental windows counted as such.
        exact: whether every photograph was looked at.
        align_seconds, explain_seconds, seconds: about; ``seconds`` is everything.
        disk_bytes: of the run folder.
        inference: ``"incremental"``, ``"dense"`` with a reason, or None for methods that do not hide patches.
    """

    photographs: int
    found: int
    finished: int
    forward_passes: int
    exact: bool
    align_seconds: float
    explain_seconds: float
    seconds: float
    disk_bytes: int
    inference: str | None

    def text(self, out: Path, until: object) -> str:
        """For people."""
        about = "" if self.exact else "about "
        lines = [f"{about}{self.found} faces in {self.photographs} photographs"]
        if not self.exact:
            lines[0] += f", going by {SAMPLE} of them"
        if self.finished:
            lines.append(f"{self.finished} are finished already in {shown(out)}")
        lines.append(f"{about}{self.forward_passes:,} forward passes")
        if self.inference:
            lines.append(f"inference: {self.inference}")
        most = "at most about" if until is not None else "about"
        lines.append(
            f"{most} {seconds(self.seconds)}: {seconds(self.align_seconds)} to find the faces, "
            f"{seconds(self.explain_seconds)} to explain them, on this machine as busy as it is now"
        )
        lines.append(f"{self.disk_bytes / 1e6:,.1f} MB in {shown(out)}")
        return "\n".join(lines)


def estimate(arguments: Namespace, session: Session, call: dict[str, Any], begun: float) -> Outcome:
    """Tries a few photographs; nothing is written but meshes into ``--cache``.

    Args:
        arguments: of the command.
        session: its network and photographs.
        call: the arguments of :func:`explain_dataset`.
        begun: ``time.perf_counter()`` when the command began.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CanonicalError("--dry-run: expected one process; call it without torchrun.")
    ready = time.perf_counter() - begun
    rows = session.data.rows
    chosen = rows[:: -(-len(rows) // SAMPLE)]
    start = time.perf_counter()
    sample = (session.data if len(chosen) == len(rows) else photographs(arguments, session.settings, chosen)).align()
    looked = time.perf_counter() - start
    session = replace(session, data=sample)
    session.probe()
    finished = len(RunFolder.open(arguments.out)) if (arguments.out / "manifest.json").is_file() else 0
    share = len(rows) / len(chosen)
    found = round(len(sample) * share)
    todo = max(0, found - finished)
    align = looked * share if arguments.cache is None else looked * (share - 1)
    with _log() as told:
        explain = _seconds_each(arguments, session, call) * todo
    height, width = session.face.size
    values = Estimate(
        photographs=len(rows),
        found=found,
        finished=finished,
        forward_passes=round(_passes(arguments, session, call) / len(sample) * todo),
        exact=len(chosen) == len(rows) and not finished,
        align_seconds=align,
        explain_seconds=explain,
        seconds=ready + align + explain,
        disk_bytes=found * height * width * (MAP_TYPE.itemsize + COVERAGE_TYPE.itemsize),
        inference=_inference(arguments, told),
    )
    return Outcome(values.text(arguments.out, arguments.until), {"dry_run": True, **asdict(values)})


# ------------------------------------------------------------------------------------------------------ counting
def _passes(arguments: Namespace, session: Session, call: dict[str, Any]) -> int:
    """Images that go through the network for all photographs of the session."""
    if arguments.method != "occlusion":
        return len(session.data) * (1 + _rows_of_one(session, call["method"]))
    total = 0
    for index in range(len(session.data)):
        record = session.data[index]
        boxes = PointGeometry.of(
            session.face, (record.image[None],), (record.faces,), call.get("patch_size"), None, "canonical"
        )
        wanted = boxes.seen & prefix_of(session.face, call.get("num_points"))
        assert boxes.boxes[0] is not None  # one input, with a mesh
        total += OTHER_PASSES + len(torch.unique(boxes.boxes[0][wanted], dim=0))
    return total


def _rows_of_one(session: Session, method: Any) -> int:
    """Rows that a method other than occlusion runs through the network for one photograph."""
    if not isinstance(session.network, nn.Module):
        return 1
    rows = 0

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    batch = _batch(session, 1)
    handle = session.network.register_forward_pre_hook(count)
    try:
        method.attribute(batch.images, target=_target(session, batch), faces=batch.faces)
    finally:
        handle.remove()
    return rows


# -------------------------------------------------------------------------------------------------------- timing
def _seconds_each(arguments: Namespace, session: Session, call: dict[str, Any]) -> float:
    """Seconds for one photograph of a run in whole batches, once everything is warm."""
    batch = _batch(session, arguments.batch_size)
    target = _target(session, batch)  # warms the network up, too
    if arguments.method == "occlusion":
        whole = _by_points(session, call, batch, target)
    else:
        whole = _timed(lambda: call["method"].attribute(batch.images[:1], target=target[:1], faces=batch.faces[:1]))
        whole *= len(batch)
    return whole / len(batch) if whole > PATIENCE else _by_batches(arguments, session, call)


def _by_points(session: Session, call: dict[str, Any], batch: FaceBatch, target: Any) -> float:
    """Seconds for a batch, from more and more of its points until patience ends, in the inference of all of them."""
    start = time.perf_counter()
    method = CanonicalOcclusion(session.confidence, None, session.face, call["inference"] or "auto")
    own = {name: call[name] for name in OF_RUN if name in call}
    wanted = own.get("num_points") or session.face.num_points
    first = min(FIRST_POINTS, wanted)
    marks = [(0, start)]
    for found in method.refine(batch.images, target, faces=batch.faces, first_points=max(2, first), **own):
        marks.append((found.num_points, time.perf_counter()))
        if time.perf_counter() - start > PATIENCE:
            break
    (before, then), (points, now) = marks[-2:]
    return now - start + (now - then) / (points - before) * (wanted - points)


def _by_batches(arguments: Namespace, session: Session, call: dict[str, Any]) -> float:
    """Seconds for a photograph, of a run of a few batches into a folder that is thrown away."""
    count = min(len(session.data), TRIED * arguments.batch_size)
    rows = [session.data.rows[place] for place in session.data.places[:count]]
    some = photographs(arguments, session.settings, rows).align()
    quiet = call | {"until": None, "show_progress": False, "num_workers": 0}
    with tempfile.TemporaryDirectory() as folder:
        return _timed(lambda: explain_dataset(session.confidence, some, folder, **quiet)) / count


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _batch(session: Session, size: int) -> FaceBatch:
    count = min(size, len(session.data))
    return session.data.collate([session.data[index] for index in range(count)]).to(session.device)


def _target(session: Session, batch: FaceBatch) -> Any:
    """(B,) classes to explain, or None for a network with one score."""
    with torch.no_grad():
        output = session.confidence(batch.images)
    if output.ndim < 2 or output.shape[1] < 2:
        return None
    if isinstance(session.target, int):
        return torch.full((len(batch),), session.target, device=output.device)
    return output.argmax(1)


@contextmanager
def _log() -> Iterator[list[str]]:
    """What the package says about its decisions meanwhile."""
    told: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("captum_canonical")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _inference(arguments: Namespace, told: list[str]) -> str | None:
    if arguments.method != "occlusion":
        return None
    reason = next((each for each in told if each.startswith("inference is dense")), None)
    if arguments.inference == "dense":
        return "dense, as asked for"
    return "incremental" if reason is None else reason.removeprefix("inference is ").rstrip(".")
