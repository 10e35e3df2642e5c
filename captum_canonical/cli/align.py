"""``captum-canonical align``: finds the faces in photographs; and the photographs and aligner that options name."""

from __future__ import annotations

import inspect
import time
from argparse import Namespace, _SubParsersAction
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_canonical.adapters.aligner import Aligner, CallableAligner, make_aligner
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.cli.console import CommandResult, count, escape, first_lines, format_duration
from captum_canonical.cli.networks import call_factory, load_plugin
from captum_canonical.cli.options import add_common, add_photos, examples
from captum_canonical.cli.settings import NetworkSettings
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.fingerprint import file_digest
from captum_canonical.plugins import ALIGNERS
from captum_canonical.tables import Column, Table, csv_text


def load_photographs(
    arguments: Namespace, settings: NetworkSettings, rows: Sequence[PhotoRow] | None = None
) -> AlignedFaces:
    """The data set of ``--images`` and ``--csv``, or of some of its rows; faces are not searched yet.

    Raises:
        CanonicalError: there are no photographs, or an option is wrong.
    """
    if rows is not None:
        return AlignedFaces(rows, aligner_of(arguments), **settings.preprocessing, cache=arguments.cache)
    source, root = _source_and_root(arguments)
    return AlignedFaces(
        source,
        aligner_of(arguments),
        **settings.preprocessing,
        cache=arguments.cache,
        classes=settings.classes,
        columns=arguments.columns,
        root=root,
        subfolder=arguments.subfolder,
    )


def _source_and_root(arguments: Namespace) -> tuple[str, str | None]:
    """The photographs, and the folder that relative paths start at, or None for the table's own."""
    images, table = arguments.images, arguments.csv
    if images is None and table is None:
        raise CanonicalError("--images: expected a folder of photographs, a .csv file or a photograph; give one.")
    if table is not None:
        if images is not None and not Path(images).is_dir():
            raise CanonicalError(f"--images {images}: expected the folder that the paths in --csv start at.")
        return table, images
    if not Path(images).exists():
        raise CanonicalError(
            f"--images {images}: expected a folder of photographs, a .csv file or a photograph, but there is no such "
            "folder or file."
        )
    return images, None


def aligner_of(arguments: Namespace) -> Aligner:
    """The aligner of ``--aligner``.

    Raises:
        CanonicalError: there is no such aligner, or it cannot be made without arguments.
    """
    options = {
        "on_missing": "skip",
        "device": arguments.device,
        "model_asset_path": arguments.face_landmarker,
        "aligner": FaceMeshAligner(on_missing="skip", device=arguments.device),  # whose points others align by
    }
    source = load_plugin(arguments.aligner, ALIGNERS, "--aligner")
    given = {name: value for name, value in options.items() if value is not None}
    made = call_factory(make_aligner, f"--aligner {arguments.aligner}", {"source": source, "options": given})
    if isinstance(made, CallableAligner) and made.function is source and inspect.isfunction(source):
        # A function has no settings that could be compared, but all of it is in a file.
        file = Path(inspect.getfile(source))
        made.key = f"{source.__module__}.{source.__qualname__} {file_digest(file) if file.is_file() else ''}"
    return made


def alignment_counts(data: AlignedFaces) -> dict[str, Any]:
    """Counts of photographs by group, and the photographs that are left out with the reasons."""
    counts = {
        group: {
            "found": count.found,
            "no_face": count.no_face,
            "not_aligned": count.not_aligned,
            "unreadable": count.unreadable,
        }
        for group, count in data.counts().items()
    }
    left_out = [
        {"name": data.rows[place].name, "group": data.rows[place].group, "kind": left.kind, "reason": left.reason}
        for place, left in sorted(data.left_out.items())
    ]
    return {
        "photographs": len(data.rows),
        "found": len(data),
        "groups": counts,
        "left_out": left_out,
        "duplicates": {data.rows[place].name: data.rows[first].name for place, first in data.duplicates.items()},
    }


_GROUP_COLUMNS: tuple[Column[tuple[str | None, dict[str, int]]], ...] = (
    Column("group", value=lambda item: "(none)" if item[0] is None else escape(item[0])),
    Column("found", value=lambda item: item[1]["found"], align="right"),
    Column("no face", value=lambda item: item[1]["no_face"], align="right"),
    Column("not aligned", value=lambda item: item[1]["not_aligned"], align="right"),
    Column("unreadable", value=lambda item: item[1]["unreadable"], align="right"),
)


def alignment_text(values: Mapping[str, Any], limit: int = 10) -> str:
    """The counts for people: a table by group if there are groups, and the first photographs that are left out."""
    lines = [f"faces found in {values['found']} of {values['photographs']} photographs"]
    if set(values["groups"]) != {None}:
        lines.append(Table(_GROUP_COLUMNS, list(values["groups"].items())).text())
    left_out = [f"left out: {escape(each['name'])}: {escape(each['reason'])}" for each in values["left_out"]]
    lines += first_lines(left_out, limit, "more, all of them with --json")
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
            "captum-canonical align --csv people.csv --cache meshes --left-out left_out.csv --json",
        ),
    )
    add_photos(parser)
    parser.add_argument("--left-out", type=Path, metavar="FILE", help="write the photographs left out into a .csv file")
    add_common(parser)
    parser.set_defaults(run=run, interrupted=interrupted, device=None)


def run(arguments: Namespace) -> CommandResult:
    """Finds the faces, and writes the meshes into the cache."""
    if arguments.cache is None:
        raise CanonicalError("--cache: expected a folder for the meshes; give one, such as --cache meshes.")
    start = time.perf_counter()
    data = load_photographs(arguments, NetworkSettings(size=64)).align(not arguments.quiet)
    elapsed = time.perf_counter() - start
    counts = alignment_counts(data)
    if arguments.left_out is not None:
        _write_csv(arguments.left_out, counts["left_out"])
    text = f"{alignment_text(counts)}\nmeshes are in {escape(arguments.cache)} ({format_duration(elapsed)})"
    return CommandResult(text, {**counts, "cache": str(arguments.cache), "seconds": elapsed})


def interrupted(arguments: Namespace) -> str:
    """The message after Ctrl-C."""
    return f"interrupted. The meshes found so far are in {arguments.cache}; the same command goes on from there."


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    names = ["name", "group", "kind", "reason"]
    text = csv_text(names, ([row[name] for name in names] for row in rows))
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
