"""What stands on a page, before it is HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.reporting.gallery import PhotoSource, Wall
from captum_canonical.reporting.pictures import Panel, RegionNames
from captum_canonical.reporting.words import Facts
from captum_canonical.tables import Table


@dataclass(frozen=True)
class ComparisonView:
    """Two groups: the verdict of the test in words, their difference, and regions."""

    title: str
    verdict: str
    panels: Sequence[Panel] = ()
    table: Table | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Tab:
    """The strata of one column, and comparisons of them."""

    title: str
    texts: Sequence[str] = ()
    reasons: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    comparisons: Sequence[ComparisonView] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading; what is empty is not there.

    Attributes:
        key: of links to it.
        title: heading.
        texts: paragraphs.
        points: a list.
        reasons: why something is not shown.
        head: what the face in three dimensions is called for those who do not see it; None without it.
        panels: maps; the first is shown beside the face in three dimensions.
        tabs, tables, wall: as they are called.
        wall_groups: of the photographs of the wall.
        details, details_title: a table that is opened on demand.
    """

    key: str
    title: str
    texts: Sequence[str] = ()
    points: Sequence[str] = ()
    reasons: Sequence[str] = ()
    head: str | None = None
    panels: Sequence[Panel] = ()
    tabs: Sequence[Tab] = ()
    tables: Sequence[Table] = ()
    wall: Wall | None = None
    wall_groups: Sequence[str] = ()
    details: Table | None = None
    details_title: str = ""


@dataclass(frozen=True)
class Page:
    """All of it.

    Attributes:
        kind: of result, in a few words.
        title, subtitle: at the top.
        made: when the page was made.
        sections: in order.
        notices: what is missing, in words.
        drawing: source of the face's image, or None.
        regions: of the face, or None.
        mesh: of the face in three dimensions, or None.
    """

    kind: str
    title: str
    subtitle: str
    made: str
    sections: Sequence[Section]
    notices: Sequence[str] = ()
    drawing: str | None = None
    regions: RegionNames | None = None
    mesh: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Options:
    """The arguments of :func:`report` of these names."""

    title: str | None
    unit: str
    photos: PhotoSource
    wall: int
    head: bool
    strata: Sequence[str] | None
    comparisons: Sequence[GroupComparison]
    benchmark: BenchmarkResult | None


def facts_table(title: str, facts: Facts) -> Table:
    """Two columns: what, and its value."""
    return Table.of_cells(("What", "Value"), facts, title=title, sortable=False)
