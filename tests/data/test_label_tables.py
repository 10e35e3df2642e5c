"""Tables of any delimiter, misspelt and doubled columns, missing photographs, several tables, and data frames."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_canonical.data import read_labels
from captum_canonical.data.label_files import delimiter_of
from captum_canonical.data.sources import list_rows
from captum_canonical.errors import CanonicalError
from dataset_tools import dataset, write_photos

ROWS = [("path", "gender", "race"), ("a 1.jpg", "Female", "x, y"), ("b.jpg", "", "é"), ("c.jpg", "Male", "NA")]


def write_table(path: Path, separator: str, encoding: str = "utf-8", rows: list = ROWS) -> Path:
    lines = [separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in rows]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings_of_spreadsheets(tmp_path: Path, separator: str, encoding: str) -> None:
    file = write_table(tmp_path / "labels.txt", separator, encoding)
    with pytest.warns(UserWarning, match="race: 1 of 3 entries are taken as missing"):
        table = list_rows(file, {"group": ("gender", "race")})
    assert [(row.name, row.group, dict(row.groups)) for row in table] == [
        ("a 1.jpg", "Female", {"gender": "Female", "race": "x, y"}),
        ("b.jpg", None, {"gender": None, "race": "é"}),
        ("c.jpg", "Male", {"gender": "Male", "race": None}),
    ]


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters='"\r\n', exclude_categories=["Cc", "Zl", "Zp"]), max_size=8
)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from(",\t;|"))
def test_every_cell_is_read_back(tmp_path_factory: pytest.TempPathFactory, cells: list, separator: str) -> None:
    lines = [("path", "one", "two"), *((f"{n}.jpg", *(f'"{each}"' for each in row)) for n, row in enumerate(cells))]
    file = tmp_path_factory.mktemp("table") / "t.csv"
    file.write_text("\n".join(separator.join(line) for line in lines), encoding="utf-8", newline="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = list_rows(file, {"target": "one", "group": ("two",)})
    assert [row.target for row in table] == [one.strip() or None for one, _ in cells]


def test_spaces_separate_only_where_all_lines_have_equally_many_fields() -> None:
    assert delimiter_of(["path target", "a.jpg 1", "b.jpg   0"]) is None
    assert delimiter_of(["file name", "a.jpg", "b.jpg"]) == ","
    assert delimiter_of(["Male Young", "a.jpg  1 -1"]) is None
    assert delimiter_of(['"a;b",c', "1,2"]) == ","
    assert delimiter_of([]) == ","


# ------------------------------------------------------------------------------------------------------- the columns
def test_misspelt_and_doubled_names_are_warned_of(tmp_path: Path) -> None:
    rows = [("path", "gruop", "Identity", "race", "race"), ("a.jpg", "x", "Ann", "1", "2")]
    file = write_table(tmp_path / "labels.csv", ",", rows=rows)
    with pytest.warns(UserWarning) as caught:
        (row,) = list_rows(file)
    (said,) = [str(each.message) for each in caught]
    for part in ("'race' is there more than once", "'gruop' is not used; did you mean 'group'?", "'Identity' is not"):
        assert part in said
    assert (row.group, row.identity) == (None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = [("path", "gruop", "gender"), ("a.jpg", "x", "y")]
        list_rows(write_table(tmp_path / "labels.csv", ",", rows=rows), {"group": "gruop"})
        list_rows(write_table(tmp_path / "labels.csv", ",", rows=rows), {"group": "gender"})


def test_columns_that_are_asked_for_and_not_there(tmp_path: Path) -> None:
    rows = [("path", "gender", "race", "race"), ("a.jpg", "x", "1", "2")]
    file = write_table(tmp_path / "labels.csv", ",", rows=rows)
    for name, match in [
        ("gendre", r"expected a column 'gendre', got \['path', 'gender', 'race', 'race'\]; did you mean 'gender'\?"),
        ("race", r"expected a column 'race' once"),
        ("weight", r"expected a column 'weight', got \[.*\]\.$"),
    ]:
        for arguments in ({"group": ("gender", name)}, {"target": name}, {"identity": name}, {"where": {name: 1}}):
            with pytest.raises(CanonicalError, match=match):
                read_labels(file, **arguments)
    with pytest.raises(CanonicalError, match=r"expected a column 'Path', got .*; did you mean 'path'\?"):
        read_labels(file, path="Path")
    with pytest.raises(CanonicalError, match=r"format: expected .*'fairface'.*got 'vgg'"):
        read_labels(file, format="vgg")


def test_photographs_without_a_label_can_be_asked_for(tmp_path: Path) -> None:
    rows = [("path", "race"), ("a.jpg", "x"), ("b.jpg", ""), ("c.jpg", "y")]
    file = write_table(tmp_path / "labels.csv", ",", rows=rows)
    for wanted, names in [(None, ["b.jpg"]), ([None, "y"], ["b.jpg", "c.jpg"]), ("x", ["a.jpg"])]:
        with pytest.warns(UserWarning, match="not there"):
            assert [row.name for row in read_labels(file, where={"race": wanted})] == names


def test_no_group_is_no_misspelt_one(tmp_path: Path) -> None:
    file = write_table(tmp_path / "labels.csv", ",", rows=[("path", "group"), ("a.jpg", "x")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row,) = list_rows(file, {"group": ()})
    assert (row.group, dict(row.groups)) == (None, {})


def test_different_labels_of_one_photograph_are_warned_of(tmp_path: Path) -> None:
    rows = [("path", "group"), ("a.jpg", "x"), ("b.jpg", "x"), ("a.jpg", "y"), ("b.jpg", "x")]
    file = write_table(tmp_path / "labels.csv", ",", rows=rows)
    with pytest.warns(UserWarning, match=r"a.jpg: labels.csv, line 2 and labels.csv, line 4 .* 1 of 4 rows"):
        table = list_rows(file)
    assert [row.group for row in table] == ["x", "x", "y", "x"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list_rows(write_table(tmp_path / "labels.csv", ",", rows=[*rows[:3], rows[4]]))


def test_utf_16_without_its_mark_is_said_to_be_no_utf_8(tmp_path: Path) -> None:
    file = write_table(tmp_path / "labels.csv", ",", "utf-16-le", rows=[("path", "group"), ("a.jpg", "x")])
    with pytest.raises(CanonicalError, match="expected text in UTF-8, got zero bytes"):
        read_labels(file)


# --------------------------------------------------------------------------------------------------- the photographs
def test_missing_photographs_are_listed_counted_and_left_out(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 2)
    rows = [("path", "group"), (paths[0].name, "a"), ("gone.png", "b"), (paths[1].name, "b")]
    file = write_table(tmp_path / "labels.tsv", "\t", rows=rows)
    with pytest.warns(UserWarning, match="1 of 3 photographs are not there, such as .*gone.png; root="):
        table = read_labels(file, root=tmp_path / "photos")
    assert [row.name for row in table.missing] == ["gone.png"] and "1 of them not there" in repr(table)
    data = dataset(table)
    with pytest.warns(UserWarning, match="1 of 3 photographs are left out"):
        assert data.counts()["b"].unreadable == 1
    assert "no such file" in data.left_out[1].reason and data.rows[1].origin == "labels.tsv, line 3"


def test_what_a_folder_holds_beside_photographs_is_listed(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 1)
    for name in ("notes.txt", ".hidden.png", "in/._00.png", "in/broken.jpg", ".git/objects/x.png", "table.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no photograph")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    data = dataset(tmp_path)
    assert [row.name for row in data.rows] == ["in/00.png", "in/broken.jpg"]
    found = {each.path.relative_to(tmp_path).as_posix(): each.kind for each in data.unused}
    assert found == {
        "notes.txt": "not a photograph",
        "table.csv": "not a photograph",
        ".hidden.png": "hidden",
        ".git": "hidden",
        "in/._00.png": "hidden",
        "link": "not followed",
    }
    with pytest.warns(UserWarning, match="1 of 2 photographs are left out"):
        assert data.left_out[1].kind == "unreadable"
    before = data.fingerprint
    (tmp_path / "more.txt").touch()
    with pytest.warns(UserWarning):
        assert dataset(tmp_path).fingerprint == before


# ------------------------------------------------------------------------------------------------------ several tables
def test_further_columns_and_further_photographs(tmp_path: Path) -> None:
    first = write_table(tmp_path / "one.csv", ",", rows=[("path", "race"), ("x/1.jpg", "a"), ("x/2.jpg", "b")])
    second = write_table(tmp_path / "two.csv", ",", rows=[("path", "race"), ("y/1.jpg", "c")])
    people = write_table(
        tmp_path / "people.csv", ";", rows=[("path", "identity"), ("2.png", "Bo"), ("1.jpg", "Al"), ("9.jpg", "Cy")]
    )
    with pytest.warns(UserWarning, match="not there"):
        both = read_labels([first, second], group="race")
    assert [(row.name, row.group) for row in both] == [("x/1.jpg", "a"), ("x/2.jpg", "b"), ("y/1.jpg", "c")]
    with pytest.warns(UserWarning) as caught:
        table = read_labels([first, people], group="race")
    assert [(row.name, row.group, row.identity) for row in table] == [("x/1.jpg", "a", "Al"), ("x/2.jpg", "b", "Bo")]
    assert any("people.csv: 1 lines are about other photographs" in str(each.message) for each in caught)
    assert [each.path.name for each in table.unused] == ["9.jpg"]
    with pytest.warns(UserWarning, match="identity: nothing is said of 2 of 3 photographs"):  # which 1.jpg is meant?
        table = read_labels([first, second, people], group="race")
    assert [row.identity for row in table] == [None, "Bo", None]


def test_a_label_table_is_a_source_with_sub_folders_but_without_other_columns(tmp_path: Path) -> None:
    write_photos(tmp_path / "ann", 1)
    table = read_labels(tmp_path)
    assert dataset(table, subfolder="identity").rows[0].identity == "ann"
    with pytest.raises(CanonicalError, match="columns, root: of a LabelTable"):
        dataset(table, columns={"group": "x"})


def test_numbers_stay_numbers_in_groups(tmp_path: Path) -> None:
    class Frame(dict):
        columns = ("path", "age", "gender")

    frame = Frame(path=["a.jpg", "b.jpg"], age=[31, float("nan")], gender=["f", None])
    rows = list_rows(frame, {"group": ("age", "gender")})
    assert [dict(row.groups) for row in rows] == [{"age": 31, "gender": "f"}, {"age": None, "gender": None}]
    assert [row.group for row in rows] == ["31", None]
    frame = Frame(path=["a.jpg"], age=[np.float32(2.0)], gender=[1])
    assert [dict(row.groups) for row in list_rows(frame, {"group": ["gender"]})] == [{"gender": 1}]


def test_numbers_of_a_text_file_are_numbers_but_names_are_not(tmp_path: Path) -> None:
    rows = [
        ("path", "age", "code", "size"),
        ("a.jpg", "31", "007", "1.5"),
        ("b.jpg", "", "8", "-2"),
        ("c.jpg", "4", "9", ""),
    ]
    found = list_rows(write_table(tmp_path / "t.csv", ",", rows=rows), {"group": ("age", "code", "size")})
    assert [tuple(row.groups.values()) for row in found] == [(31, "007", 1.5), (None, "8", -2), (4, "9", None)]
    assert [row.group for row in found] == ["31", None, "4"]


def test_data_frames_of_pandas_in_known_formats() -> None:
    pandas = pytest.importorskip("pandas")
    columns = {"age": ["03-Sep", "20-29"], "gender": ["Male", "Female"], "race": ["White", "Black"]}
    frame = pandas.DataFrame({"file": ["val/1.jpg", "val/2.jpg"], **columns})
    with pytest.warns(UserWarning, match="source: 1 of 2 ages are dates"):
        table = list_rows(frame, {"group": ("age", "race")})
    assert table.format == "fairface" and [row.groups["age"] for row in table] == ["3-9", "20-29"]
