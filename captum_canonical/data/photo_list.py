"""Which photographs a data set is made of, and what is known about each: from a folder, a table or a list."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import EXTENSIONS, PathType
from captum_canonical.statistics.labels import is_missing, label_texts


@dataclass(frozen=True)
class PhotoRow:
    """One photograph of a data set, whether or not a face will be found in it.

    Attributes:
        path: the file.
        target: what the network is asked about, as Captum takes it: a class index (or a tuple of indices), a number to
            be predicted, a class name before it is looked up; None if not known.
        group: what photographs are compared by, such as "dark" and "light"; None if not known.
        identity: who it is; None if not known (:mod:`captum_canonical.statistics.labels`).
        name: what to call the photograph in messages: its path as it was given.
        origin: where the row stands in its source, such as "line 7".
    """

    path: Path
    target: Any = None
    group: str | None = None
    identity: str | None = None
    name: str = ""
    origin: str = ""

    @property
    def label(self) -> str:
        """Origin and name, for messages."""
        return f"{self.origin} ({self.name})"


Source = PathType | Sequence[PathType | Sequence[Any] | Mapping[str, Any] | PhotoRow]
COLUMNS = ("path", "target", "group", "identity")


def list_rows(
    source: Source,
    columns: Mapping[str, str] | None = None,
    root: PathType | None = None,
    subfolder: str | None = None,
) -> list[PhotoRow]:
    """The photographs of a source, in its order; files are not opened and need not exist.

    Args:
        source: see :class:`AlignedFaces`.
        columns: ``{"path": "file", ...}``, what a table calls its columns where not ``path``, ``target``, ``group``
            and ``identity``.
        root: the folder that relative paths of a CSV file or a list start at.
        subfolder: what the name of the folder that directly holds a photo means: "target", "group" or "identity".

    Raises:
        CanonicalError: the source holds no photographs, or is not as above; the message names the line.
    """
    if subfolder not in (None, *COLUMNS[1:]):
        raise CanonicalError(f"subfolder: expected 'target', 'group', 'identity' or None, got {subfolder!r}.")
    rows = _rows_of(source, columns or {}, root)
    if not rows:
        raise CanonicalError("source: expected at least one photograph, got an empty list.")
    if subfolder:
        rows = [replace(row, **{subfolder: Path(row.name).parent.name or None}) for row in rows]  # type: ignore[arg-type]
    for name in ("group", "identity"):
        texts = label_texts([getattr(row, name) for row in rows], len(rows), name)
        rows = [replace(row, **{name: text}) for row, text in zip(rows, texts, strict=True)]  # type: ignore[arg-type]
    return rows


def _rows_of(source: Source, columns: Mapping[str, str], root: PathType | None) -> list[PhotoRow]:
    if hasattr(source, "columns"):
        return _from_frame(source, columns, root)
    if not isinstance(source, (str, PathLike)):
        return [_from_item(item, number, root) for number, item in enumerate(source)]
    if Path(source).is_dir():
        return _from_folder(Path(source))
    if Path(source).is_file() and Path(source).suffix.lower() == ".csv":
        return _from_csv(Path(source), columns, root)
    if Path(source).is_file() and Path(source).suffix.lower() in EXTENSIONS:
        return [_from_item(source, 0, root)]
    raise CanonicalError(f"{source}: expected a folder of photographs, a .csv file or a list of files; it is none.")


def _from_folder(folder: Path) -> list[PhotoRow]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        found += [inside / name for name in files if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS]
    if not found:
        raise CanonicalError(
            f"{folder}: expected photographs ({', '.join(EXTENSIONS)}), found none in this folder or below."
        )
    names = sorted(path.as_posix() for path in found)
    return [PhotoRow(folder / name, name=name, origin=f"photo {number}") for number, name in enumerate(names)]


def _from_item(item: Any, number: int, root: PathType | None) -> PhotoRow:
    origin = f"item {number}"
    if isinstance(item, PhotoRow):
        return replace(item, name=item.name or str(item.path), origin=origin)
    if isinstance(item, (str, PathLike)):
        values: dict[str, Any] = {"path": item}
    elif isinstance(item, Mapping) and set(item) <= set(COLUMNS):
        values = dict(item)
    elif isinstance(item, Sequence) and 1 <= len(item) <= len(COLUMNS):
        values = dict(zip(COLUMNS, item, strict=False))
    else:
        raise CanonicalError(f"{origin}: expected a path, ({', '.join(COLUMNS)}) or a dict of these, got {item!r}.")
    return _row(values, origin, root)


def _row(values: Mapping[str, Any], origin: str, root: PathType | None) -> PhotoRow:
    path = values.get("path")
    if not isinstance(path, (str, PathLike)) or not str(path).strip():
        raise CanonicalError(f"{origin}: expected the path of a photograph, got {path!r}.")
    target, group, identity = (values.get(name) for name in COLUMNS[1:])
    return PhotoRow(Path(root or "") / path, target, group, identity, name=str(path), origin=origin)


def _from_csv(file: Path, columns: Mapping[str, str], root: PathType | None) -> list[PhotoRow]:
    header, lines = _read_csv(file)
    names = _column_names(header, columns, f"{file}: expected a column {{}}, separated by commas")
    start = file.parent if root is None else root
    rows = []
    for number, line in lines:
        values = {key: line[header.index(name)].strip() or None for key, name in names.items()}
        rows.append(_row(values, f"{file.name}, line {number}", start))
    if not rows:
        raise CanonicalError(f"{file}: expected a line for each photograph, got only the header.")
    return rows


def _from_frame(frame: Any, columns: Mapping[str, str], root: PathType | None) -> list[PhotoRow]:
    """The rows of a DataFrame of pandas or polars."""
    names = _column_names(list(frame.columns), columns, "source: expected a column {}")
    cells = zip(*([None if is_missing(each) else each for each in frame[name]] for name in names.values()), strict=True)
    return [_row(dict(zip(names, line, strict=True)), f"row {number}", root) for number, line in enumerate(cells)]


def _column_names(header: list[str], columns: Mapping[str, str], expected: str) -> dict[str, str]:
    """What the columns of a table that we read are called in it."""
    if not set(columns) <= set(COLUMNS):
        raise CanonicalError(f"columns: expected names for some of {', '.join(COLUMNS)}, got {dict(columns)}.")
    names = {key: columns.get(key, key) for key in COLUMNS}
    wrong = [f"{name!r}" for key, name in names.items() if name not in header and (key == "path" or key in columns)]
    wrong += [f"{name!r} once" for name in names.values() if header.count(name) > 1]
    if wrong:
        how = "columns={'path': ...} says what this table calls it."
        raise CanonicalError(f"{expected.format(wrong[0])}, got {header}; {how}")
    return {key: name for key, name in names.items() if name in header}


def _read_csv(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each line that is not empty with its number in the file."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except UnicodeDecodeError as error:
        raise CanonicalError(f"{file}: expected text in UTF-8 ({error}); save it with that encoding.") from error
    except (csv.Error, OSError) as error:
        raise CanonicalError(f"{file}: the file cannot be read as CSV ({error}).") from error
    for number, line in lines:
        if len(line) != len(header):
            raise CanonicalError(
                f"{file}, line {number}: expected {len(header)} cells as in the header, got {len(line)}; names with "
                "commas need quotation marks."
            )
    return header, lines
