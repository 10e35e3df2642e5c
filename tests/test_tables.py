"""One table, written as text, Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

import pytest

from captum_canonical.tables import Column, Table, csv_text


@dataclass(frozen=True)
class Fruit:
    """A row."""

    name: str
    weight: float | None
    share: float
    ends: tuple[float, float]


COLUMNS: tuple[Column[Fruit], ...] = (
    Column("fruit", value="name"),
    Column("weight", "weight, g", format=",", missing="not weighed", align="right"),
    Column("share", "share (%)", interval="ends", format="+.1f", scale=100),
    Column("kernel", value=lambda row: row.share / 3, csv_only=True),
)
APPLE = Fruit("apple", 1234, 1 / 3, (0.25, 0.5))
ODD = Fruit("<b> | b", None, math.nan, (math.nan, math.nan))
TABLE = Table(COLUMNS, [APPLE, ODD])


def test_text_is_aligned() -> None:
    assert TABLE.text() == (
        "fruit      weight, g  share (%)\napple          1,234  +33.3 [+25.0, +50.0]\n<b> | b  not weighed  not defined"
    )
    assert TABLE.text(rule=True).split("\n")[1] == "-------  -----------  --------------------"


def test_markdown_escapes_bars_and_keeps_rows_on_one_line() -> None:
    assert TABLE.markdown().split("\n") == [
        "| fruit | weight, g | share (%) |",
        "| --- | --- | --- |",
        "| apple | 1,234 | +33.3 [+25.0, +50.0] |",
        "| <b> \\| b | not weighed | not defined |",
    ]
    assert Table.of_cells(["a"], [["two\nlines"]]).markdown().split("\n")[2:] == ["| two lines |"]


def test_csv_holds_the_numbers_as_they_are() -> None:
    assert TABLE.csv().startswith("fruit,weight,share,share_low,share_high,kernel\n")
    apple, odd = csv.DictReader(io.StringIO(TABLE.csv()))
    assert float(apple["share"]) == 1 / 3 and float(apple["kernel"]) == 1 / 9
    assert (apple["weight"], apple["share_low"], apple["share_high"]) == ("1234", "0.25", "0.5")
    assert list(odd.values()) == ["<b> | b", "", "", "", "", ""]


FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r\n=1",
    " =1",
    "\uff1d1+1",
    "\ufeff=1",
    "+",
    "=",
    "-a",
]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_the_end_of_a_line_inside_a_cell_does_not_begin_a_formula(end: str) -> None:
    text = csv_text(["name"], [[f"a{end}=1+1"]])
    assert text == f'name\n"a{end}=1+1"\n'


@pytest.mark.parametrize("formula", FORMULAS)
def test_cells_that_a_spreadsheet_would_run_are_texts(formula: str) -> None:
    text = Table([Column(formula, value="name"), Column("n", value="weight")], [Fruit(formula, 1.0, 1.0, (0, 1))]).csv()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [[f"'{formula}", "n"], [f"'{formula}", "1.0"]]


def test_other_cells_of_a_csv_file_stay_as_they_are() -> None:
    row = ["-1", "+2.5", "-1e-05", "a=1", "", "'=1", "left-right", -1.5, None, "5 - 3"]
    read = next(csv.reader(io.StringIO(csv_text(row, []))))
    assert read == ["" if each is None else str(each) for each in row]


def test_html_is_escaped_and_sorted_by_values() -> None:
    table = Table(COLUMNS, [ODD], title="A & B", note="<i>", total=APPLE)
    html = table.html()
    assert '<caption>A &amp; B <span class="note">&lt;i&gt;</span></caption>' in html
    assert '<th scope="row">&lt;b&gt; | b</th><td>not weighed</td><td>not defined</td>' in html
    assert f'<td class="number" data-value="{1 / 3}">+33.3 <span class="more">[+25.0, +50.0]</span></td>' in html
    assert html.index('<tr class="total"><th scope="row">apple') > html.index("&lt;b&gt;")
    assert '<button type="button">weight, g</button>' in html and "kernel" not in html.lower()
    quoted = Table([Column("x", note='"<')], [], sortable=False).html()
    assert 'title="&quot;&lt;"' in quoted and "button" not in quoted and "sortable" not in quoted


def test_numbers_in_another_format() -> None:
    other = TABLE.with_numbers(lambda value: f"about {value:.0f}", missing="?")
    assert [str(cell) for cell in other.cells()[0]] == ["apple", "about 1234", "about 33 [about 25, about 50]"]
    assert [str(cell) for cell in other.cells()[1]] == ["<b> | b", "?", "?"]


@pytest.mark.parametrize("ends", [(math.nan, 1.0), (0.0, math.nan)])
def test_half_an_interval_is_none(ends: tuple[float, float]) -> None:
    assert str(COLUMNS[2].cell(Fruit("a", 1, 0.5, ends))) == "+50.0"
