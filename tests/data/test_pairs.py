"""Lists of pairs: LFW's, tables, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from captum_canonical.data.pairs import made_folds, read_pairs
from captum_canonical.errors import CanonicalError

NAMES = ["Ada_Lee_0001.jpg", "Ada_Lee_0012.jpg", "Bob_0001.jpg", "Cy_0002.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def listed(folder: Path, text: str, **arguments: object) -> list[tuple[str, str, bool, int, int]]:
    (folder / "pairs.txt").write_text(text, encoding="utf-8")
    pairs = read_pairs(folder / "pairs.txt", **arguments)  # type: ignore[arg-type]
    return [(pair.first.name, pair.second.name, pair.same, pair.fold, pair.line) for pair in pairs]


def test_the_list_of_lfw(folder: Path) -> None:
    text = "2\t1\nAda_Lee\t1\t12\nAda_Lee\t1\tBob\t1\n\nBob\t1\tCy\t2\nAda_Lee\t12\tCy\t2\n"
    ada, other, bob, cy = NAMES
    expected = [(ada, other, True, 0, 2), (ada, bob, False, 0, 3), (bob, cy, False, 1, 5), (other, cy, False, 1, 6)]
    assert listed(folder, text) == expected
    assert listed(folder, text.replace("\t", " ")) == expected
    assert [pair[3] for pair in listed(folder, text, folds=3)] == [0, 0, 1, 2]
    assert [pair[3] for pair in listed(folder, text.replace("2\t1", "1"), folds=3)] == [0, 0, 1, 2]


def test_photographs_in_folders_of_their_names(folder: Path) -> None:
    (folder / "Cy").mkdir()
    (folder / NAMES[3]).rename(folder / "Cy" / NAMES[3])
    (folder / "pairs.txt").write_text("1 1\nCy 2 Bob 1\n")
    (pair,) = read_pairs(folder / "pairs.txt")
    assert pair.first == folder / "Cy" / NAMES[3] and pair.second == folder / NAMES[2]


@pytest.mark.parametrize("words", [("1", "0"), ("True", "False"), ("yes", "no"), ("same", "different")])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables(folder: Path, words: tuple[str, str], delimiter: str) -> None:
    rows = [("same", "first", "second"), (words[0], NAMES[0], NAMES[1]), (words[1], NAMES[0], NAMES[2])]
    found = listed(folder, "\ufeff" + "\n".join(delimiter.join(row) for row in rows), root=folder)
    assert found == [(NAMES[0], NAMES[1], True, 0, 2), (NAMES[0], NAMES[2], False, 0, 3)]
    with_folds = [("first", "second", "same", "fold"), (*NAMES[:2], "1", "4"), (*NAMES[2:], "0", "7")]
    assert [row[3] for row in listed(folder, "\n".join(",".join(row) for row in with_folds))] == [4, 7]


def test_folds_divide_each_kind_evenly() -> None:
    same = [True] * 20 + [False] * 30
    folds = made_folds(same, 10)
    for number in range(10):
        assert sum(folds[:20] == number) == 2 and sum(folds[20:] == number) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("1 1\nAda_Lee 1\n", r"line 2: expected a name and two numbers, or two names .* got 'Ada_Lee 1'"),
        ("1 1\nAda_Lee one 12\n", "line 2"),
        ("1 1\nAda_Lee 1 3\nBob 1 Cy 2\n", r"no such photograph in 1 lines \(2\), such as .*Ada_Lee_0003.jpg; give"),
        ("1 1\nBob 1 Bob 1\n", r"paired with itself in 1 lines \(2\)"),
        ("1 2\nBob 1 Cy 2\nAda_Lee 1 12\nCy 2 Bob 1\n", r"listed for the second time in 1 lines \(4\)"),
        ("first,second\na,b\n", "there is no same in first, second"),
        (f"first,second,same\n{NAMES[0]},{NAMES[1]},\n", "line 2: expected first, second, same with same as 1 or 0"),
        (f"first,second,same\n{NAMES[0]},{NAMES[1]}\n", "line 2"),
        (f"first,second,same,fold\n{NAMES[0]},{NAMES[1]},1,x\n", "line 2"),
        (f"first,second,same,fold\n{NAMES[0]},{NAMES[1]},1,--1\n", "line 2"),
        (f"first,second,same\n{NAMES[0]},../{{folder}}/{NAMES[0]},1\n", r"paired with itself in 1 lines \(2\)"),
        (f"first,second,same\n{NAMES[0]},{NAMES[1]},1\n{NAMES[1]},../{{folder}}/{NAMES[0]},1\n", "the second time"),
        ("1 5\n", "holds no pairs"),
        ("first,second,same\n", "holds no pairs"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        listed(folder, text.replace("{folder}", folder.name))


def test_a_list_in_another_encoding(folder: Path) -> None:
    (folder / "pairs.csv").write_bytes("first,second,same\nJos\xe9.jpg,x.jpg,1\n".encode("latin-1"))
    with pytest.raises(CanonicalError, match="save it as UTF-8"):
        read_pairs(folder / "pairs.csv")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CanonicalError, match="no such file"):
        read_pairs(tmp_path / "pairs.txt")
