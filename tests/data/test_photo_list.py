"""Which photographs a data set takes from a folder, a table or a list, and the targets of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.photo_list import PhotoRow, list_rows
from captum_canonical.errors import CanonicalError
from dataset_tools import CornerAligner, dataset, write_photos


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
        (tmp_path / "absent", "expected a folder of photographs, a .csv file or a list"),
        (tmp_path / "notes.txt", "expected a folder of photographs, a .csv file or a list"),
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
        ("path;target\na.png;1\n", {}, "separated by commas"),
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
    ],
)
def test_targets_outside_the_range_are_named_before_any_work(
    tmp_path: Path, targets: list, classes: object, match: str
) -> None:
    paths = write_photos(tmp_path, 4)
    with pytest.raises(CanonicalError, match=match):
        dataset(list(zip(paths, targets, strict=True)), classes=classes, cache=tmp_path / "cache")
    assert not CornerAligner.calls and not (tmp_path / "cache").exists()
