"""Pairs of photographs of one person or of two, from LFW's list or a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import PathType

SAME = {"1": True, "true": True, "yes": True, "same": True, "0": False, "false": False, "no": False, "different": False}
"""How tables write whether a pair shows one person."""
FOLDS = 10
"""Of a list without any."""


@dataclass(frozen=True)
class PhotoPair:
    """Two photographs.

    Attributes:
        first, second: their paths.
        same: whether they show one person.
        fold: of a protocol in which thresholds are chosen on the other folds.
        line: of the list, from 1.
    """

    first: Path
    second: Path
    same: bool
    fold: int
    line: int


def read_pairs(file: PathType, root: PathType | None = None, folds: int | None = None) -> list[PhotoPair]:
    r"""Reads a list of pairs.

    Args:
        file: LFW's ``pairs.txt`` (a line of the number of folds and of pairs of each kind in one, then names and
            numbers of photographs), or a table with the columns ``first``, ``second`` and ``same`` (1 or 0, yes or no,
            same or different), and perhaps ``fold``.
        root: the folder of the photographs. LFW's are ``Name_0001.jpg`` in it, or in folders of the names. Default:
            the list's own folder.
        folds: how many to make, of neighbouring pairs, each kind divided evenly. Default: those of the list, else 10.

    Raises:
        CanonicalError: a line cannot be read, photographs are missing, or a pair is listed twice or is of one
            photograph with itself; the message names the lines.

    Example::

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("Ada_0001.jpg", "Ada_0002.jpg", "Bob_0001.jpg"):
        ...     _ = Path(folder.name, name).write_bytes(b"")
        >>> _ = Path(folder.name, "pairs.txt").write_text("1 1\nAda 1 2\nAda 1 Bob 1\n")
        >>> [(pair.second.name, pair.same, pair.fold) for pair in read_pairs(Path(folder.name, "pairs.txt"))]
        [('Ada_0002.jpg', True, 0), ('Bob_0001.jpg', False, 0)]
        >>> folder.cleanup()
    """
    path = Path(file)
    if not path.is_file():
        raise CanonicalError(f"pairs {path}: expected a list of pairs, but there is no such file.")
    folder = path.parent if root is None else Path(root)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CanonicalError(f"pairs {path}: expected a list in UTF-8, got other bytes; save it as UTF-8.") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise CanonicalError(f"pairs {path}: the list is empty.")
    header = lines[0][1].split()
    is_lfw = len(header) <= 2 and all(cell.isdecimal() for cell in header)
    found = list(_of_lfw(path, lines, folder) if is_lfw else _of_table(path, lines, folder))
    if not found:
        raise CanonicalError(f"pairs {path}: the list holds no pairs, only its first line.")
    _check(path, found)
    if folds is not None or any(pair.fold < 0 for pair in found):
        made = made_folds([pair.same for pair in found], folds or FOLDS)
        found = [
            PhotoPair(pair.first, pair.second, pair.same, fold, pair.line)
            for pair, fold in zip(found, made.tolist(), strict=True)
        ]
    return found


def made_folds(same: Sequence[bool], folds: int) -> np.ndarray:
    """(P,) a fold for each pair: neighbours, each kind divided evenly.

    Example::

        >>> made_folds([True, False, True, True, False, True], 2)
        array([0, 0, 0, 1, 1, 1])
    """
    truth, made = np.asarray(same, bool), np.zeros(len(same), np.int64)
    for kind in (True, False):
        places = np.flatnonzero(truth == kind)
        made[places] = np.arange(len(places)) * folds // max(len(places), 1)
    return made


def _of_lfw(path: Path, lines: list[tuple[int, str]], folder: Path) -> Iterator[PhotoPair]:
    header = [int(cell) for cell in lines[0][1].split()]
    for place, (number, line) in enumerate(lines[1:]):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        numbers = cells[1:] if len(cells) == 3 else cells[1::2]
        if len(cells) not in (3, 4) or not all(each.isdecimal() for each in numbers):
            raise CanonicalError(
                f"pairs {path}, line {number}: expected a name and two numbers, or two names with a number each, got "
                f"{line!r}."
            )
        names = [cells[0], cells[0] if len(cells) == 3 else cells[2]]
        first, second = (_of_person(folder, name, int(each)) for name, each in zip(names, numbers, strict=True))
        fold = place // (2 * header[1]) if len(header) == 2 and header[1] else -1
        yield PhotoPair(first, second, len(cells) == 3, fold, number)


def _of_person(folder: Path, name: str, number: int) -> Path:
    photo = f"{name}_{number:04}.jpg"
    inner = folder / name / photo
    return inner if inner.is_file() else folder / photo


def _of_table(path: Path, lines: list[tuple[int, str]], folder: Path) -> Iterator[PhotoPair]:
    delimiter = max(",;\t", key=lines[0][1].count)
    header, *rows = csv.reader([line for _, line in lines], delimiter=delimiter)
    columns = [cell.strip().lower() for cell in header]
    missing = [name for name in ("first", "second", "same") if name not in columns]
    if missing:
        raise CanonicalError(
            f"pairs {path}: expected LFW's list, or a table with the columns first, second and same, but there is no "
            f"{missing[0]} in {', '.join(columns)}."
        )
    for (number, line), cells in zip(lines[1:], rows, strict=True):
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        same, fold = SAME.get(row.get("same", "").lower()), row.get("fold", "-1")
        if len(cells) != len(columns) or same is None or not fold.removeprefix("-").isdecimal():
            raise CanonicalError(
                f"pairs {path}, line {number}: expected {', '.join(columns)} with same as 1 or 0 and fold as a number, "
                f"got {line!r}."
            )
        yield PhotoPair(folder / row["first"], folder / row["second"], same, int(fold), number)


def _check(path: Path, pairs: list[PhotoPair]) -> None:
    def fail(what: str, wrong: list[PhotoPair], name: str = "") -> None:
        if wrong:
            lines = ", ".join(str(pair.line) for pair in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
            raise CanonicalError(f"pairs {path}: {what} in {len(wrong)} lines ({lines}){name}.")

    absent = [pair for pair in pairs if not (pair.first.is_file() and pair.second.is_file())]
    example = next((each for pair in absent for each in (pair.first, pair.second) if not each.is_file()), "")
    fail("there is no such photograph", absent, f", such as {example}; give the folder that they are in")
    files = {photo: photo.resolve() for pair in pairs for photo in (pair.first, pair.second)}
    fail("a photograph is paired with itself", [pair for pair in pairs if files[pair.first] == files[pair.second]])
    known: dict[frozenset[Path], PhotoPair] = {}
    both = [frozenset((files[pair.first], files[pair.second])) for pair in pairs]
    twice = [pair for pair, each in zip(pairs, both, strict=True) if known.setdefault(each, pair) is not pair]
    fail("a pair is listed for the second time", twice)
