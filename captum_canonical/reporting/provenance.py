"""Where a result comes from: its photographs, who was left out and why, settings, fingerprints, versions and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_canonical.reporting.display import NOTHING, counted, number, percent
from captum_canonical.reporting.page import Section
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.tables import Column, Table

Facts = list[tuple[str, str]]
"""(name, value) pairs."""


def run_section(run: RunFolder) -> Section:
    """Settings, fingerprints, versions and times of a run."""
    classes = [("classes", ", ".join(run.classes))] if run.classes else []
    tables = [
        _facts_table("Settings", [*_flat(run.settings), *classes]),
        _facts_table("Fingerprints (SHA-256)", [("network", run.network), ("photographs", run.data)]),
        _facts_table("Versions", _flat(run.versions)),
        _facts_table("Time", _times(run.path)),
    ]
    return Section("settings", "Settings, versions and time", tables=tables)


def settings_section(settings: Mapping[str, Any]) -> Section:
    """Settings and versions of a benchmark."""
    rest = {name: value for name, value in settings.items() if name not in ("versions", "fold of each image")}
    tables = [_facts_table("Settings", _flat(rest)), _facts_table("Versions", _flat(settings.get("versions", {})))]
    return Section("settings", "Settings and versions", tables=tables)


def now() -> str:
    """The current time."""
    return _time_text(datetime.now(timezone.utc))


def _facts_table(title: str, facts: Facts) -> Table:
    return Table.of_cells(("What", "Value"), facts, title=title, sortable=False)


def _flat(values: Mapping[str, Any]) -> Facts:
    return [(name, _value_text(value)) for name, value in _flattened(values, "")]


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}", value


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value_text, value)) or "none"
    return str(value)


def _times(root: Path) -> Facts:
    # From the dates of the files, which a copy may have changed.
    begun = (root / "manifest.json").stat().st_mtime
    ends = [path.stat().st_mtime for path in root.glob("records-*.jsonl")]
    if not ends:
        return [("begun", _stamp_text(begun))]
    seconds = round(max(0.0, max(ends) - begun))
    return [
        ("begun (date of the manifest)", _stamp_text(begun)),
        ("last photograph written", _stamp_text(max(ends))),
        ("between the two", counted(seconds, "second") if seconds < 600 else counted(round(seconds / 60), "minute")),
    ]


def _stamp_text(stamp: float) -> str:
    return _time_text(datetime.fromtimestamp(stamp, timezone.utc))


def _time_text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")


WITH_MAP, FAILED, DAMAGED, OPEN = "with a map", "failed in the run", "damaged since", "not finished"
STATUSES = {"done": WITH_MAP, "failed": FAILED, "damaged": DAMAGED}
NO_GROUP = "without a group"
BEFORE = ("no face", "not aligned", "unreadable", "low quality")


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
            sum(self.counts[status] for status in (FAILED, DAMAGED, *BEFORE)) / self.count if self.count else math.nan
        )


def account_section(run: RunFolder, with_photos: bool) -> Section:
    """A table for each column of groups; ``with_photos`` adds names and reasons of what has no map."""
    groups = _groups(run, "group")
    total = GroupCounts("all groups", sum((each.counts for each in groups), Counter()))
    known = (WITH_MAP, FAILED, DAMAGED, _rest(run), *BEFORE)
    statuses = [status for status in known if total.counts[status] or status == WITH_MAP]
    by_column = {"group": groups} | {name: _groups(run, name) for name in run.group_columns}
    unused = _unused(run)
    reasons = [*_reasons(run), *((path, "", kind, reason) for path, kind, reason in unused)]
    title = "Photographs without a map"
    details = Table.of_cells(("Name", "Group", "What", "Reason"), reasons, title=title)
    return Section(
        "left-out",
        "What was left out, and why",
        texts=[_sentence(total, statuses), *_several_faces(run), *([_unused_sentence(unused)] if unused else [])],
        tables=[
            _account_table(name, each, total, statuses) for name, each in by_column.items() if _differs(name, by_column)
        ],
        details=details if with_photos and reasons else None,
        details_title=f"Reasons, one by one ({number(len(reasons))})",
    )


def _differs(name: str, by_column: dict[str, list[GroupCounts]]) -> bool:
    """Whether a table shows other numbers than one with a name that says more: a column of groups is "group", too."""
    return name != "group" or by_column[name] not in [each for other, each in by_column.items() if other != name]


def _unused(run: RunFolder) -> list[tuple[str, str, str]]:
    """(path, kind, reason) of files and lines that did not become photographs of the source."""
    return [tuple(each) for each in (run.photographs or {}).get("unused", ())] if run.has_labels else []


def _unused_sentence(unused: Sequence[tuple[str, str, str]]) -> str:
    kinds = Counter(kind for _, kind, _ in unused)
    listed = ", ".join(f"{number(count)} {kind}" for kind, count in kinds.items())
    return f"Files and lines of the source that are not used: {number(len(unused))} ({listed})."


def _sentence(total: GroupCounts, statuses: Sequence[str]) -> str:
    parts = ", ".join(f"{number(total.counts[status])} {status}" for status in statuses)
    sentence = f"Of {counted(total.count, 'photograph')}: {parts}."
    if total.counts[WITH_MAP] == total.count:
        return f"{sentence} Nothing was left out."
    return f"{sentence} A face that is not found is itself a difference between groups: compare the last column."


def _several_faces(run: RunFolder) -> list[str]:
    known = (run.photographs or {}) if run.has_labels else {}
    several = sum(faces is not None and faces > 1 for faces in known.get("quality", {}).get("faces", ()))
    return [f"In {counted(several, 'photograph')} several faces were found, and one was chosen."] if several else []


def _account_table(
    name: str, groups: Sequence[GroupCounts], total: GroupCounts, statuses: Sequence[str]
) -> Table[GroupCounts]:
    columns: list[Column[GroupCounts]] = [
        Column("group", name[:1].upper() + name[1:]),
        Column("count", "Photographs", format=number),
        *map(_status_column, statuses),
        Column("lost", "Lost", format=percent, missing=NOTHING),
    ]
    note = (
        "Lost: no face found, no usable mesh, unreadable, a face of low quality, or failed in the run, as a share of "
        "the group."
    )
    if OPEN in statuses:
        note += " Photographs that are not finished are not counted as lost."
    return Table(columns, groups, f"Photographs per {name}", note, total if len(groups) > 1 else None)


def _status_column(status: str) -> Column[GroupCounts]:
    return Column(status, status[0].upper() + status[1:], lambda row: row.counts[status], format=number)


def _groups(run: RunFolder, column: str) -> list[GroupCounts]:
    counts: dict[Any, Counter[str]] = {}
    for group, status in _statuses(run, column):
        counts.setdefault(group, Counter())[status] += 1
    names = sorted(counts, key=lambda group: (group is None, str(group)))
    return [GroupCounts(_group_name(name), counts[name]) for name in names]


def _group_name(group: object) -> str:
    return NO_GROUP if group is None else str(group)


def _rest(run: RunFolder) -> str:
    return "not needed (stopping rule)" if run.complete else OPEN


def _statuses(run: RunFolder, column: str) -> Iterator[tuple[Any, str]]:
    """Group and status of each photograph of the source, as far as the folder records it."""
    records = run.records
    for group, status in zip(records[column], records["status"], strict=True):
        yield group, STATUSES[status]
    if not run.has_labels:
        yield from ((None, _rest(run)) for _ in range(run.count - len(run)))
        return
    known = run.photographs or {}
    groups = known["group"] if column == "group" else known["groups"][column]
    for row, group, why in zip(known["row"], groups, known["left_out"], strict=True):
        if why is not None:
            yield group, why
        elif row >= len(run):
            yield group, _rest(run)


def _reasons(run: RunFolder) -> Iterator[tuple[str, str, str, str]]:
    known = (run.photographs or {}) if run.has_labels else {}
    columns = (known.get(name, ()) for name in ("name", "group", "left_out", "reason"))
    for name, group, kind, reason in zip(*columns, strict=True):
        if kind is not None:
            yield name, _group_name(group), kind, reason
    records = run.records
    for name, group, status, reason in zip(
        *(records[column] for column in ("name", "group", "status", "reason")), strict=True
    ):
        if status != "done":
            yield str(name), _group_name(group), STATUSES[status], str(reason)
