"""The Markdown page with all figures, and the record of each."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import captum_canonical as cc
from captum_canonical.tables import Table
from studies.paper.study import Results

PACKAGES = ("torch", "captum", "numpy", "torchmetrics", "matplotlib")


@dataclass(frozen=True)
class Figure:
    """What the page says of a figure.

    Attributes:
        title: what it shows.
        text: numbers, settings, and what to make of them.
        n: number of photographs.
        table: Markdown, or nothing.
        missing: why there is no picture, or nothing.
        more: names of further pictures, which lie beside the first.
        seconds: it took.
    """

    title: str
    text: str
    n: int
    table: str = ""
    missing: str = ""
    seconds: float = 0.0
    more: tuple[str, ...] = ()


def table(rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first row is its head."""
    return Table.of_cells([str(cell) for cell in rows[0]], rows[1:]).markdown()


def save(figure: Figure, path: Path) -> None:
    """Writes a record; the file's presence says that the figure is done."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(figure), indent=1), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> Figure:
    """A record that was written."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return Figure(**{**record, "more": tuple(record["more"])})


def write_page(results: Results, figures: Mapping[str, str]) -> Path:
    """The page of all figures that are done; ``figures`` are names of files, in order, and their headings."""
    parts = [
        "# Canonical Saliency Maps: the paper's figures on these photographs and networks",
        "",
        f"Photographs: {len(results.faces)} with a face, of `{results.images.name}`. Made with `{results.command}`.",
        "",
        "Red speaks for the network's answer, blue against it. What is explained is the answer for the unchanged "
        "photograph. Intervals are 95 %. The networks are small public ones, not those of the paper: figures show that "
        "the experiments run, and what they give here, not the paper's numbers.",
        "",
    ]
    for name, heading in figures.items():
        record = results.out / f"{name}.json"
        if not record.exists():
            parts += [f"## {heading}", "", "Not computed in this run.", ""]
            continue
        parts += _section(name, heading, read(record), results.out)
    parts += ["## Settings and versions", "", table([("setting", "value"), *facts(results)]), ""]
    path = results.out / "study.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def write_alone(results: Results, figure: Figure, name: str, heading: str) -> None:
    """A figure's text and tables as a page that shows nobody."""
    parts = [
        f"# {heading}",
        "",
        f"Written by `{results.command}`, which leaves this file beside its other results. Networks and photographs "
        "are not those of the paper.",
        "",
        figure.text,
        "",
        figure.table.replace("### ", "## "),
        "",
        "## Settings and versions",
        "",
        table([("setting", "value"), *facts(results)]),
        "",
    ]
    (results.out / name).write_text("\n".join(parts), encoding="utf-8")


def _section(name: str, heading: str, figure: Figure, out: Path) -> list[str]:
    lines = [f"## {heading}: {figure.title}", ""]
    if figure.missing:
        lines += [f"**Not enough data.** {figure.missing}", ""]
    if (out / f"{name}.png").exists():
        lines += [f"![{heading}: {figure.title}]({picture})" for picture in (f"{name}.png", *figure.more)] + [""]
    lines += [f"n = {figure.n}. {figure.text}".strip(), ""]
    return lines + ([figure.table, ""] if figure.table else []) + [f"({figure.seconds:.0f} s)", ""]


def facts(results: Results) -> list[tuple[str, Any]]:
    """Settings and versions, for a table."""
    settings = [(name, value) for name, value in asdict(results.settings).items()]
    versions = [(name, metadata.version(name)) for name in PACKAGES]
    return [*settings, ("captum_canonical", cc.__version__), ("python", platform.python_version()), *versions]
