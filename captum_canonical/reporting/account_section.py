"""What was left out and why, per group, as a section."""

from __future__ import annotations

from captum_canonical.reporting.account import OPEN, WITH_MAP, Account, account_of
from captum_canonical.reporting.page import Cell, Row, Section, Table, number_cell
from captum_canonical.reporting.words import counted, number, percent
from captum_canonical.runs import RunFolder


def account_section(run: RunFolder, names: bool) -> Section:
    """The table per group; with ``names`` also each photograph with its reason."""
    account = account_of(run)
    return Section(
        "left-out",
        "What was left out, and why",
        texts=[_sentence(account)],
        tables=[_table(account)],
        details=_reasons(account) if names and account.reasons else None,
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


def _table(account: Account) -> Table:
    header = ["Group", "Photographs", *(column[0].upper() + column[1:] for column in account.columns), "Lost"]
    rows = [
        Row(
            [
                Cell(row.group),
                *(number_cell(number(count), count) for count in (row.count, *row.fates)),
                number_cell(percent(row.lost), row.lost),
            ],
            strong=row.strong,
        )
        for row in [*account.rows, *([account.total] if account.total else [])]
    ]
    note = "Lost: no face found, no usable mesh, unreadable, or failed in the run, as a share of the group."
    if OPEN in account.columns:
        note += " Photographs that are not finished are not counted as lost."
    return Table("Photographs per group", header, rows, note=note)


def _reasons(account: Account) -> Table:
    rows = [Row([Cell(each) for each in reason]) for reason in account.reasons]
    return Table("Photographs without a map", ("Name", "Group", "What", "Reason"), rows)
