"""A run: the folder is locked and begun, batches are explained and written, a stopping rule is judged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.files import with_checksum, write_json
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.run_folder.layout import MANIFEST, STOPPING, check_folder
from captum_canonical.run_folder.lock import FolderLock
from captum_canonical.run_folder.manifest import Manifest, photographs_json, write_photographs
from captum_canonical.run_folder.writer import RunWriter, begin_run, check_same
from captum_canonical.runs.photo_maps import PhotoMaps
from captum_canonical.runs.processes import Processes
from captum_canonical.runs.sources import LoadedBatch, PhotoSource
from captum_canonical.runs.stopping import Monitor, Rule, Verdict, checkpoints
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.saliency.result import ModelSaliency

ROUND = 8  # batches of each process between two synchronisation points


@dataclass(frozen=True)
class Segment:
    """Batches between two synchronisation points.

    Attributes:
        batches: their numbers.
        judged: whether a stopping rule is judged after them.
    """

    batches: range
    judged: bool


@dataclass(eq=False)
class Job:
    """One call of :func:`explain_dataset`."""

    root: Path
    source: PhotoSource
    maps: PhotoMaps
    manifest: Manifest
    processes: Processes
    until: Rule | None
    symmetric: bool
    _verdicts: list[Verdict] = field(default_factory=list)
    _monitored: int = 0

    def run(self, num_workers: int, show_progress: bool) -> None:
        """Runs it to the end, or until the stopping rule is met."""
        if self.processes.from_first(self._as_it_is) == "finished":
            return
        try:
            with self._locked():
                writer = self._begin()
                self._explain(writer, num_workers, show_progress)
                self.processes.together(self._finish)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"explain_dataset was interrupted; what is finished is in {self.root}: ModelSaliency.open"
                f"({str(self.root)!r}) reads it, and the same call goes on from there."
            ) from None

    # ------------------------------------------------------------------------------------------------ the start
    def _as_it_is(self) -> str:
        """``"finished"`` if the folder cannot be written to and holds all that this call would write."""
        effective = os.access in os.supports_effective_ids
        if not (self.root / MANIFEST).exists() or os.access(self.root, os.W_OK, effective_ids=effective):
            return ""
        check_same(self.root, Manifest.read(self.root / MANIFEST), self.manifest)
        run, labels = RunFolder.open(self.root), photographs_json(self.source.photographs, self.source.classes)
        judged = bool(run.stopping) == bool(self.until)
        return "finished" if run.complete and judged and run.photographs == labels else ""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Process 0 holds the lock for all of them."""

        def lock() -> None:
            if self.processes.rank == 0:
                check_folder(self.root)
                stack.enter_context(FolderLock(self.root))

        with ExitStack() as stack:
            self.processes.together(lock)
            yield

    def _begin(self) -> RunWriter:
        def begin() -> None:
            CanonicalModelSaliency(self.maps.face, self.symmetric)  # raises now rather than after an hour
            if self.processes.rank == 0:
                begin_run(self.root, self.manifest, self.maps.face)
                write_photographs(self.root, self.source.photographs, self.source.classes)
                (self.root / STOPPING).unlink(missing_ok=True)  # judged again, in no time

        def join() -> RunWriter:
            try:
                differences = Manifest.read(self.root / MANIFEST).differences(self.manifest)
            except CanonicalError as error:
                raise CanonicalError(f"out: expected a folder that all processes see. {error}") from error
            if differences:
                raise CanonicalError(f"expected the same call in all processes, got {'; '.join(differences)}.")
            return RunWriter(self.root, self.processes.rank)

        self.processes.together(begin)
        return self.processes.together(join)  # all know what is finished before anybody writes more

    # ------------------------------------------------------------------------------------------------ the work
    def _explain(self, writer: RunWriter, num_workers: int, show_progress: bool) -> None:
        segments = self._segments()
        batches, (rank, count) = self.source.batches, (self.processes.rank, self.processes.count)
        mine = []
        for segment in segments:
            todo = [number for number in segment.batches if not writer.finished(batches[number])]
            mine.append(todo[rank::count])
        numbers = [number for part in mine for number in part]
        loads = self.source.load(numbers, num_workers) if numbers else iter(())
        monitor = self.until.begin(self.maps.face, self.symmetric, self.maps.seed) if self.until else None
        with self._bar(writer, numbers, show_progress) as bar:
            for segment, part in zip(segments, mine, strict=True):
                self.processes.together(lambda part=part: self._explain_segment(part, loads, writer, bar))  # type: ignore[misc]
                if segment.judged and monitor and self._judge(monitor, batches[segment.batches[-1]].stop):
                    return

    def _segments(self) -> list[Segment]:
        """They end where a rule is judged and, with many processes, after each round."""
        batches = self.source.batches
        judged = {len(batches)}
        if self.until is not None:
            for photos in checkpoints():
                number = next((number for number, rows in enumerate(batches, 1) if rows.stop >= photos), None)
                if number is None:
                    break
                judged.add(number)
        rounds = range(0, len(batches), ROUND * self.processes.count) if self.processes.count > 1 else ()
        cuts = sorted({0, *judged, *rounds})
        return [
            Segment(range(start, stop), stop in judged and self.until is not None) for start, stop in pairwise(cuts)
        ]

    def _explain_segment(self, numbers: list[int], loads: Iterator[LoadedBatch], writer: RunWriter, bar: Any) -> None:
        for number in numbers:
            found = self.maps.of(next(loads), number, self.source.batches[number].start)
            if number == 0 and len(found.records) > 1 and found.all_failed:
                reasons = "; ".join(dict.fromkeys(str(record["reason"]).rstrip(".") for record in found.records))
                raise CanonicalError(
                    f"every photograph of the first batch fails: {reasons}. Nothing was written for them."
                )
            writer.write(found.first, found.maps, found.coverage, found.records)
            bar.update(len(found.records))

    def _bar(self, writer: RunWriter, numbers: list[int], show_progress: bool) -> Any:
        batches, count = self.source.batches, self.processes.count
        todo = sum(len(batches[number]) for number in numbers)
        # One process counts all photographs, those of former calls included; one of many counts its own.
        finished = 0 if count > 1 else self.manifest.count - todo
        name = "Explaining" if count == 1 else f"Explaining, process 1 of {count}"
        hidden = not show_progress or self.processes.rank > 0
        return tqdm(total=finished + todo, initial=finished, desc=name, unit="photo", disable=hidden)

    # ----------------------------------------------------------------------------------------------- afterwards
    def _judge(self, monitor: Monitor, rows: int) -> bool:
        """Whether the first rows, which are finished in all processes, meet the rule; process 0 decides."""

        def first() -> str:
            run = RunFolder.open(self.root)
            people = iter(run.identities[self._monitored : rows])
            for maps, coverage in run.chunks(self._monitored, rows):
                monitor.update(maps, coverage, list(islice(people, len(maps))))
            self._monitored = rows
            verdict = monitor.verdict()
            self._verdicts.append(verdict)
            verdicts = [each.as_json() for each in self._verdicts]
            found = {"stopped_at": rows if verdict.met else None, "verdicts": verdicts}
            write_json(self.root / STOPPING, with_checksum(found))
            return "met" if verdict.met else "not met"

        return self.processes.from_first(first) == "met"

    def _finish(self) -> None:
        if self.processes.rank:
            return
        result = ModelSaliency.open(self.root, self.symmetric)
        if not result.n:
            reason = next(iter(RunFolder.open(self.root).left_out.values()))
            raise CanonicalError(f"{self.root}: no photograph could be explained: {reason}")
        result.save_summary()
        if result.run is not None and result.run.rounding:
            warnings.warn(f"{self.root}: {result.run.rounding}", stacklevel=user_stacklevel())
