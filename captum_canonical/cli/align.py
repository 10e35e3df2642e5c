"""``captum-canonical align``: finds the faces in photographs, and gives an account of them."""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from captum_canonical.cli.console import CommandResult, count, escape, first_lines, format_duration
from captum_canonical.cli.options import add_common, add_photos, examples
from captum_canonical.cli.photographs import load_photographs
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.records import group_columns
from captum_canonical.errors import CanonicalError
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.tables import Column, Table, csv_text

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def alignment_counts(data: AlignedFaces) -> dict[str, Any]:
    """Counts of photographs by group, and the photographs and other files that are left out with the reasons."""
    left_out = [
        {"name": data.rows[place].name, "group": data.rows[place].group, "kind": left.kind, "reason": left.reason}
        for place, left in sorted(data.left_out.items())
    ]
    columns = {name: _counts_by(data, name) for name in group_columns(data.rows)}
    unused = [{"name": str(each.path), "kind": each.kind, "reason": each.reason} for each in data.unused]
    return {
        "photographs": len(data.rows),
        "found": len(data),
        "groups": _counts_by(data, "group"),
        "group_columns": columns,
        "left_out": left_out,
        "unused": unused,
        "duplicates": {data.rows[place].name: data.rows[first].name for place, first in data.duplicates.items()},
    }


def _counts_by(data: AlignedFaces, column: str) -> dict[Any, dict[str, int]]:
    return {group: {name: getattr(count, name) for name in _COUNTS} for group, count in data.counts(column).items()}


_COUNTS = ("found", "no_face", "not_aligned", "unreadable", "low_quality", "several_faces")
_GROUP_COLUMNS: tuple[Column[tuple[str | None, dict[str, int]]], ...] = (
    Column("group", value=lambda item: "(none)" if item[0] is None else escape(item[0])),
    Column("found", value=lambda item: item[1]["found"], align="right"),
    Column("no face", value=lambda item: item[1]["no_face"], align="right"),
    Column("not aligned", value=lambda item: item[1]["not_aligned"], align="right"),
    Column("unreadable", value=lambda item: item[1]["unreadable"], align="right"),
)
_RARE_COLUMNS: dict[str, Column[tuple[str | None, dict[str, int]]]] = {
    "low_quality": Column("low quality", value=lambda item: item[1]["low_quality"], align="right"),
    "several_faces": Column("several faces", value=lambda item: item[1]["several_faces"], align="right"),
}


def alignment_text(values: Mapping[str, Any], limit: int = 10) -> str:
    """The counts for people: a table for each column of groups, and the first photographs and files left out."""
    lines = [f"faces found in {values['found']} of {values['photographs']} photographs"]
    tables = values["group_columns"] or ({"group": values["groups"]} if set(values["groups"]) != {None} else {})
    for name, groups in tables.items():
        rare = [each for name, each in _RARE_COLUMNS.items() if any(counts[name] for counts in groups.values())]
        columns = (replace(_GROUP_COLUMNS[0], heading=escape(name)), *_GROUP_COLUMNS[1:], *rare)
        lines.append(Table(columns, list(groups.items())).text())
    left_out = [f"left out: {escape(each['name'])}: {escape(each['reason'])}" for each in values["left_out"]]
    lines += first_lines(left_out, limit, "more, all of them with --json")
    if values["unused"]:
        kinds = Counter(each["kind"] for each in values["unused"])
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        lines.append(f"{count(len(values['unused']), 'file or line', 'files or lines')} not used: {listed}")
        unused = [f"not used: {escape(each['name'])}: {escape(each['reason'])}" for each in values["unused"]]
        lines += first_lines(unused, limit, "more, all of them with --json")
    several = sum(counts["several_faces"] for counts in values["groups"].values())
    if several:
        lines.append(f"{count(several, 'photograph holds', 'photographs hold')} several faces, of which one was chosen")
    if values["duplicates"]:
        copies = count(len(values["duplicates"]), "photograph is a copy", "photographs are copies")
        lines.append(f"{copies} of others, and used like all others")
    return "\n".join(lines)


def add_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``align``."""
    parser = commands.add_parser(
        "align",
        help="find the faces and keep their meshes; say what is left out",
        description="Finds the face in each photograph and keeps the meshes in --cache, where other commands find them "
        "whatever the network's input. Photographs without a usable face are listed with the reason, by group.",
        **examples(
            "captum-canonical align --images photos --cache meshes",
            "captum-canonical align --labels people.csv --cache meshes --left-out left_out.csv --json",
            "captum-canonical align --images photos --cache meshes --sheet doubtful.png",
        ),
    )
    add_photos(parser)
    parser.add_argument("--left-out", type=Path, metavar="FILE", help="write the photographs left out into a .csv file")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="draw the most doubtful faces and photographs that are left out, as .png, .jpg, .pdf or .svg",
    )
    add_common(parser)
    parser.set_defaults(run=run, interrupted=interrupted, device=None)


def run(arguments: Namespace) -> CommandResult:
    """Finds the faces, and writes the meshes into the cache."""
    if arguments.cache is None:
        raise CanonicalError("--cache: expected a folder for the meshes; give one, such as --cache meshes.")
    sheet = arguments.sheet
    if sheet is not None and sheet.suffix.lower() not in PICTURES:
        raise CanonicalError(f"--sheet {sheet}: expected a file that ends in {', '.join(PICTURES)}.")
    for option, path in (("--sheet", sheet), ("--left-out", arguments.left_out)):
        if path is not None and not path.parent.is_dir():
            raise CanonicalError(f"{option} {path}: expected a file in a folder that exists; make {path.parent} first.")
    start = time.perf_counter()
    data = load_photographs(arguments, NetworkSettings(size=64)).align(not arguments.quiet)
    elapsed = time.perf_counter() - start
    counts = alignment_counts(data)
    if arguments.left_out is not None:
        _write_csv(arguments.left_out, [*counts["left_out"], *({"group": None, **each} for each in counts["unused"])])
    lines = [alignment_text(counts), f"meshes are in {escape(arguments.cache)} ({format_duration(elapsed)})"]
    if sheet is not None:
        from captum_canonical.visualization.contact_sheet import contact_sheet  # loads matplotlib

        contact_sheet(data).savefig(sheet)
        lines.append(f"look at the doubtful ones: {escape(sheet)}")
    values = {
        **counts,
        "cache": str(arguments.cache),
        "seconds": elapsed,
        "sheet": None if sheet is None else str(sheet),
    }
    return CommandResult("\n".join(lines), values)


def interrupted(arguments: Namespace) -> str:
    """The message after Ctrl-C."""
    return f"interrupted. The meshes found so far are in {arguments.cache}; the same command goes on from there."


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    names = ["name", "group", "kind", "reason"]
    text = csv_text(names, ([row[name] for name in names] for row in rows))
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
