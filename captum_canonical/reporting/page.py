"""A page: its sections of texts, maps, tables, tabs and a gallery, and its HTML, one file that requests nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.files import write_file
from captum_canonical.reporting.display import Panel, RegionNames, Scale
from captum_canonical.tables import Table
from captum_canonical.visualization.drawing import LEVELS, palette


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
        notices: sentences about what is missing, or to keep in mind.
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


def plotly_script() -> str:
    """The source of plotly.js, which draws and turns the face in three dimensions.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError(
            "report: the face in three dimensions needs plotly, which is not installed: pip install "
            "'captum-canonical[report]', or leave it out with view_3d=False."
        ) from error
    return str(get_plotlyjs())


def render(page: Page) -> str:
    """The page as HTML.

    Every text is escaped where it is inserted, and the page's content security policy forbids all requests and all
    scripts but its own: the name of a file can do no harm.

    Raises:
        MissingDependencyError: the page has a face in three dimensions and plotly is not installed.
    """
    import captum_canonical

    folder = resources.files("captum_canonical.reporting") / "templates"
    script = (folder / "page.js").read_text("utf-8")
    plotly = plotly_script() if page.mesh is not None else ""
    environment = Environment(
        loader=PackageLoader("captum_canonical.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["to_json"] = to_json
    return environment.get_template("page.html").render(
        page=page,
        version=captum_canonical.__version__,
        policy=_policy([script] + ([plotly] if plotly else [])),
        css=Markup((folder / "page.css").read_text("utf-8")),  # our own files and plotly's, no input
        data=Markup(to_json(_data(page))),  # to_json leaves nothing that ends a script
        plotly=Markup(plotly),
        script=Markup(script),
    )


def to_json(value: Any) -> str:
    r"""JSON that is safe inside a ``<script>`` of a page, whatever texts it holds.

    Example::

        >>> to_json({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _data(page: Page) -> dict[str, Any]:
    regions = None if page.regions is None else {"names": list(page.regions.names), "source": page.regions.source}
    palettes = {kind: palette(kind).tolist() for kind in ("diverging", "error", "count")}
    return {
        "levels": LEVELS,
        "palettes": palettes,
        "regions": regions,
        "drawing": page.drawing,
        "mesh": page.mesh,
    }


def _policy(scripts: list[str]) -> str:
    # plotly.js compiles functions from texts of its own, hence 'unsafe-eval'.
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    rules = ["default-src 'none'", f"script-src {allowed} 'unsafe-eval'", "style-src 'unsafe-inline'"]
    return "; ".join([*rules, "img-src data: blob:", "base-uri 'none'", "form-action 'none'"])


def check_place(path: Path) -> None:
    """Raises CanonicalError unless a page can be written there: before the work, not after it."""
    if path.is_dir() or not path.parent.is_dir():
        raise CanonicalError(f"{path}: expected the name of a file in a folder that exists, such as report.html.")
    if path.exists() and not path.is_file():
        return  # a device or a pipe
    try:
        with TemporaryFile(dir=Path(os.path.realpath(path)).parent):
            pass
    except OSError as error:
        raise CanonicalError(f"{path}: expected a place for the page, but it cannot be written ({error}).") from error


def write_page(text: str, path: Path) -> None:
    """Writes the page completely, or leaves the file as it was.

    Raises:
        CanonicalError: it cannot be written.
    """
    try:
        # Names of files need not be UTF-8: Python keeps such bytes as surrogates, which become escapes here.
        write_file(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise CanonicalError(f"{path}: expected a place for the page, but it cannot be written ({error}).") from error
