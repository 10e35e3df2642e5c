"""What a data set may be made of: folders, tables, lists and label tables, each as a list of photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from captum_canonical.checks import check_several
from captum_canonical.data.label_table import LabelTable, table_of
from captum_canonical.data.photo_list import COLUMNS, PhotoRow, rows_of_items
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import PathType, is_photo
from captum_canonical.statistics.labels import label_texts

Source = PathType | Sequence[PathType | Sequence[Any] | Mapping[str, Any] | PhotoRow]


def list_rows(
    source: Source,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    root: PathType | None = None,
    subfolder: str | None = None,
) -> LabelTable:
    """The photographs of a source, in its order; they are not opened and need not exist.

    Args:
        source: see :class:`AlignedFaces`.
        columns: ``{"path": "file", ...}``, what a table calls its columns where not ``path``, ``target``, ``group``
            and ``identity``; several names for ``group``.
        root: the folder that relative paths of a table or a list start at.
        subfolder: what the name of the folder that directly holds a photo means: "target", "group" or "identity".

    Raises:
        CanonicalError: the source holds no photographs, or is not as above; the message names the line.
    """
    if subfolder not in (None, *COLUMNS[1:]):
        raise CanonicalError(f"subfolder: expected 'target', 'group', 'identity' or None, got {subfolder!r}.")
    if not set(columns or {}) <= set(COLUMNS):
        raise CanonicalError(f"columns: expected names for some of {', '.join(COLUMNS)}, got {dict(columns or {})}.")
    table = _table_of(source, columns or {}, root)
    rows = list(table)
    if not rows:
        raise CanonicalError("source: expected at least one photograph, got an empty list.")
    if subfolder:
        rows = [replace(row, **{subfolder: Path(row.name).parent.name or None}) for row in rows]  # type: ignore[arg-type]
    for name in ("group", "identity"):
        texts = label_texts([getattr(row, name) for row in rows], len(rows), name)
        rows = [replace(row, **{name: text}) for row, text in zip(rows, texts, strict=True)]  # type: ignore[arg-type]
    return replace(table, rows=rows)


def _table_of(source: Any, columns: Mapping[str, Any], root: PathType | None) -> LabelTable:
    if isinstance(source, LabelTable):
        if columns or root is not None:
            raise CanonicalError("columns, root: of a LabelTable they are chosen when it is read; leave them out.")
        return source
    if hasattr(source, "columns"):
        return table_of(source, columns, root)
    if not isinstance(source, (str, PathLike)):
        items = check_several("source", source, "photographs, a folder or a label table")
        return LabelTable(rows_of_items(items, root))
    place = Path(source)
    if place.is_dir():
        return table_of(place, {}, format="table")  # names say something only where they are read as labels
    if place.is_file() and is_photo(place):
        return LabelTable(rows_of_items([source], root))
    if place.is_file():
        return table_of(place, columns, root)
    raise CanonicalError(f"{source}: expected a folder of photographs, a label table or a list of files; it is none.")
