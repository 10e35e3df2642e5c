"""Tables of text as programs write them: any of the usual delimiters, with or without a header, and data frames."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from captum_canonical.data.photo_list import LeftOut, checked_path
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import EXTENSIONS
from captum_canonical.files import read_regular
from captum_canonical.statistics.labels import is_missing

DELIMITERS = (",", "\t", ";", "|")
SAMPLE = 20  # lines that are looked at to find the delimiter
_QUOTED = re.compile(r'"[^"]*"')


T = TypeVar("T")


class Lazy(Mapping[str, T]):
    """Columns that are made when they are asked for: of CelebA's forty few are.

    Args:
        names: of all columns, in order.
        make: makes the column of a name.

    Example::

        >>> columns = Lazy(["a", "b"], str.upper)
        >>> list(columns), columns["b"]
        (['a', 'b'], 'B')
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], T]) -> None:
        self._names, self._make = dict.fromkeys(names), make
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class RawTable:
    """The cells of a table, or the names of the photographs of a folder, in one column without a header.

    Attributes:
        name: for messages.
        lines: (where it stands, its cells) for each line that is not blank.
        folder: where relative paths start.
        announced: the number of photographs that the first line says there are, as in CelebA's lists.
        listed: whether these are the photographs of a folder, which are known to be there.
        unused: what else is in the folder.
    """

    name: str
    lines: Sequence[tuple[str, Sequence[Any]]]
    folder: Path
    announced: int | None = None
    listed: bool = False
    unused: list[LeftOut] = field(default_factory=list)

    @cached_property
    def header(self) -> list[str] | None:
        """The first line if it does not begin with the name of a photograph."""
        first = [] if self.listed or not self.lines else [str(cell).strip() for cell in self.lines[0][1]]
        return None if self.listed or (first and is_photo_name(first[0])) else first

    @property
    def body(self) -> Sequence[tuple[str, Sequence[Any]]]:
        """All lines but the header."""
        return self.lines if self.header is None else self.lines[1:]

    @cached_property
    def doubled(self) -> list[str]:
        """Names of columns that are there more than once."""
        return [name for name, count in Counter(self.header or []).items() if count > 1]

    @cached_property
    def columns(self) -> Lazy[list[Any]]:
        """Name -> cells, of columns whose names are there once.

        Raises:
            CanonicalError: a line has another number of cells than the header.
        """
        header = self.header or []
        for origin, cells in self.body:
            if len(cells) != len(header):
                raise CanonicalError(
                    f"{origin}: expected {len(header)} cells as in the header, got {len(cells)}; names with commas "
                    "need quotation marks."
                )
        places = {name: place for place, name in enumerate(header) if name not in self.doubled}
        return Lazy(places, lambda name: self.column(places[name]))

    def column(self, place: int) -> list[Any]:
        """The cells of a column without surrounding spaces, None where they are empty."""
        return [_stripped(cells[place]) for _, cells in self.body]

    @property
    def width(self) -> int:
        """The number of cells of all lines; 0 if they differ."""
        widths = {len(cells) for _, cells in self.body}
        return widths.pop() if len(widths) == 1 else 0

    @property
    def origins(self) -> list[str]:
        """Where each line stands."""
        return [origin for origin, _ in self.body]


def _stripped(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell.strip() or None
    return None if is_missing(cell) else cell


def is_photo_name(text: str) -> bool:
    """Whether a text ends as names of photographs do."""
    return text.lower().endswith(EXTENSIONS)


def read_table(file: Path) -> RawTable:
    """The lines of a text file.

    Fields are separated by commas, tabs, semicolons or bars, whichever the first line has most of, or else by spaces
    if all lines have equally many fields. A first line that is a number is the number of the lines to come.

    Raises:
        CanonicalError: the file cannot be read, or not as a table in UTF-8 (or UTF-16 with its mark).
    """
    text = _text_of(file)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    announced = int(lines[0][1]) if len(lines) > 1 and lines[0][1].strip().isdecimal() else None
    given = lines if announced is None else lines[1:]
    delimiter = delimiter_of([line for _, line in given[:SAMPLE]])
    same = {}.setdefault  # type: ignore[var-annotated]  # millions of cells hold few different texts
    split = ((number, line.split()) for number, line in given)
    cells = split if delimiter is None else _read_csv(file, text, delimiter, 0 if announced is None else 1)
    kept = [(f"{file.name}, line {number}", [same(cell, cell) for cell in line]) for number, line in cells]
    return RawTable(str(file), kept, file.parent, announced)


def _text_of(file: Path) -> str:
    try:
        content = read_regular(file)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # "Unicode text" of a spreadsheet
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CanonicalError(f"{file}: expected text in UTF-8 ({error}); save it with that encoding.") from error
    except OSError as error:
        raise CanonicalError(f"{file}: the file cannot be read as CSV ({error}).") from error
    if "\0" in text:
        raise CanonicalError(
            f"{file}: expected text in UTF-8, got zero bytes, as in UTF-16 without its mark or in a file that is no "
            "text; save it with that encoding."
        )
    return text


def _read_csv(file: Path, text: str, delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not blank, from the ``first`` of them on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = ((reader.line_num, line) for line in reader if any(cell.strip() for cell in line))
        yield from islice(lines, first, None)
    except csv.Error as error:
        raise CanonicalError(f"{file}: the file cannot be read as CSV ({error}).") from error


def delimiter_of(lines: Sequence[str]) -> str | None:
    """What separates the fields of these lines; None: spaces.

    Example::

        >>> delimiter_of(["path;age", "a.jpg;3,5"]), delimiter_of(["a.jpg  1", "b.jpg -1"]), delimiter_of(["path"])
        (';', None, ',')
    """
    first = _QUOTED.sub("", lines[0]) if lines else ""
    most = max(DELIMITERS, key=first.count)
    if most in first:
        return most
    counts = {len(line.split()) for line in lines[1:]}
    words = len(first.split())
    # The header of CelebA's list has no name for the first column.
    return None if (len(counts | {words}) == 1 and words > 1) or (words > 1 and counts == {words + 1}) else ","


def table_of_frame(frame: Any) -> RawTable:
    """The cells of a DataFrame of pandas or polars; of columns whose names are there twice only the names."""
    header = [str(name) for name in frame.columns]
    counts = Counter(header)
    once = {text: list(frame[name]) for name, text in zip(frame.columns, header, strict=True) if counts[text] == 1}
    nothing = [None] * max(map(len, once.values()), default=0)
    lines = zip(*(once.get(name, nothing) for name in header), strict=True)
    body = [(f"row {number}", cells) for number, cells in enumerate(lines)]
    return RawTable("source", [("header", header), *body], Path())


def photo_paths(raw: RawTable, name: str) -> list[str]:
    """The cells of the column of paths.

    Raises:
        CanonicalError: there is no such column, or more than one, or a cell is empty.
    """
    header = raw.header or []
    if header.count(name) != 1:
        wanted = f"{name!r} once" if name in header else f"{name!r}"
        lower = {each.lower(): each for each in header}
        close = [] if name in header else get_close_matches(name.lower(), lower, n=1)
        hint = f"; did you mean {lower[close[0]]!r}?" if close else "."
        how = "Name it by path= (columns={'path': ...} of AlignedFaces)."
        raise CanonicalError(f"{raw.name}: expected a column {wanted}, got {header}{hint} {how}")
    return [checked_path(cell, origin) for cell, origin in zip(raw.columns[name], raw.origins, strict=True)]
