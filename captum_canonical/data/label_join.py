"""Several label tables as one: further columns of the same photographs or people, and further photographs."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from captum_canonical.data.label_files import Lazy, RawTable
from captum_canonical.data.label_formats import LabelColumn, Labels
from captum_canonical.data.photo_list import ABSENT, LeftOut
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.statistics.labels import label_of

NOTHING, DIFFERENT = (None, None), (None, None, "two tables differ")  # labels: a value and a target


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
        self.parts: list[tuple[Labels, list[list[int]]]] = [(base, [[place] for place in range(len(base.names))])]
        self.unused = list(base.unused)
        self.name, self.listed = raw.name, raw.listed

    def add(self, table: Labels, raw: RawTable) -> None:
        """Finds the photographs of each line of a further table."""
        more = not table.people and not self.listed and set(table.columns) == set(self.parts[0][0].columns)
        places = self._people() if table.people else _by_name(self.names)
        matches, absent = [], []
        for name, origin in zip(table.names, table.origins, strict=True):
            found = places.get(label_of(name), []) if table.people else _find(places, name, whole=more)
            if not found and more:
                found = [len(self.names)]
                self.names.append(name)
                self.origins.append(origin)
            elif not found:
                reason = f"{origin}: not among the photographs of {self.name}, or the name of several of them."
                absent.append(LeftOut(raw.folder / name, reason, ABSENT))
            matches.append(found)
        self.parts.append((table, matches))
        self.unused += [*table.unused, *absent]
        if absent:
            text = f"{Path(raw.name).name}: {len(absent)} lines are about other photographs."
            warnings.warn(text, stacklevel=user_stacklevel())

    def _people(self) -> dict[Hashable, list[int]]:
        if not any("identity" in table.columns for table, _ in self.parts):
            raise CanonicalError(f"{self.name}: expected a column identity, by which a list of people can be joined.")
        places: dict[Hashable, list[int]] = {}
        for place, person in enumerate(self.column("identity").values):
            places.setdefault(label_of(person), []).append(place)
        return places

    def column(self, name: str) -> LabelColumn:
        """A column of all tables that have it; warns where they differ or say nothing."""
        cells: list[tuple[Any, ...]] = [NOTHING] * len(self.names)
        having = [(table.columns[name], matches) for table, matches in self.parts if name in table.columns]
        for column, matches in having:
            targets = column.values if column.targets is None else column.targets
            for value, target, places in zip(column.values, targets, matches, strict=True):
                for place in places if (value, target) != NOTHING else ():
                    before = cells[place]
                    same = before == NOTHING or label_of(before[0]) == label_of(value)
                    cells[place] = (value, target) if same else DIFFERENT
        _warn(name, cells, name in self.parts[0][0].columns)
        return LabelColumn([cell[0] for cell in cells], [cell[1] for cell in cells], having[0][0].classes)

    def result(self) -> Labels:
        """All tables as one."""
        names = dict.fromkeys(name for table, _ in self.parts for name in table.columns)
        return Labels(self.names, self.origins, Lazy(names, self.column), unused=self.unused)


def _warn(name: str, cells: Sequence[tuple[Any, ...]], of_base: bool) -> None:
    without, different = 0 if of_base else cells.count(NOTHING), cells.count(DIFFERENT)
    messages = [f"nothing is said of {without} of {len(cells)} photographs"] if without else []
    messages += [f"tables differ on {different} photographs, of which none is known now"] if different else []
    if messages:
        warnings.warn(f"{name}: {'; '.join(messages)}.", stacklevel=user_stacklevel())


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
