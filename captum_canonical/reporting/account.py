"""Where the photographs of a run went, per group: a missing face is itself a bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captum_canonical.reporting.page import Section
from captum_canonical.reporting.words import counted, number, percent
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.tables import Column, Table

WITH_MAP, FAILED, OPEN = "with a map", "failed in the run", "not finished"
NO_GROUP = "without a group"
BEFORE = ("no face", "not aligned", "unreadable")
UNKNOWN = "left out before the run"
"""Of photographs of a folder that does not say why each was left out."""


@dataclass(frozen=True)
class GroupRow:
    """The photographs of one group.

    Attributes:
        group: its name.
        count: its photographs.
        fates: how many of them are in each column of the account.
        lost: share that took no part or failed.
    """

    group: str
    count: int
    fates: Sequence[int]
    lost: float


@dataclass(frozen=True)
class Account:
    """Photographs by group and by what became of them.

    Attributes:
        columns: what became of photographs; without what became of none.
        rows: the groups.
        total: all groups; None if there is only one.
        reasons: (name, group, what became of it, reason) of each photograph that failed or took no part.
    """

    columns: Sequence[str]
    rows: Sequence[GroupRow]
    total: GroupRow | None
    reasons: Sequence[tuple[str, str, str, str]]

    def number(self, *columns: str) -> int:
        """Photographs in these columns, in all groups."""
        places = [place for place, name in enumerate(self.columns) if name in columns]
        return sum(row.fates[place] for row in self.rows for place in places)


def account_of(run: RunFolder) -> Account:
    """The photographs of a run folder, finished or not."""
    fates = list(_fates(run))
    by_group: dict[str | None, Counter[str]] = {}
    for group, fate in fates:
        by_group.setdefault(group, Counter())[fate] += 1
    every = (WITH_MAP, FAILED, _rest(run), *BEFORE, UNKNOWN)
    total = sum(by_group.values(), Counter())
    columns = [name for name in every if total[name] or name == WITH_MAP]
    named = sorted(by_group, key=lambda group: (group is None, str(group)))
    rows = [_row(NO_GROUP if group is None else str(group), by_group[group], columns) for group in named]
    last = _row("all groups", total, columns) if len(rows) > 1 else None
    return Account(columns, rows, last, list(_reasons(run)))


def _row(group: str, fates: Counter[str], columns: Sequence[str]) -> GroupRow:
    count = sum(fates.values())
    lost = sum(fates[name] for name in (FAILED, UNKNOWN, *BEFORE))
    return GroupRow(group, count, [fates[name] for name in columns], lost / count if count else float("nan"))


def _rest(run: RunFolder) -> str:
    return "not needed (stopping rule)" if run.complete else OPEN


def _fates(run: RunFolder) -> Iterator[tuple[str | None, str]]:
    """Group and fate of each photograph of the source, as far as the folder knows."""
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
    for place, told in run.left_out_before.items():
        if known is None or place not in facts:
            yield told, NO_GROUP, UNKNOWN, ""
            continue
        name, group, path, kind = (known[column][facts[place]] for column in ("name", "group", "path", "left_out"))
        reason = told.removeprefix(f"{Path(path or name).name}: ")
        yield name, NO_GROUP if group is None else str(group), kind or UNKNOWN, reason
    records = run.records
    for name, group, status, reason in zip(
        *(records[column] for column in ("name", "group", "status", "reason")), strict=True
    ):
        if status != "done":
            yield str(name), NO_GROUP if group is None else str(group), FAILED, str(reason)


def account_section(run: RunFolder, names: bool) -> Section:
    """The table per group; with ``names`` also each photograph with its reason."""
    account = account_of(run)
    return Section(
        "left-out",
        "What was left out, and why",
        texts=[_sentence(account)],
        tables=[_table(account)],
        details=_table_of_reasons(account) if names and account.reasons else None,
        details_title=f"Reasons, one by one ({number(len(account.reasons))})",
    )


def _sentence(account: Account) -> str:
    total = sum(row.count for row in account.rows)
    parts = [f"{number(account.number(column))} {column}" for column in account.columns]
    sentence = f"Of {counted(total, 'photograph')}: {', '.join(parts)}."
    lost = account.number(*(column for column in account.columns if column != WITH_MAP))
    if not lost:
        return f"{sentence} Nothing was left out."
    return f"{sentence} A face that is not found is itself a difference between groups: compare the last column."


def _table(account: Account) -> Table[GroupRow]:
    columns: list[Column[GroupRow]] = [
        Column("group", "Group"),
        Column("count", "Photographs", format=number),
        *(_fate_column(name, place) for place, name in enumerate(account.columns)),
        Column("lost", "Lost", format=percent),
    ]
    note = "Lost: no face found, no usable mesh, unreadable, or failed in the run, as a share of the group."
    if OPEN in account.columns:
        note += " Photographs that are not finished are not counted as lost."
    return Table(columns, account.rows, "Photographs per group", note, account.total)


def _fate_column(name: str, place: int) -> Column[GroupRow]:
    return Column(name, name[0].upper() + name[1:], lambda row: row.fates[place], format=number)


def _table_of_reasons(account: Account) -> Table[Sequence[str]]:
    return Table.of_cells(("Name", "Group", "What", "Reason"), account.reasons, title="Photographs without a map")
