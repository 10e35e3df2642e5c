"""Which photographs a data set takes from a folder, a table or a list, and the targets of each."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.data.sources import list_rows
from captum_canonical.errors import CanonicalError
from dataset_tools import CornerAligner, dataset, write_photos
from label_tools import MISSING, NAType


def write_table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


# ------------------------------------------------------------------------------------------------------- folders
def test_folder_is_read_in_order_with_its_sub_folders(tmp_path: Path) -> None:
    names = ["b/2.PNG", "a/10.jpg", "a/9.jpeg", "z.webp", "a/c/x.tif", "B/1.bmp"]
    for name in [*names, ".hidden.png", ".git/x.png", "a/.thumbs/y.png", "notes.txt", "b/2.png.bak"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rows = list_rows(tmp_path)
    assert [row.name for row in rows] == sorted(names)
    assert all(row.path == tmp_path / row.name for row in rows)
    groups = {row.name: row.group for row in list_rows(tmp_path, subfolder="group")}
    assert groups == {
        "b/2.PNG": "b",
        "a/10.jpg": "a",
        "a/9.jpeg": "a",
        "z.webp": None,
        "a/c/x.tif": "c",
        "B/1.bmp": "B",
    }


def test_names_of_sub_folders_as_targets(tmp_path: Path) -> None:
    for name in ("happy", "angry"):
        write_photos(tmp_path / name, 2)
    data = dataset(tmp_path, subfolder="target", classes=["happy", "angry"])
    assert AlignedFaces.collate(list(data)).targets.tolist() == [1, 1, 0, 0]
    with pytest.raises(CanonicalError, match=r"photo 0 \(angry/00\.png\): 'angry'.*give classes="):
        dataset(tmp_path, subfolder="target")


def test_sources_without_photographs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for source, match in [
        (tmp_path, "found none in this folder"),
        (tmp_path / "absent", "expected a folder of photographs, a label table or a list"),
        (tmp_path / "notes.txt", r"notes\.txt: expected a column 'path', got \[\]"),
        ([], "got an empty list"),
        ([3], "item 0: expected a path"),
        ([("a.png", 1, "g", "p", "?")], "item 0: expected a path"),
        ([{"file": "a.png"}], "item 0: expected a path"),
        (["a.png", ""], "item 1: expected the path"),
    ]:
        with pytest.raises(CanonicalError, match=match):
            list_rows(source)


# -------------------------------------------------------------------------------------------------------- tables
def test_table_with_all_columns_a_byte_order_mark_quotes_and_blank_lines(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 3)
    paths[1].rename(tmp_path / "photos" / 'Zoë, "Z".png')
    text = (
        "\ufeffpath,group,target,identity\r\nphotos/00.png,dark,2,p 1\r\n\r\n"
        f'"photos/Zoë, ""Z"".png",,0,\r\n{paths[2]},"light",1,p2\r\n'
    )
    data = dataset(write_table(tmp_path / "table.csv", text))
    assert [(row.target, row.group, row.identity) for row in data.rows] == [
        (2, "dark", "p 1"),
        (0, None, None),
        (1, "light", "p2"),
    ]
    assert [row.origin for row in data.rows] == ["table.csv, line 2", "table.csv, line 4", "table.csv, line 5"]
    with pytest.warns(UserWarning, match="only one face"):
        assert data.places == (0, 1, 2)


def test_other_column_names_and_another_root(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    table = write_table(tmp_path / "lists.csv", "who,file,target\nanna,00.png,7\n")
    (row,) = list_rows(table, {"path": "file", "identity": "who"}, root=tmp_path / "photos")
    assert row.path.is_file() and (row.identity, row.target, row.group) == ("anna", "7", None)


@pytest.mark.parametrize(
    ("text", "columns", "match"),
    [
        ("file,target\na.png,1\n", {}, r"expected a column 'path'.*\['file', 'target'\]"),
        ("path,target\na.png,1\n", {"group": "race"}, "expected a column 'race'"),
        ("paht;target\na.png;1\n", {}, r"expected a column 'path', got \['paht', 'target'\]; did you mean 'paht'"),
        ("path,target\n", {}, "only the header"),
        ("", {}, "expected a column 'path'"),
        ("path,target\na.png,1\nb,c.png,1\n", {}, "line 3: expected 2 cells as in the header, got 3"),
        ("path,target\na.png,1\n ,1\n", {}, "line 3: expected the path"),
        ('path,target\n"a.png,1\n', {}, "cannot be read as CSV"),
        ("path\na.png\n", {"name": "file"}, "columns: expected names"),
    ],
)
def test_tables_that_are_not_as_expected(tmp_path: Path, text: str, columns: dict, match: str) -> None:
    with pytest.raises(CanonicalError, match=match):
        list_rows(write_table(tmp_path / "table.csv", text), columns)


def test_tables_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(CanonicalError, match="UTF-8"):
        list_rows(write_table(tmp_path / "table.csv", "path\nZoë.png\n", "latin-1"))


def test_lists_of_every_kind(tmp_path: Path) -> None:
    a = tmp_path / "a.png"
    rows = list_rows([str(a), a, (a, 1), (a, 2, "g"), {"path": a, "identity": 5}, PhotoRow(a, 3)])
    assert [row.path for row in rows] == [a] * 6
    assert [(row.target, row.group, row.identity) for row in rows] == [
        (None, None, None),
        (None, None, None),
        (1, None, None),
        (2, "g", None),
        (None, None, "5"),
        (3, None, None),
    ]
    assert rows[5].label == f"item 5 ({a})"


# ------------------------------------------------------------------------------------------------------- targets
@pytest.mark.parametrize(
    ("targets", "classes", "expected", "kind"),
    [
        (["2", "0", "1"], None, [2, 0, 1], torch.int64),
        (["31.5", "20", "-3"], None, [31.5, 20.0, -3.0], torch.float32),
        ([np.int64(2), torch.tensor(1), True], 3, [2, 1, 1], torch.int64),
        (["cat", "dog", "1"], ["dog", "cat"], [1, 0, 1], torch.int64),
        (["1", "0", "1"], ["1", "0"], [0, 1, 0], torch.int64),  # names come first
        ([(0, 1), (2, 3), (4, 5)], None, [(0, 1), (2, 3), (4, 5)], list),
    ],
)
def test_targets(tmp_path: Path, targets: list, classes: object, expected: list, kind: object) -> None:
    paths = write_photos(tmp_path, 3)
    batch = AlignedFaces.collate(list(dataset(list(zip(paths, targets, strict=True)), classes=classes)))
    if kind is list:
        assert batch.targets == expected
    else:
        assert batch.targets.dtype == kind and batch.targets.tolist() == expected


@pytest.mark.parametrize(
    ("targets", "classes", "match"),
    [
        ([0, 3, 1, -1], 3, r"targets from 0 to 2 .*item 1 \(.*01\.png\): 3; item 3 \(.*03\.png\): -1\."),
        ([0, 1, 1.5, 0], 2, r"item 2 \(.*02\.png\): 1\.5"),
        (["a", "b", "c", "a"], ["a", "b"], r"one of 2 class names \(a, b\) or its place, got item 2 \(.*\): 'c'\."),
        ([0, -2, 1, 1], None, r"class indices from 0, got item 1 .*: -2\. .*-2\.0"),
        ([0.5, float("nan"), 1, 1], None, r"targets that are numbers, got item 1"),
        ([0, None, 1, None], 2, r"a target in each row or in none, got item 1 .*: None; item 3"),
        ([0, 1, 1, 0], ["a", "a"], "different names"),
        ([9] * 4, 3, r"item 0 .*item 3 "),
        (["1", "1_0", "0", "0"], None, r"targets that are numbers, got item 1 .*'1_0'\."),
        (["1", "1_0", "0", "0"], 20, r"targets from 0 to 19 .*item 1 .*'1_0'\."),
        (["1", "99999999999999999999", "0", "0"], None, r"targets that are numbers, got item 1 .*'9{20}'\."),
        (["1.5", "1_0.5", "0", "0"], None, r"targets that are numbers, got item 1"),
        (["\u0661", "0", "inf", "nan"], None, r"item 0 .*item 2 .*item 3 "),
    ],
)
def test_targets_outside_the_range_are_named_before_any_work(
    tmp_path: Path, targets: list, classes: object, match: str
) -> None:
    paths = write_photos(tmp_path, 4)
    with pytest.raises(CanonicalError, match=match):
        dataset(list(zip(paths, targets, strict=True)), classes=classes, cache=tmp_path / "cache")
    assert not CornerAligner.calls and not (tmp_path / "cache").exists()


# -------------------------------------------------------------------------------------------- groups and identities
LABELS = [("1", "Ann"), ("1.0", "nan"), (" 2", "NA"), ("-", "None"), ("", "-")]
EXPECTED = [("1", "Ann"), ("1", None), ("2", None), (None, None), (None, None)]


class Frame:
    """As much of a DataFrame as is needed."""

    def __init__(self, **columns: list) -> None:
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name: str) -> list:
        return self._columns[name]


def labels(rows: list[PhotoRow]) -> list[tuple[str | None, str | None]]:
    return [(row.group, row.identity) for row in rows]


def test_missing_and_equal_labels_of_a_table_and_a_list(tmp_path: Path) -> None:
    lines = [f"{number}.png,{group},{identity}" for number, (group, identity) in enumerate(LABELS)]
    table = write_table(tmp_path / "t.csv", "\n".join(["path,group,identity", *lines]))
    items = [{"path": "a.png", "group": group, "identity": identity} for group, identity in LABELS]
    rows = [PhotoRow(Path("a.png"), None, group, identity) for group, identity in LABELS]
    for source in (table, items, rows):
        with pytest.warns(UserWarning) as caught:
            assert labels(list_rows(source)) == EXPECTED
        group, identity = sorted(str(each.message) for each in caught)
        assert group.startswith("group: 1 of 5 entries are taken as missing ('-' 1 times)")
        assert identity.startswith("identity: 4 of 5 entries are taken as missing (")


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_every_missing_value_in_a_list(value: object) -> None:
    found = list_rows([("a.png", 0, value, value), ("b.png", 0, 1, np.int64(2)), ("c.png", 0, 1.0, "2.0")])
    assert labels(found) == [(None, None), ("1", "2"), ("1", "2")]


def test_data_frames() -> None:
    frame = Frame(file=["a.png", "b.png"], identity=[1.0, float("nan")], target=[1, 0], more=[0, 0])
    rows = list_rows(frame, {"path": "file"}, root="photos")
    assert [(row.path, row.target, row.identity) for row in rows] == [
        (Path("photos/a.png"), 1, "1"),
        (Path("photos/b.png"), 0, None),
    ]
    unknown = list_rows(Frame(path=["a.png", "b.png"], target=[NAType(), float("nan")]))
    assert [row.target for row in unknown] == [None, None]
    with pytest.raises(CanonicalError, match=r"source: expected a column 'path', got \['file', 'identity'"):
        list_rows(frame)
    with pytest.raises(CanonicalError, match="row 1: expected the path of a photograph, got None"):
        list_rows(Frame(path=["a.png", float("nan")]))


def test_data_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    text = "path,group,identity\na.png,1,Ann\nb.png,,NA\nc.png,1.0,nan\n"
    for options in (
        {},
        {"dtype": "string"},
        {"dtype": str, "keep_default_na": False},
        {"dtype_backend": "numpy_nullable"},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rows = list_rows(pandas.read_csv(io.StringIO(text), **options))
        assert labels(rows) == [("1", "Ann"), (None, None), ("1", None)]
    twice = pandas.DataFrame([["a.png", "x", "y"]], columns=["path", "group", "group"])
    with pytest.raises(CanonicalError, match="expected a column 'group' once"):
        list_rows(twice)


def test_names_of_folders_are_labels_too(tmp_path: Path) -> None:
    for name in ("nan", "1.0", "1"):
        write_photos(tmp_path / name, 1)
    with pytest.warns(UserWarning, match="identity: 1 of 3 entries"):
        assert {row.name: row.identity for row in list_rows(tmp_path, subfolder="identity")} == {
            "1/00.png": "1",
            "1.0/00.png": "1",
            "nan/00.png": None,
        }


def test_counts_by_group_know_one_rule(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 4)
    data = dataset([(path, 0, group) for path, group in zip(paths, (1, "1.0", float("nan"), None), strict=True)])
    assert set(data.counts()) == {"1", None}
