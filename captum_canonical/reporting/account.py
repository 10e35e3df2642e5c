"""What became of a run's photographs, per group: faces that are not found are a bias of their own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captum_canonical.reporting.page import Section
from captum_canonical.reporting.words import NOTHING, counted, number, percent
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.tables import Column, Table

WITH_MAP, FAILED, OPEN = "with a map", "failed in the run", "not finished"
NO_GROUP = "without a group"
BEFORE = ("no face", "not aligned", "unreadable")
UNKNOWN = "left out before the run"
"""For run folders that do not record why each photograph was left out."""


@dataclass(frozen=True)
class GroupCounts:
    """The photographs of one group, or of all of them.

    Attributes:
        group: its name.
        counts: status -> number of photographs.
    """

    group: str
    counts: Counter[str]

    @property
    def count(self) -> int:
        """Photographs of any status."""
        return self.counts.total()

    @property
    def lost(self) -> float:
        """The share of photographs that were left out or failed."""
        return (
            sum(self.counts[status] for status in (FAILED, UNKNOWN, *BEFORE)) / self.count if self.count else math.nan
        )


def account_section(run: RunFolder, with_photos: bool) -> Section:
    """The table per group; ``with_photos`` adds the name and reason of each photograph without a map."""
    groups = _groups(run)
    total = GroupCounts("all groups", sum((each.counts for each in groups), Counter()))
    known = (WITH_MAP, FAILED, _rest(run), *BEFORE, UNKNOWN)
    statuses = [status for status in known if total.counts[status] or status == WITH_MAP]
    reasons = list(_reasons(run))
    title = "Photographs without a map"
    details = Table.of_cells(("Name", "Group", "What", "Reason"), reasons, title=title)
    return Section(
        "left-out",
        "What was left out, and why",
        texts=[_sentence(total, statuses)],
        tables=[_table(groups, total, statuses)],
        details=details if with_photos and reasons else None,
        details_title=f"Reasons, one by one ({number(len(reasons))})",
    )


def _sentence(total: GroupCounts, statuses: Sequence[str]) -> str:
    parts = ", ".join(f"{number(total.counts[status])} {status}" for status in statuses)
    sentence = f"Of {counted(total.count, 'photograph')}: {parts}."
    if total.counts[WITH_MAP] == total.count:
        return f"{sentence} Nothing was left out."
    return f"{sentence} A face that is not found is itself a difference between groups: compare the last column."


def _table(groups: Sequence[GroupCounts], total: GroupCounts, statuses: Sequence[str]) -> Table[GroupCounts]:
    columns: list[Column[GroupCounts]] = [
        Column("group", "Group"),
        Column("count", "Photographs", format=number),
        *map(_status_column, statuses),
        Column("lost", "Lost", format=percent, missing=NOTHING),
    ]
    note = "Lost: no face found, no usable mesh, unreadable, or failed in the run, as a share of the group."
    if OPEN in statuses:
        note += " Photographs that are not finished are not counted as lost."
    return Table(columns, groups, "Photographs per group", note, total if len(groups) > 1 else None)


def _status_column(status: str) -> Column[GroupCounts]:
    return Column(status, status[0].upper() + status[1:], lambda row: row.counts[status], format=number)


def _groups(run: RunFolder) -> list[GroupCounts]:
    counts: dict[str | None, Counter[str]] = {}
    for group, status in _statuses(run):
        counts.setdefault(group, Counter())[status] += 1
    names = sorted(counts, key=lambda group: (group is None, str(group)))
    return [GroupCounts(_group_name(name), counts[name]) for name in names]


def _group_name(group: object) -> str:
    return NO_GROUP if group is None else str(group)


def _rest(run: RunFolder) -> str:
    return "not needed (stopping rule)" if run.complete else OPEN


def _statuses(run: RunFolder) -> Iterator[tuple[str | None, str]]:
    """Group and status of each photograph of the source, as far as the folder records it."""
    records = run.records
    for group, status in zip(records["group"], records["status"], strict=True):
        yield group, WITH_MAP if status == "done" else FAILED
    known = run.photographs
    if known is None:
        yield from ((None, UNKNOWN) for _ in run.left_out_before)
        yield from ((None, _rest(run)) for _ in range(run.count - len(run)))
        return
    finished = set(records["place"])
    for place, group, why in zip(known["place"], known["group"], known["left_out"], strict=True):
        if why is not None:
            yield group, why
        elif place not in finished:
            yield group, _rest(run)


def _reasons(run: RunFolder) -> Iterator[tuple[str, str, str, str]]:
    known = run.photographs
    facts = {} if known is None else {place: row for row, place in enumerate(known["place"])}
    for place, message in run.left_out_before.items():
        if known is None or place not in facts:
            yield message, NO_GROUP, UNKNOWN, ""
            continue
        name, group, path, kind = (known[column][facts[place]] for column in ("name", "group", "path", "left_out"))
        reason = message.removeprefix(f"{Path(path or name).name}: ")
        yield name, _group_name(group), kind or UNKNOWN, reason
    records = run.records
    for name, group, status, reason in zip(
        *(records[column] for column in ("name", "group", "status", "reason")), strict=True
    ):
        if status != "done":
            yield str(name), _group_name(group), FAILED, str(reason)
