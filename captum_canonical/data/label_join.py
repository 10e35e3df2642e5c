"""Several label tables as one: further columns of the same photographs or people, and further photographs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from captum_canonical.data.label_files import RawTable
from captum_canonical.data.label_formats import LabelColumn, Labels
from captum_canonical.data.photo_list import ABSENT, LeftOut
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.statistics.labels import label_of

Cell = tuple[Any, Any]
"""A label as a value and as a target."""
UNKNOWN: Cell = (None, None)


def joined(tables: Sequence[Labels], raws: Sequence[RawTable]) -> Labels:
    """Tables joined by the names of photographs, without their extensions, or of people.

    A table with the columns of the first one brings further photographs (two lists of FairFace), any other one further
    columns (CelebA's identities). A label on which two tables differ is not known.

    Args:
        tables: the first one that lists photographs says which there are.
        raws: where each comes from.

    Raises:
        CanonicalError: all of them list people.
    """
    base = next((place for place, table in enumerate(tables) if not table.people), None)
    if base is None:
        raise CanonicalError(
            f"{raws[0].name}: expected a folder or a table of photographs beside this list of people, in a list: "
            "[photographs, this list]."
        )
    if len(tables) == 1:
        return tables[0]
    join = _Join(tables[base], raws[base])
    for place, (table, raw) in enumerate(zip(tables, raws, strict=True)):
        if place != base:
            join.add(table, raw)
    return join.result()


class _Join:
    def __init__(self, base: Labels, raw: RawTable) -> None:
        self.names, self.origins = list(base.names), list(base.origins)
        self.columns = {name: _cells(column) for name, column in base.columns.items()}
        self.classes = {name: column.classes for name, column in base.columns.items()}
        self.unused = list(base.unused)
        self.name, self.listed = raw.name, raw.listed
        self.own, self.differing = set(self.columns), Counter[str]()

    def add(self, table: Labels, raw: RawTable) -> None:
        """Enters the labels of a further table."""
        more = not table.people and not self.listed and set(table.columns) == set(self.columns)
        places = self._people() if table.people else _by_name(self.names)
        columns = {name: _cells(column) for name, column in table.columns.items()}
        for name in columns:
            self.columns.setdefault(name, [UNKNOWN] * len(self.names))
            self.classes.setdefault(name, table.columns[name].classes)
        differing, absent = Counter[str](), []
        for row, (name, origin) in enumerate(zip(table.names, table.origins, strict=True)):
            found = places.get(label_of(name), []) if table.people else _find(places, name, whole=more)
            if not found and more:
                found = [len(self.names)]
                self.names.append(name)
                self.origins.append(origin)
                for cells in self.columns.values():
                    cells.append(UNKNOWN)
            elif not found:
                reason = f"{origin}: not among the photographs of {self.name}, or the name of several of them."
                absent.append(LeftOut(raw.folder / name, reason, ABSENT))
            for column, cells in columns.items():
                differing[column] += sum(self._enter(column, place, cells[row]) for place in found)
        self.unused += [*table.unused, *absent]
        self.differing += differing
        _warn(raw, len(absent), differing)

    def _enter(self, column: str, place: int, cell: Cell) -> bool:
        """Whether another label was there, so that none is known now."""
        before = self.columns[column][place]
        differs = UNKNOWN not in (before, cell) and label_of(before[0]) != label_of(cell[0])
        if cell != UNKNOWN:
            self.columns[column][place] = UNKNOWN if differs else cell
        return differs

    def _people(self) -> dict[Hashable, list[int]]:
        if "identity" not in self.columns:
            raise CanonicalError(f"{self.name}: expected a column identity, by which a list of people can be joined.")
        places: dict[Hashable, list[int]] = {}
        for place, (person, _) in enumerate(self.columns["identity"]):
            places.setdefault(label_of(person), []).append(place)
        return places

    def result(self) -> Labels:
        """All tables as one; warns of photographs about which the further ones say nothing."""
        for name, cells in self.columns.items():
            without = cells.count(UNKNOWN) - self.differing[name]
            if without and name not in self.own:
                warnings.warn(
                    f"{name}: nothing is said of {without} of {len(cells)} photographs.", stacklevel=user_stacklevel()
                )
        columns = {
            name: LabelColumn([value for value, _ in cells], [target for _, target in cells], self.classes[name])
            for name, cells in self.columns.items()
        }
        return Labels(self.names, self.origins, columns, unused=self.unused)


def _warn(raw: RawTable, absent: int, differing: Counter[str]) -> None:
    messages = [f"{absent} lines are about other photographs"] if absent else []
    messages += [
        f"{count} photographs have another {column} than in the tables before, and none is known now"
        for column, count in differing.items()
        if count
    ]
    if messages:
        warnings.warn(f"{Path(raw.name).name}: {'; '.join(messages)}.", stacklevel=user_stacklevel())


def _cells(column: LabelColumn) -> list[Cell]:
    return list(zip(column.values, column.values if column.targets is None else column.targets, strict=True))


def _by_name(names: Sequence[str]) -> dict[Hashable, list[int]]:
    """Path without its extension, and as a tuple its last part alone -> places."""
    places: dict[Hashable, list[int]] = {}
    for place, name in enumerate(names):
        path = PurePosixPath(name)
        places.setdefault(str(path.with_suffix("")), []).append(place)
        places.setdefault((path.stem,), []).append(place)
    return places


def _find(places: dict[Hashable, list[int]], name: str, whole: bool) -> list[int]:
    """Those of this path, else, unless the path must be the whole one, the only one with this name in any folder."""
    path = PurePosixPath(name)
    alone = [] if whole else places.get((path.stem,), [])
    return places.get(str(path.with_suffix("")), alone if len(alone) == 1 else [])
