"""``explain --dry-run``: estimates the forward passes and the duration of a run from a few photographs."""

from __future__ import annotations

import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.cli.console import CommandResult, escape, format_duration, format_size, handle_log
from captum_canonical.cli.photographs import load_photographs
from captum_canonical.cli.session import OCCLUSION, Session
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.run_folder.layout import COVERAGE_TYPE, MANIFEST, MAP_TYPE

SAMPLE = 64  # photographs in which faces are searched
TIME_LIMIT = 6.0  # seconds; of a batch that takes longer, only a part of the points is timed
TIMED_BATCHES = 2
FIRST_POINTS = 64
POINT_ARGUMENTS = ("num_points", "patch_size", "baselines")


@dataclass(frozen=True)
class RunEstimate:
    """The estimated cost of a run.

    Attributes:
        photographs: number of photographs.
        found: number of those with a face; extrapolated if ``exact`` is False.
        finished: number of those that an unfinished run in the folder holds already.
        forward_passes: number of images that go through the network; an incremental window counts as one.
        exact: whether every photograph was examined.
        align_seconds, explain_seconds: estimated durations of the two steps.
        seconds: estimated duration of the whole command.
        disk_bytes: size of the run folder.
        inference: ``"incremental"``, ``"dense"`` with a reason, or None for methods other than occlusion.
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
        """The estimate for people."""
        about = "" if self.exact else "about "
        lines = [f"{about}{self.found} faces in {self.photographs} photographs"]
        if not self.exact:
            lines[0] += f", going by {SAMPLE} of them"
        if self.finished:
            lines.append(f"{self.finished} are finished already in {escape(out)}")
        lines.append(f"{about}{self.forward_passes:,} forward passes")
        if self.inference:
            lines.append(f"inference: {self.inference}")
        most = "at most about" if until is not None else "about"
        lines.append(
            f"{most} {format_duration(self.seconds)}: {format_duration(self.align_seconds)} to find the faces, "
            f"{format_duration(self.explain_seconds)} to explain them, on this machine as busy as it is now"
        )
        lines.append(f"{format_size(self.disk_bytes)} in {escape(out)}")
        return "\n".join(lines)


def estimate(arguments: Namespace, session: Session, call: dict[str, Any], start: float) -> CommandResult:
    """Estimates the cost of a run from a few photographs; writes nothing but meshes into ``--cache``.

    Args:
        arguments: options of the command.
        session: network and photographs.
        call: arguments of :func:`explain_dataset`.
        start: ``time.perf_counter()`` at the start of the command.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CanonicalError("--dry-run: expected one process; call it without torchrun.")
    startup = time.perf_counter() - start
    rows = session.data.rows
    chosen = rows[:: -(-len(rows) // SAMPLE)]
    start = time.perf_counter()
    sample = session.data if len(chosen) == len(rows) else load_photographs(arguments, session.settings, chosen)
    sample = sample.align()
    align_time = time.perf_counter() - start
    session = replace(session, data=sample)
    session.probe()
    finished = len(RunFolder.open(arguments.out)) if (arguments.out / MANIFEST).is_file() else 0
    factor = len(rows) / len(chosen)
    found = round(len(sample) * factor)
    remaining = max(0, found - finished)
    align_seconds = align_time * (factor if arguments.cache is None else factor - 1)
    log: list[str] = []
    with handle_log(log.append):
        explain_seconds = _seconds_per_photo(arguments, session, call) * remaining
    height, width = session.face.size
    values = RunEstimate(
        photographs=len(rows),
        found=found,
        finished=finished,
        forward_passes=round(_forward_passes(session, call) / len(sample) * remaining),
        exact=len(chosen) == len(rows) and not finished,
        align_seconds=align_seconds,
        explain_seconds=explain_seconds,
        seconds=startup + align_seconds + explain_seconds,
        disk_bytes=found * height * width * (MAP_TYPE.itemsize + COVERAGE_TYPE.itemsize),
        inference=_inference(arguments, log),
    )
    return CommandResult(values.text(arguments.out, arguments.until), {"dry_run": True, **asdict(values)})


def _inference(arguments: Namespace, log: list[str]) -> str | None:
    if arguments.method != OCCLUSION:
        return None
    if arguments.inference == "dense":
        return "dense, as asked for"
    reason = next((message for message in log if message.startswith("inference is dense")), None)
    return "incremental" if reason is None else reason.removeprefix("inference is ").rstrip(".")


# -------------------------------------------------------------------------------------------------- forward passes
def _forward_passes(session: Session, call: dict[str, Any]) -> int:
    """Number of images that go through the network for all photographs of the session: predictions and evaluations."""
    count = len(session.data)
    if "method" in call:
        return count * (1 + _count_evaluations(session, call["method"]))
    method = CanonicalOcclusion(session.confidence, None, session.face)
    own = {name: call[name] for name in ("num_points", "patch_size") if name in call}
    records = (session.data[index] for index in range(count))
    return count + sum(int(method.num_evaluations(record.image[None], faces=record.faces, **own)) for record in records)


def _count_evaluations(session: Session, method: Any) -> int:
    """Number of images that a method runs through the network for one photograph."""
    from captum_canonical.benchmarking.methods import EvaluationCounter

    batch, counter = session.batch(1), EvaluationCounter()
    target = session.targets(batch, session.confidence)
    with counter.counting():
        method.attribute(batch.images, target=target, faces=batch.faces)
    return counter.count or 1


# ------------------------------------------------------------------------------------------------------- duration
def _seconds_per_photo(arguments: Namespace, session: Session, call: dict[str, Any]) -> float:
    batch = session.batch(arguments.batch_size)
    target = session.targets(batch, session.confidence)  # warms the network up, too
    if arguments.method == OCCLUSION:
        batch_seconds = _extrapolated_batch_seconds(session, call, batch, target)
    else:
        first = None if target is None else target[:1]
        one = _timed(lambda: call["method"].attribute(batch.images[:1], target=first, faces=batch.faces[:1]))
        batch_seconds = one * len(batch)
    return batch_seconds / len(batch) if batch_seconds > TIME_LIMIT else _timed_batches(arguments, session, call)


def _extrapolated_batch_seconds(session: Session, call: dict[str, Any], batch: FaceBatch, target: Any) -> float:
    """Times more and more points of a batch up to the time limit, and extrapolates to all of them."""
    start = time.perf_counter()
    method = CanonicalOcclusion(session.confidence, None, session.face, call["inference"] or "auto")
    own = {name: call[name] for name in POINT_ARGUMENTS if name in call}
    wanted = own.get("num_points") or session.face.num_points
    first = min(FIRST_POINTS, wanted)
    marks = [(0, start)]
    for maps in method.refine(batch.images, target, faces=batch.faces, first_points=max(2, first), **own):
        marks.append((maps.num_points, time.perf_counter()))
        if time.perf_counter() - start > TIME_LIMIT:
            break
    (before, then), (points, now) = marks[-2:]
    return now - start + (now - then) / (points - before) * (wanted - points)


def _timed_batches(arguments: Namespace, session: Session, call: dict[str, Any]) -> float:
    """Seconds per photograph of a run of a few batches into a temporary folder."""
    from captum_canonical.runs.explain import explain_dataset

    count = min(len(session.data), TIMED_BATCHES * arguments.batch_size)
    rows = [session.data.rows[place] for place in session.data.places[:count]]
    some = load_photographs(arguments, session.settings, rows).align()
    quiet = call | {"until": None, "show_progress": False, "num_workers": 0}
    with tempfile.TemporaryDirectory() as folder:
        return _timed(lambda: explain_dataset(session.confidence, some, folder, **quiet)) / count


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
