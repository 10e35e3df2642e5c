"""Label tables as they come: one call from files as they were downloaded to the photographs of a data set."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import Any, overload

from captum_canonical.checks import check_choice, check_path, check_several
from captum_canonical.data.label_files import RawTable, read_table, table_of_frame
from captum_canonical.data.label_formats import FORMATS, LabelColumn, Labels
from captum_canonical.data.label_join import joined
from captum_canonical.data.photo_list import LeftOut, PhotoRow, list_folder
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.faces.photo_files import PathType, is_photo
from captum_canonical.statistics.labels import label_of, label_texts

CLOSE = 0.75  # how similar a name is to that of a column that would be used, by difflib, to be one misspelt
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")  # not 007, which is a name
Tables = PathType | Sequence[PathType] | Any
"""A file, a folder or a DataFrame, or several of these."""


@dataclass(frozen=True, eq=False)
class LabelTable(Sequence[PhotoRow]):
    """The photographs of label tables, which :class:`AlignedFaces` takes as its source.

    Attributes:
        rows: the photographs, as :class:`PhotoRow`.
        format: of the tables, one of the names that :func:`read_labels` takes.
        columns: names of all columns that can be chosen.
        classes: names of the targets in the order of the data set's documentation, None where it has none.
            :class:`AlignedFaces` goes by them unless it is given others.
        missing: rows whose file is not there.
        unused: files, names and lines that could not be used, each with its reason.
    """

    rows: Sequence[PhotoRow]
    format: str = "table"
    columns: Sequence[str] = ()
    classes: tuple[str, ...] | None = None
    missing: Sequence[PhotoRow] = ()
    unused: Sequence[LeftOut] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> PhotoRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PhotoRow]: ...
    def __getitem__(self, index: int | slice) -> PhotoRow | Sequence[PhotoRow]:
        return self.rows[index]

    def __iter__(self) -> Iterator[PhotoRow]:
        return iter(self.rows)

    def __repr__(self) -> str:
        about = f"{len(self.missing)} of them not there, {len(self.unused)} files or lines not used"
        return f"<LabelTable ({self.format}): {len(self)} photographs, {about}; columns {', '.join(self.columns)}>"


def read_labels(
    source: Tables,
    *,
    target: str | None = None,
    group: str | Sequence[str] | None = None,
    identity: str | None = None,
    path: str | None = None,
    where: Mapping[str, Any] | None = None,
    root: PathType | None = None,
    format: str | None = None,
) -> LabelTable:
    """Reads label tables as they were downloaded, and chooses target, groups and identity among their columns.

    The formats are recognised by their contents. Text files may be separated by commas, tabs, semicolons, bars or
    spaces, in UTF-8 with or without a mark, or in UTF-16 with one.

    ============  ===================================================================================================
    format        what it is
    ============  ===================================================================================================
    ``celeba``    ``list_attr_celeba.txt`` or ``.csv`` (an attribute is "Smiling" or "not Smiling" as a group, 1 or 0 as
                  a target; ``Male`` is "Male" or "Female"), ``identity_CelebA.txt`` (``identity``) and
                  ``list_eval_partition`` (``partition``: train, valid, test)
    ``lfw``       the folder of photographs, from whose names ``identity`` comes; the photographs of ``pairs.txt``, each
                  once; lists of photographs or people, one a line, in files that are called after a gender
                  (``female_names.txt``), or with the gender after them (``gender``)
    ``fairface``  columns ``age``, ``gender``, ``race`` and ``file``; ages that a spreadsheet took for dates ("03-Sep")
                  are put right, with a warning
    ``utkface``   a folder, or a list of names, ``[age]_[gender]_[race]_[date].jpg``: ``age`` (a number), ``gender``,
                  ``race``
    ``raf-db``    ``list_patition_label.txt``: ``expression`` (Surprise, Fear, Disgust, Happiness, Sadness, Anger,
                  Neutral) and ``partition``; photographs may be called ``..._aligned.jpg``
    ``table``     anything else with a header, or a folder or list of photographs
    ============  ===================================================================================================

    Args:
        source: a file, a folder of photographs, a DataFrame, or a list of these. Further tables bring columns of the
            same photographs or people, found by their names (``["list_attr_celeba.txt", "identity_CelebA.txt"]``), or,
            if they have the same columns, further photographs.
        target: column of the targets. Default: ``target`` if there is one.
        group: column of the groups, or several: the first one is :attr:`PhotoRow.group`, and all of them are in
            :attr:`PhotoRow.groups`, for ``result.strata("race")`` or ``result.strata(("gender", "race"))``. Default:
            ``group`` if there is one.
        identity: column that says who it is. Default: ``identity`` if there is one.
        path: column of the files. Default: that of the format, ``path`` in a table.
        where: column -> a value or a list of values: only these photographs, such as ``{"partition": "test"}``;
            None stands for a missing one.
        root: the folder that relative paths start at. Default: that of the first table.
        format: one of those above, where the contents do not say it.

    Returns:
        The rows, with what is missing or cannot be used. Lines about photographs that are not there are kept, and
        counted as unreadable once faces are searched.

    Raises:
        CanonicalError: a file cannot be read as such a table, or it has no such column; the message suggests one.

    Example::

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("25_1_0_20170116171048641.jpg", "8_0_3_20170116171048642.jpg"):
        ...     _ = Path(folder.name, name).write_bytes(b"")
        >>> table = read_labels(folder.name, group=("gender", "race"))
        >>> table.format, [dict(row.groups) for row in table]
        ('utkface', [{'gender': 'Female', 'race': 'White'}, {'gender': 'Male', 'race': 'Indian'}])
        >>> folder.cleanup()
    """
    chosen = {"target": target, "group": group, "identity": identity, "path": path}
    table = table_of(source, {name: each for name, each in chosen.items() if each is not None}, root, format, where)
    if table.missing:
        warnings.warn(
            f"read_labels: {len(table.missing)} of {len(table)} photographs are not there, such as "
            f"{table.missing[0].path}; root= says where they are.",
            stacklevel=user_stacklevel(),
        )
    return table


def table_of(
    source: Tables,
    columns: Mapping[str, Any],
    root: PathType | None = None,
    format: str | None = None,
    where: Mapping[str, Any] | None = None,
) -> LabelTable:
    """:func:`read_labels` with names of columns in a mapping, and without its warning about missing files."""
    if format is not None:
        check_choice("format", format, tuple(FORMATS))
    for key, name in columns.items():
        several = key == "group" and not isinstance(name, str)
        if not all(isinstance(each, str) for each in (check_several(key, name, "columns") if several else [name])):
            raise CanonicalError(f"{key}: expected the name of a column, got {name!r:.80}.")
    if where is not None and not isinstance(where, Mapping):
        raise CanonicalError(f"where: expected values by the names of columns, got {where!r:.80}.")
    start = None if root is None else check_path("root", root)
    several = isinstance(source, Sequence) and not isinstance(source, str)
    sources: Sequence[Any] = source if several else [source]  # type: ignore[assignment]
    raws = [_raw_table(each) for each in sources]
    if not raws:
        raise CanonicalError("source: expected at least one label table, got an empty list.")
    kinds = [format or next(name for name, each in FORMATS.items() if each.fits(raw)) for raw in raws]
    for raw, kind in zip(raws, kinds, strict=True):
        if kind == "celeba" and raw.announced not in (None, len(raw.body)):
            warnings.warn(
                f"{raw.name}: expected {raw.announced:,} photographs, as its first line says, got {len(raw.body):,}; "
                "was it cut off?",
                stacklevel=user_stacklevel(),
            )
    tables = [FORMATS[kind].read(raw, columns.get("path")) for kind, raw in zip(kinds, raws, strict=True)]
    labels = joined(tables, raws)
    kind = next((each for each in kinds if each != "table"), "table")
    return _chosen(labels, raws, kind, columns, Path(start or raws[0].folder), where or {})


def _raw_table(source: Any) -> RawTable:
    if hasattr(source, "columns"):
        return table_of_frame(source)
    if not isinstance(source, (str, PathLike)):
        raise CanonicalError(f"source: expected a file, a folder or a DataFrame, got {type(source).__name__}.")
    place = Path(source)
    if place.is_dir():
        names, unused = list_folder(place)
        lines = [(f"photo {number}", [name]) for number, name in enumerate(names)]
        return RawTable(str(place), lines, place, listed=True, unused=unused)
    if not place.is_file():
        raise CanonicalError(f"{place}: expected a label table or a folder of photographs, but there is neither.")
    if is_photo(place):
        raise CanonicalError(f"{place}: expected a label table, but this is a photograph.")
    return read_table(place)


def _chosen(
    labels: Labels,
    raws: Sequence[RawTable],
    kind: str,
    columns: Mapping[str, Any],
    root: Path,
    where: Mapping[str, Any],
) -> LabelTable:
    """The rows of joined tables, with the columns that are asked for or bear the name of what they are."""
    known = {*labels.columns, *(name for raw in raws for name in raw.doubled)}
    names = {key: columns.get(key, key) for key in ("target", "group", "identity") if key in columns or key in known}
    group = names.pop("group", ())
    groups = [group] if isinstance(group, str) else list(group)
    asked = (*groups, *names.values(), *where)
    for name in asked:
        _require(name, labels, raws)
    _warn_of_names(
        raws[0], {*asked, columns.get("path")}, {*names, *(("group",) if groups or "group" in columns else ())}
    )
    kept = _where(labels, where)

    def cells(key: str) -> list[Any]:
        column = labels.columns[names[key]] if key in names else LabelColumn([None] * len(labels.names))
        values = column.targets if key == "target" and column.targets is not None else column.values
        return [values[at] for at in kept]

    picked = {name: _group_values([labels.columns[name].values[at] for at in kept], name) for name in groups}
    rows, missing = [], []
    for place, (at, target, identity) in enumerate(zip(kept, cells("target"), cells("identity"), strict=True)):
        name, values = labels.names[at], {each: column[place] for each, column in picked.items()}
        file, there = (root / name, True) if raws[0].listed else _file(root, name, FORMATS[kind].paths)
        first = values[groups[0]] if groups else None
        rows.append(PhotoRow(file, target, first, identity, name, labels.origins[at], values))
        missing += [] if there else [rows[-1]]
    _warn_of_copies(rows)
    classes = labels.columns[names["target"]].classes if "target" in names else None
    unused = [*labels.unused, *(each for raw in raws for each in raw.unused)]
    return LabelTable(rows, kind, tuple(labels.columns), classes, tuple(missing), tuple(unused))


def _require(name: str, labels: Labels, raws: Sequence[RawTable]) -> None:
    if name in labels.columns:
        return
    close = get_close_matches(name, labels.columns, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    twice = next((raw for raw in raws if name in raw.doubled), None)
    header = [*labels.columns] if len(raws) > 1 or raws[0].header is None else raws[0].header
    once = f"{name!r}" if twice is None else f"{name!r} once"
    raise CanonicalError(f"{(twice or raws[0]).name}: expected a column {once}, got {header}{hint}")


def _warn_of_names(raw: RawTable, used: set[Any], known: set[str]) -> None:
    """Warns of columns that are there twice, and of those that are nearly called as one that would be used."""
    rest = {name.lower(): name for name in raw.header or () if name not in used}
    messages = [f"the column {name!r} is there more than once and not used" for name in raw.doubled if name not in used]
    for key in ("target", "group", "identity"):
        close = get_close_matches(key, rest, n=1, cutoff=CLOSE) if key not in known else []
        messages += [f"the column {rest[close[0]]!r} is not used; did you mean {key!r}?"] if close else []
    if messages:
        warnings.warn(f"{raw.name}: {'; '.join(messages)}", stacklevel=user_stacklevel())


def _warn_of_copies(rows: Sequence[PhotoRow]) -> None:
    """Warns of photographs that are there more than once and not with the same labels."""
    first: dict[Path, PhotoRow] = {}
    pairs = [(first.setdefault(row.path, row), row) for row in rows]
    labels = attrgetter("target", "identity", "groups")
    differ = [pair for pair in pairs if labels(pair[0]) != labels(pair[1])]
    if differ:
        one, other = differ[0]
        warnings.warn(
            f"{one.name}: {one.origin} and {other.origin} give this photograph different labels; so it is with "
            f"{len(differ)} of {len(rows)} rows. All of them are used, each with its own.",
            stacklevel=user_stacklevel(),
        )


def _where(labels: Labels, where: Mapping[str, Any]) -> list[int]:
    """Places of the photographs that have the values that are asked for."""
    kept = list(range(len(labels.names)))
    for name, wanted in where.items():
        asked = {
            label_of(each)
            for each in (wanted if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted])
        }
        found = [label_of(each) for each in labels.columns[name].values]
        unknown = asked - set(found)
        if unknown or not asked:
            some = sorted({str(each) for each in found})
            raise CanonicalError(
                f"where: expected values of {name!r} ({', '.join(some[:10])}{', ...' if len(some) > 10 else ''}), got "
                f"{', '.join(map(str, unknown)) or 'none'}."
            )
        kept = [at for at in kept if found[at] in asked]
    if not kept:
        raise CanonicalError(f"where: expected at least one photograph with {dict(where)}, found none.")
    return kept


def _group_values(values: list[Any], name: str) -> list[Any]:
    """Numbers as such, also those of a text file, so that they can be binned; other labels as texts, None: missing."""
    if all(value is None or (isinstance(value, Real) and not isinstance(value, bool)) for value in values):
        return values
    texts = list(label_texts(values, len(values), name))
    if not all(text is None or _NUMBER.fullmatch(text) for text in texts):
        return texts
    return [None if text is None else float(text) if "." in text else int(text) for text in texts]


def _file(root: Path, name: str, others: Callable[[str], list[str]]) -> tuple[Path, bool]:
    """The file of a photograph, and whether it is there; under another name that it circulates by if only that is."""
    first = os.path.join(root, name)
    if os.path.isfile(first):
        return Path(first), True
    inside = Path(name).parts[1:] if Path(name).parts[:1] == (root.name,) else ()
    for each in (*(root / other for other in others(name)), *([root.joinpath(*inside)] if inside else [])):
        if each.is_file():
            return each, True
    return Path(first), False
