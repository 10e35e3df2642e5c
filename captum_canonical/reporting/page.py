"""What a page consists of: sections of texts, maps, tables, tabs and a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captum_canonical.reporting.pictures import Panel, RegionNames, Scale
from captum_canonical.tables import Table


@dataclass(frozen=True)
class ComparisonView:
    """A comparison of two groups: the verdict of its test, maps of the difference, and regions."""

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
class Tile:
    """One photograph with its map.

    Attributes:
        name: of the photograph.
        group: of the photograph, or "".
        facts: (name, value) pairs about it.
        photo: source of the image, or None.
        missing: why there is no photograph.
        panel: its map.
    """

    name: str
    group: str
    facts: list[tuple[str, str]]
    photo: str | None
    missing: str
    panel: Panel


@dataclass(frozen=True)
class Gallery:
    """Photographs beside their maps, which share one scale; ``note`` says which photographs these are."""

    tiles: list[Tile]
    scale: Scale
    note: str

    @property
    def groups(self) -> list[str]:
        """Names of the groups that the photographs belong to."""
        return sorted({tile.group for tile in self.tiles if tile.group})


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading. Empty attributes leave no trace on the page.

    Attributes:
        key: target of links to the section.
        title: heading.
        texts: paragraphs.
        points: items of a list.
        reasons: why something is not shown.
        view_3d: description of the face in three dimensions, for screen readers; None for no such view.
        panels: maps; the first one stands beside the face in three dimensions.
        tabs, tables, gallery: what else the section shows.
        details, details_title: a table that readers open on demand.
    """

    key: str
    title: str
    texts: Sequence[str] = ()
    points: Sequence[str] = ()
    reasons: Sequence[str] = ()
    view_3d: str | None = None
    panels: Sequence[Panel] = ()
    tabs: Sequence[Tab] = ()
    tables: Sequence[Table] = ()
    gallery: Gallery | None = None
    details: Table | None = None
    details_title: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        kind: what the page reports, in a few words.
        title, subtitle: at the top.
        made: when the page was made.
        sections: in order.
        notices: sentences about what is missing.
        drawing: source of the canonical face's image, or None.
        regions: of the canonical face, or None.
        mesh: the canonical face in three dimensions, or None.
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
