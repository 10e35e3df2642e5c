"""What the label tables of known data sets mean: which cells are names of photographs, and what the others stand for.

The formats are those in which the data sets circulate: CelebA's lists and their versions as CSV, LFW's folders and
lists of men and women, FairFace's tables (with the ages that a spreadsheet made dates of), UTKFace's file names and
RAF-DB's list. Class names, and the order of classes, are those of their documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from captum_canonical.data.fairface_ages import AGES, repaired_ages
from captum_canonical.data.label_files import Lazy, RawTable, photo_paths
from captum_canonical.data.photo_list import NO_LABEL, LeftOut
from captum_canonical.errors import CanonicalError

GENDERS = ("Male", "Female")
FAIRFACE = {
    "gender": GENDERS,
    "race": ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    "age": AGES,
}
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")
RAF_DB = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
PARTITIONS = {"0": "train", "1": "valid", "2": "test"}

_CELEBA_NAME = re.compile(r"[0-9]{6}\.(jpg|png)", re.IGNORECASE)
_LFW_NAME = re.compile(r"(.+)_[0-9]{4}\.[A-Za-z]+")
_UTK_NAME = re.compile(r"([0-9]{1,3})_([01])_([0-4])_[0-9]{6,}(?![0-9_]).*")
_UTK_START = re.compile(r"[0-9]{1,3}_[0-9]+_[0-9]+")
_RAF_NAME = re.compile(r"(train|test)_[0-9]+(_aligned)?\.[A-Za-z]+")
_GENDER_WORDS = {"m": "Male", "male": "Male", "man": "Male", "f": "Female", "female": "Female", "woman": "Female"}


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """A column of labels.

    Attributes:
        values: for each photograph what it is called, a text, a number or None.
        targets: what it is as a target; None: the same.
        classes: names in the order of the data set's documentation, if it has one.
    """

    values: Sequence[Any]
    targets: Sequence[Any] | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """A table that was understood.

    Attributes:
        names: of the photographs, or of people.
        origins: where in the source each stands.
        columns: name -> labels.
        people: whether the names are of people, whose photographs another table lists.
        unused: photographs without a usable label.
    """

    names: Sequence[str]
    origins: Sequence[str]
    columns: Mapping[str, LabelColumn]
    people: bool = False
    unused: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class LabelFormat:
    """A format of label tables.

    Attributes:
        fits: whether a table is of this format, by its contents.
        read: what it says; the second argument is the name of the column of paths, None: the format's own.
        paths: other names of a photograph's file, where there is none of the name in the table.
    """

    fits: Callable[[RawTable], bool]
    read: Callable[[RawTable, str | None], Labels]
    paths: Callable[[str], list[str]] = lambda name: []


def named(values: Sequence[Any], classes: tuple[str, ...]) -> LabelColumn:
    """Labels that have these names, in either case."""
    spelt = {name.casefold(): name for name in classes}
    return LabelColumn([spelt.get(str(each).casefold(), each) for each in values], classes=classes)


def _usable(
    raw: RawTable, label: Callable[[Sequence[Any]], Any], expected: str
) -> tuple[list[str], list[str], list[Any], list[LeftOut]]:
    """Names, origins and labels of the lines that have a label, and the other lines."""
    lines = [(cells, origin, label(cells)) for origin, cells in raw.body]
    unused = [
        LeftOut(raw.folder / str(cells[0]), f"expected {expected}, got {' '.join(map(str, cells))!r}.", NO_LABEL)
        for cells, _, known in lines
        if known is None
    ]
    good = [(str(cells[0]), origin, known) for cells, origin, known in lines if known is not None]
    if not good:
        raise CanonicalError(f"{raw.name}: {unused[0].reason if unused else 'expected photographs, got none.'}")
    return [name for name, _, _ in good], [origin for _, origin, _ in good], [known for *_, known in good], unused


# ---------------------------------------------------------------------------------------------------------- CelebA
def _fits_celeba(raw: RawTable) -> bool:
    if raw.header is None:
        return raw.width == 2 and all(_CELEBA_NAME.fullmatch(str(cells[0])) for _, cells in raw.lines[:20])
    attributes = raw.header if raw.announced is not None else raw.header[1:]
    known = raw.announced is not None or raw.header[:1] in (["image_id"], [""])
    return known and bool(attributes) and all(_celeba_cells(cells, len(attributes)) for _, cells in raw.body[:20])


def _celeba_cells(cells: Sequence[Any], attributes: int) -> bool:
    return len(cells) == attributes + 1 and all(str(cell) in ("-1", "0", "1", "2") for cell in cells[1:])


def _read_celeba(raw: RawTable, path: str | None) -> Labels:
    if raw.header is None:
        return _read_celeba_list(raw)
    header = raw.header if raw.announced is None else ["image_id", *raw.header]
    whole = RawTable(raw.name, [("header", header), *raw.body], raw.folder)
    names = photo_paths(whole, path or header[0])
    attributes = [name for name in whole.columns if name != (path or header[0])]
    if attributes == ["partition"]:
        return Labels(names, raw.origins, {"partition": _partition(whole.columns["partition"])})
    return Labels(names, raw.origins, Lazy(attributes, lambda name: _attribute(name, whole.columns[name])))


def _attribute(name: str, cells: Sequence[Any]) -> LabelColumn:
    """-1 and 1 as ``"not Smiling"`` and ``"Smiling"``, and as the targets 0 and 1."""
    classes = ("Female", "Male") if name == "Male" else (f"not {name}", name)
    targets = [{"-1": 0, "0": 0, "1": 1}.get(str(cell)) for cell in cells]
    return LabelColumn([None if each is None else classes[each] for each in targets], targets, classes)


def _read_celeba_list(raw: RawTable) -> Labels:
    names, values = raw.column(0), raw.column(1)
    if set(values) <= set(PARTITIONS) and "identity" not in Path(raw.name).name.lower():
        return Labels(names, raw.origins, {"partition": _partition(values)})
    return Labels(names, raw.origins, {"identity": LabelColumn(values)})


def _partition(values: Sequence[Any]) -> LabelColumn:
    return LabelColumn([PARTITIONS.get(str(value), value) for value in values])


# ------------------------------------------------------------------------------------------------------------- LFW
def _fits_lfw(raw: RawTable) -> bool:
    if not raw.lines or _in_pairs(raw):
        return bool(raw.lines)
    if not raw.listed and _gender_of_list(raw) is not None:
        return {len(cells) for _, cells in raw.lines} == {1}
    if not raw.listed and {len(cells) for _, cells in raw.lines} == {2}:
        return all(str(cells[1]).strip().lower() in _GENDER_WORDS for _, cells in raw.lines)
    names = [PurePosixPath(str(cells[0])) for _, cells in raw.lines]
    people = [match[1] if (match := _LFW_NAME.fullmatch(name.name)) else "" for name in names]
    if not all(people) or raw.width != 1:
        return False
    # Cameras write IMG_0001, too: LFW's people have a folder each, or nearly all of them two names.
    return all(name.parent.name == person for name, person in zip(names, people, strict=True)) or (
        sum("_" in person for person in people) > 0.8 * len(people)
    )


def _in_pairs(raw: RawTable) -> dict[tuple[str, int], str]:
    """(person, number) -> where each photograph of ``pairs.txt`` is first; empty for other tables.

    A line is "Ann_Lee 1 4" for two of one person, or "Ann_Lee 1 Bo_Ek 2"; the first one may count them.
    """
    found: dict[tuple[str, int], str] = {}
    for place, (origin, cells) in enumerate(raw.lines):
        numbers = [str(cell).strip() for cell in ((cells[1], cells[-1]) if len(cells) in (3, 4) else ())]
        if len(numbers) == 2 and all(map(str.isdecimal, numbers)):
            people = (str(cells[0]).strip(), str(cells[0 if len(cells) == 3 else 2]).strip())
            for person, number in zip(people, numbers, strict=True):
                found.setdefault((person, int(number)), origin)
        elif place or not all(str(cell).isdecimal() for cell in cells):
            return {}
    return found


def _gender_of_list(raw: RawTable) -> str | None:
    """By the name of the file: ``female_names.txt``."""
    words = re.split(r"[^a-z]+", Path(raw.name).stem.lower())
    return next((gender for word, gender in _GENDER_WORDS.items() if word in words and len(word) > 1), None)


def _read_lfw(raw: RawTable, path: str | None) -> Labels:
    if pairs := _in_pairs(raw):
        files = [f"{person}_{number:04d}.jpg" for person, number in pairs]
        return Labels(files, list(pairs.values()), {"identity": LabelColumn([person for person, _ in pairs])})
    names, origins = [str(cells[0]).strip() for _, cells in raw.lines], [origin for origin, _ in raw.lines]
    columns = {}
    if not raw.listed and (gender := _gender_of_list(raw)) is not None:
        columns["gender"] = LabelColumn([gender] * len(names), classes=GENDERS)
    elif not raw.listed and all(len(cells) == 2 for _, cells in raw.lines):
        genders = [_GENDER_WORDS.get(str(cells[1]).strip().lower()) for _, cells in raw.lines]
        columns["gender"] = LabelColumn(genders, classes=GENDERS)
    people = [match[1] if (match := _LFW_NAME.fullmatch(PurePosixPath(name).name)) else None for name in names]
    if not any(people):
        return Labels(names, origins, columns, people=True)
    good = [place for place, person in enumerate(people) if person]
    unused = [
        LeftOut(raw.folder / name, f"expected a name such as Ann_Lee_0001.jpg, got {name!r}.", NO_LABEL)
        for name, person in zip(names, people, strict=True)
        if not person
    ]
    kept = {name: LabelColumn([column.values[at] for at in good], None, GENDERS) for name, column in columns.items()}
    kept["identity"] = LabelColumn([people[at] for at in good])
    return Labels([names[at] for at in good], [origins[at] for at in good], kept, unused=unused)


# -------------------------------------------------------------------------------------------------------- FairFace
def _fits_fairface(raw: RawTable) -> bool:
    if raw.header is None or not {"age", "gender", "race"} <= set(raw.header) - set(raw.doubled) or not raw.body:
        return False
    races = raw.column(raw.header.index("race")) if raw.width == len(raw.header) else []
    return sum(race in FAIRFACE["race"] for race in races) > len(races) / 2


def _read_fairface(raw: RawTable, path: str | None) -> Labels:
    path = path or ("file" if "file" in (raw.header or ()) else "path")
    names, cells = photo_paths(raw, path), raw.columns
    columns = {name: LabelColumn(values) for name, values in cells.items() if name != path}
    columns |= {name: named(cells[name], classes) for name, classes in FAIRFACE.items() if name in cells}
    if "age" in cells:
        columns["age"] = named(repaired_ages(columns["age"].values, raw.name), AGES)
    return Labels(names, raw.origins, columns)


# --------------------------------------------------------------------------------------------------------- UTKFace
def _fits_utkface(raw: RawTable) -> bool:
    names = [str(cells[0]) for _, cells in raw.lines]
    found = sum(bool(_UTK_START.match(PurePosixPath(name).name)) for name in names)
    return raw.header is None and raw.width == 1 and found > len(names) / 2


def _read_utkface(raw: RawTable, path: str | None) -> Labels:
    def label(cells: Sequence[Any]) -> tuple[int, str, str] | None:
        found = _UTK_NAME.fullmatch(PurePosixPath(str(cells[0])).name)
        if found is None or int(found[1]) > 120:
            return None
        return int(found[1]), GENDERS[int(found[2])], UTKFACE_RACES[int(found[3])]

    expected = "a name such as 25_1_0_20170116171048641.jpg (age, gender, race, date)"
    names, origins, labels, unused = _usable(raw, label, expected)
    ages, genders, races = zip(*labels, strict=True)
    columns = {
        "age": LabelColumn(ages, [float(age) for age in ages]),  # a number to be predicted, not a class
        "gender": LabelColumn(genders, classes=GENDERS),
        "race": LabelColumn(races, classes=UTKFACE_RACES),
    }
    return Labels(names, origins, columns, unused=unused)


# ---------------------------------------------------------------------------------------------------------- RAF-DB
def _fits_raf_db(raw: RawTable) -> bool:
    return bool(raw.body) and raw.width == 2 and all(_is_raf_db(cells) for _, cells in raw.body[:20])


def _is_raf_db(cells: Sequence[Any]) -> bool:
    return bool(_RAF_NAME.fullmatch(str(cells[0]))) and str(cells[1]) in map(str, range(1, len(RAF_DB) + 1))


def _read_raf_db(raw: RawTable, path: str | None) -> Labels:
    spelt = {str(number): name for number, name in enumerate(RAF_DB, 1)}
    expected = f"a photograph's name and a number from 1 to {len(RAF_DB)}"
    names, origins, expressions, unused = _usable(raw, lambda cells: spelt.get(str(cells[1]).strip()), expected)
    columns = {
        "expression": LabelColumn(expressions, classes=RAF_DB),
        "partition": LabelColumn([name.partition("_")[0] for name in names]),
    }
    return Labels(names, origins, columns, unused=unused)


def _raf_db_paths(name: str) -> list[str]:
    path = PurePosixPath(name)
    aligned = path.with_stem(f"{path.stem}_aligned")
    return [str(aligned), f"aligned/{aligned}"]


# ---------------------------------------------------------------------------------------------------- other tables
def _read_table(raw: RawTable, path: str | None) -> Labels:
    if raw.header is None:
        if raw.width == 1:
            return Labels([str(name) for name in raw.column(0)], raw.origins, {})
        raise CanonicalError(
            f"{raw.name}: expected a first line with the names of the columns, path among them, or one of the formats "
            f"{', '.join(name for name in FORMATS if name != 'table')}; it begins with {raw.lines[0][1]}."
        )
    names = photo_paths(raw, path or "path")
    if not names:
        raise CanonicalError(f"{raw.name}: expected a line for each photograph, got only the header.")
    others = [name for name in raw.columns if name != (path or "path")]
    return Labels(names, raw.origins, Lazy(others, lambda name: LabelColumn(raw.columns[name])))


FORMATS: Mapping[str, LabelFormat] = {
    "utkface": LabelFormat(_fits_utkface, _read_utkface),
    "raf-db": LabelFormat(_fits_raf_db, _read_raf_db, _raf_db_paths),
    "celeba": LabelFormat(_fits_celeba, _read_celeba, lambda name: [str(PurePosixPath(name).with_suffix(".png"))]),
    "lfw": LabelFormat(_fits_lfw, _read_lfw, lambda name: [f"{name[: -len('_0001.jpg')]}/{name}"]),
    "fairface": LabelFormat(_fits_fairface, _read_fairface),
    "table": LabelFormat(lambda raw: True, _read_table),
}
"""Formats by name, in the order in which they are tried."""
