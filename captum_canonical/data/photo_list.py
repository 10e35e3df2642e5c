"""The photographs of a data set: what is known about each, those in a folder, and what else lies there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import EXTENSIONS, PathType, is_photo


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
        groups: name -> value, a text, a number or None, of all columns that photographs can be compared by, such as
            ``{"gender": "Female", "race": "Black"}``; ``group`` is one of them, or a column of that name.
    """

    path: Path
    target: Any = None
    group: str | None = None
    identity: str | None = None
    name: str = ""
    origin: str = ""
    groups: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """Origin and name, for messages."""
        return f"{self.origin} ({self.name})"


COLUMNS = ("path", "target", "group", "identity")
HIDDEN, OTHER, NOT_FOLLOWED, NO_LABEL, ABSENT = "hidden", "not a photograph", "not followed", "no label", "absent"


@dataclass(frozen=True)
class LeftOut:
    """A photograph, or another file of a folder, that is not used.

    Attributes:
        path: the file.
        reason: a sentence.
        kind: of a photograph of the list ``"no face"``, ``"not aligned"`` (there may be a face, but no usable mesh of
            it) or ``"unreadable"``. Of what did not come onto the list (:attr:`AlignedFaces.unused`) ``"hidden"``,
            ``"not a photograph"``, ``"not followed"`` (a link to a folder, or one that cannot be opened), ``"no
            label"`` (no usable line or file name) or ``"absent"`` (a line about a photograph that the folder lacks).
    """

    path: Path
    reason: str
    kind: str


def list_folder(folder: Path) -> tuple[list[str], list[LeftOut]]:
    """The photographs in a folder and its sub-folders in order of their names, and everything else that is there.

    Photographs are found by :func:`~captum_canonical.faces.photo_files.is_photo`, so that only files without the
    name of a photograph are opened. Hidden files and folders, and links to folders, are not looked into.

    Returns:
        Names relative to the folder, with ``/`` between their parts, and what is not used.

    Raises:
        CanonicalError: there is no photograph.
    """
    names: list[str] = []
    unused: list[LeftOut] = []

    def not_opened(error: OSError) -> None:
        unused.append(LeftOut(Path(error.filename), f"the folder cannot be opened ({error.strerror}).", NOT_FOLLOWED))

    for place, folders, files in os.walk(folder, onerror=not_opened):
        here, hidden = Path(place), [name for name in folders if name[0] == "."]
        links = [name for name in folders if name not in hidden and (here / name).is_symlink()]
        unused += [LeftOut(here / name, "the folder is hidden.", HIDDEN) for name in hidden]
        unused += [LeftOut(here / name, "links to folders are not followed.", NOT_FOLLOWED) for name in links]
        folders[:] = [name for name in folders if name not in hidden]  # walk itself follows no links
        for name in files:
            if name[0] == ".":
                unused.append(LeftOut(here / name, "the file is hidden.", HIDDEN))
            elif is_photo(here / name):
                names.append((here / name).relative_to(folder).as_posix())
            else:
                unused.append(LeftOut(here / name, "the file is not a photograph in a format that is read.", OTHER))
    if not names:
        raise CanonicalError(
            f"{folder}: expected photographs ({', '.join(EXTENSIONS)}), found none in this folder or below."
        )
    return sorted(names), sorted(unused, key=lambda each: str(each.path))


def rows_of_items(items: Sequence[Any], root: PathType | None) -> list[PhotoRow]:
    """The rows of a list; see :class:`AlignedFaces`.

    Raises:
        CanonicalError: an item is none that describes a photograph.
    """
    return [_row_of_item(item, f"item {number}", root) for number, item in enumerate(items)]


def _row_of_item(item: Any, origin: str, root: PathType | None) -> PhotoRow:
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
    path = checked_path(values.get("path"), origin)
    target, group, identity = (values.get(name) for name in COLUMNS[1:])
    return PhotoRow(Path(root or "") / path, target, group, identity, name=path, origin=origin)


def checked_path(path: Any, origin: str) -> str:
    """The path of a photograph as a text.

    Raises:
        CanonicalError: it is none, or empty; the message names the ``origin``.
    """
    if not isinstance(path, (str, PathLike)) or not str(path).strip():
        raise CanonicalError(f"{origin}: expected the path of a photograph, got {path!r}.")
    return str(path)
