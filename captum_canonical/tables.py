"""Tables as text, Markdown, CSV and HTML: a column says which value of a row it shows, and how that is written."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from operator import itemgetter
from typing import Any, Generic, Literal, NamedTuple, TypeVar

R = TypeVar("R")
Interval = tuple[float, float]
_FORMULAS = ("=", "+", "-", "@")
_IGNORED = " \t\r\n\v\f\0\ufeff\u200b"  # what programs skip at the beginning of a cell
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
Format = str | Callable[[Any], str]


class Cell(NamedTuple):
    """One value as it is written.

    Attributes:
        text: the value.
        interval: ``"[low, high]"``, or empty.
        value: the value itself; None where it is missing.
    """

    text: str
    interval: str
    value: Any

    def __str__(self) -> str:
        return f"{self.text} {self.interval}" if self.interval else self.text


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of a table.

    Attributes:
        name: of the column in CSV files; also the heading elsewhere, unless there is a ``heading``.
        heading: above the column in text, Markdown and HTML.
        value: the attribute of a row that holds the value, or a function that gets it from a row. Default: ``name``.
        interval: the same for the lower and upper end of the value's interval, NaN where there is none.
        format: a format specification such as ``".3g"`` or a function that returns text, for the value and its ends.
        scale: numbers and ends of intervals are multiplied by this before they are formatted, such as 100 for shares
            that are shown as percentages.
        missing: stands where the value is None or NaN. CSV files have an empty field there.
        note: explains the column to readers of a page who point at its heading.
        align: of text tables.
        csv_only: whether the column is in CSV files only.

    Example::

        >>> share = Column("share", value=lambda row: row[0], interval=lambda row: row[1:], format=".1f", scale=100)
        >>> [str(share.cell(row)) for row in ((0.2, 0.1, 0.3), (0.2, math.nan, math.nan), (math.nan,) * 3)]
        ['20.0 [10.0, 30.0]', '20.0', 'not defined']
    """

    name: str
    heading: str = ""
    value: str | Callable[[R], Any] | None = None
    interval: str | Callable[[R], Interval] | None = None
    format: Format = ""
    scale: float | None = None
    missing: str = "not defined"
    note: str = ""
    align: Literal["left", "right"] = "left"
    csv_only: bool = False

    def cell(self, row: R) -> Cell:
        """The value of a row as it is written."""
        value = self._value(row)
        if _is_missing(value):
            return Cell(self.missing, "", None)
        low, high = (None, None) if self.interval is None else _get(self.interval, row)
        is_known = not _is_missing(low) and not _is_missing(high)
        return Cell(self._text(value), f"[{self._text(low)}, {self._text(high)}]" if is_known else "", value)

    def fields(self, row: R) -> list[Any]:
        """The fields of a row in a CSV file: the value as it is, and the ends of its interval."""
        values = [self._value(row), *(_get(self.interval, row) if self.interval else ())]
        return ["" if _is_missing(each) else each for each in values]

    @property
    def field_names(self) -> list[str]:
        """The names of :meth:`fields`."""
        return [self.name] + ([f"{self.name}_low", f"{self.name}_high"] if self.interval else [])

    def _value(self, row: R) -> Any:
        return _get(self.value or self.name, row)

    def _text(self, value: Any) -> str:
        if self.scale is not None:
            value = self.scale * value
        return format(value, self.format) if isinstance(self.format, str) else self.format(value)


@dataclass(frozen=True)
class Table(Generic[R]):
    r"""Rows of any kind, and the columns that show them.

    Attributes:
        columns: from left to right.
        rows: from top to bottom.
        title: above a table in HTML.
        note: after the title.
        total: a row that sums up the others; it stays last when a page is sorted.
        sortable: whether a page lets its readers sort the rows.

    Example::

        >>> table = Table.of_cells(["region", "mean"], [["chin", 0.1], ["left | right", 12]])
        >>> print(table.text())
        region        mean
        chin          0.1
        left | right  12
        >>> print(table.markdown())
        | region | mean |
        | --- | --- |
        | chin | 0.1 |
        | left \| right | 12 |
    """

    columns: Sequence[Column[R]]
    rows: Sequence[R]
    title: str = ""
    note: str = ""
    total: R | None = None
    sortable: bool = True

    @staticmethod
    def of_cells(headings: Sequence[str], rows: Iterable[Sequence[Any]], **options: Any) -> Table[Sequence[Any]]:
        """A table of rows that are sequences of values already.

        Args:
            headings: one for each column.
            rows: one value for each column.
            options: other attributes of the table.
        """
        columns = [Column(heading, value=itemgetter(place)) for place, heading in enumerate(headings)]
        return Table(columns, list(rows), **options)

    @property
    def headings(self) -> list[str]:
        """Of the columns that are not in CSV files only."""
        return [column.heading or column.name for column in self._shown]

    def cells(self) -> list[list[Cell]]:
        """One list for each row, the total last."""
        rows = [*self.rows, *([] if self.total is None else [self.total])]
        return [[column.cell(row) for column in self._shown] for row in rows]

    def with_numbers(self, format: Format, missing: str) -> Table[R]:
        """The same table with another format for all columns that have a format specification."""
        columns = [
            replace(column, format=format, missing=missing)
            if column.format and isinstance(column.format, str)
            else column
            for column in self.columns
        ]
        return replace(self, columns=columns)

    def text(self, rule: bool = False) -> str:
        """Columns of equal width, two spaces apart; with ``rule`` a line of dashes is below the headings."""
        lines = self._lines()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        if rule:
            lines.insert(1, ["-" * width for width in widths])
        return "\n".join("  ".join(map(_aligned, line, widths, self._shown)).rstrip() for line in lines)

    def markdown(self) -> str:
        """A table of Markdown's common extension; bars are escaped, line breaks become spaces."""
        heads, *lines = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in self._lines())
        return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines])

    def csv(self) -> str:
        """All columns with unrounded, unscaled numbers; the ends of intervals are columns of their own."""
        names = [name for column in self.columns for name in column.field_names]
        return csv_text(
            names, ([field for column in self.columns for field in column.fields(row)] for row in self.rows)
        )

    def html(self) -> str:
        """A ``<table>`` whose texts are all escaped; ``data-value`` is what a page's script sorts by."""
        rows = [_html_row(cells) for cells in self.cells()]
        if self.total is not None:
            rows[-1] = rows[-1].replace("<tr>", '<tr class="total">', 1)
        note = f' <span class="note">{escape(self.note)}</span>' if self.note else ""
        return "\n".join(
            [
                '<table class="sortable">' if self.sortable else "<table>",
                f"<caption>{escape(self.title)}{note}</caption>",
                f"<thead><tr>{''.join(map(self._html_heading, self._shown))}</tr></thead>",
                "<tbody>",
                *rows,
                "</tbody>",
                "</table>",
            ]
        )

    @property
    def _shown(self) -> list[Column[R]]:
        return [column for column in self.columns if not column.csv_only]

    def _lines(self) -> list[list[str]]:
        return [self.headings, *([str(cell) for cell in cells] for cells in self.cells())]

    def _html_heading(self, column: Column[R]) -> str:
        text = escape(column.heading or column.name)
        note = f' title="{escape(column.note)}"' if column.note else ""
        inside = f'<button type="button">{text}</button>' if self.sortable else text
        return f'<th scope="col"{note}>{inside}</th>'


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""A CSV file whose texts a spreadsheet shows and does not run.

    An apostrophe stands before texts that begin like a formula, unless they are numbers.

    Example::

        >>> print(csv_text(["name", "score"], [["=1+1.png", -0.5], ["-0.5", None], ["a,b", 1]]), end="")
        name,score
        '=1+1.png,-0.5
        -0.5,
        "a,b",1
    """
    return "".join(_csv_line([_as_text(field) for field in row]) for row in [names, *rows])


def _csv_line(fields: list[Any]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow(fields)  # puts what holds one of the two in quotation marks
    return file.getvalue().removesuffix("\r\n") + "\n"


def _as_text(field: Any) -> Any:
    if not isinstance(field, str) or not unicodedata.normalize("NFKC", field).lstrip(_IGNORED).startswith(_FORMULAS):
        return field
    return field if _NUMBER.fullmatch(field) else f"'{field}"


def _aligned(text: str, width: int, column: Column[Any]) -> str:
    return text.rjust(width) if column.align == "right" else text.ljust(width)


def _html_row(cells: list[Cell]) -> str:
    first, *rest = map(_html_inside, cells)
    return f'<tr><th scope="row"{first}</th>{"".join(f"<td{each}</td>" for each in rest)}</tr>'


def _html_inside(cell: Cell) -> str:
    """The attributes of a cell's element, and what stands in it."""
    is_number = isinstance(cell.value, (int, float)) and not isinstance(cell.value, bool)
    attributes = f' class="number" data-value="{cell.value}"' if is_number else ""
    interval = f' <span class="more">{escape(cell.interval)}</span>' if cell.interval else ""
    return f"{attributes}>{escape(cell.text)}{interval}"


def _get(what: str | Callable[[Any], Any], row: Any) -> Any:
    return getattr(row, what) if isinstance(what, str) else what(row)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
