"""Photographs and their faces, from the options of a command."""

from __future__ import annotations

import csv
import time
from argparse import Namespace, _SubParsersAction
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_canonical.cli.console import Outcome, seconds, shown
from captum_canonical.cli.methods import NetworkSettings
from captum_canonical.cli.options import add_common, add_photos, examples
from captum_canonical.cli.references import is_reference, load_reference
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.tables import Column, Table


def photographs(
    arguments: Namespace, settings: NetworkSettings, rows: Sequence[PhotoRow] | None = None
) -> AlignedFaces:
    """The data set of ``--images`` and ``--csv``, or of some of its rows; no face has been looked for yet.

    Raises:
        CanonicalError: there are no photographs, or an option does not fit.
    """
    if arguments.images is None and arguments.csv is None:
        raise CanonicalError("--images: expected a folder of photographs, a .csv file or a photograph; give one.")
    source, root = arguments.csv or arguments.images, None
    if rows is not None:
        return AlignedFaces(rows, aligner_of(arguments), **settings.input, cache=arguments.cache)
    if arguments.csv is not None and arguments.images is not None:
        root = arguments.images
        if not Path(root).is_dir():
            raise CanonicalError(f"--images {root}: expected the folder that the paths in --csv start at.")
    try:
        return AlignedFaces(
            source,
            aligner_of(arguments),
            **settings.input,
            cache=arguments.cache,
            classes=settings.classes,
            columns=arguments.columns,
            root=root,
            subfolder=arguments.subfolder,
        )
    except CanonicalError as error:
        raise CanonicalError(_as_option(str(error))) from error


def aligner_of(arguments: Namespace) -> Any:
    """The aligner of ``--aligner``: one of ours by its name, or a Python reference to a factory."""
    from captum_canonical import adapters

    if is_reference(arguments.aligner):
        made = load_reference(arguments.aligner, "--aligner")
        return made() if isinstance(made, type) or not callable(getattr(made, "open", None)) else made
    if arguments.aligner == "mediapipe":
        return adapters.MediaPipeAligner(arguments.face_landmarker, on_missing="skip")
    if arguments.aligner == "face-alignment":
        return adapters.FaceAlignmentAligner(on_missing="skip", device=arguments.device or "cpu")
    raise CanonicalError(
        f"--aligner: expected mediapipe, face-alignment or package.module:factory, got {arguments.aligner!r}."
    )


def account(data: AlignedFaces) -> dict[str, Any]:
    """How many photographs are used, by group, and why the others are not."""
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
    Column("group", value=lambda item: "(none)" if item[0] is None else shown(item[0])),
    Column("found", value=lambda item: item[1]["found"], align="right"),
    Column("no face", value=lambda item: item[1]["no_face"], align="right"),
    Column("not aligned", value=lambda item: item[1]["not_aligned"], align="right"),
    Column("unreadable", value=lambda item: item[1]["unreadable"], align="right"),
)


def account_text(values: Mapping[str, Any], limit: int = 10) -> str:
    """The account for people: a table by group where there are groups, and the first photographs left out."""
    lines = [f"faces found in {values['found']} of {values['photographs']} photographs"]
    if set(values["groups"]) != {None}:
        lines += [Table(_GROUP_COLUMNS, list(values["groups"].items())).text()]
    left = values["left_out"]
    lines += [f"left out: {shown(each['name'])}: {shown(each['reason'])}" for each in left[:limit]]
    lines += [f"and {len(left) - limit} more, all of them with --json"] if len(left) > limit else []
    if values["duplicates"]:
        lines.append(f"{len(values['duplicates'])} photographs are copies of others; they are used like all others")
    return "\n".join(lines)


_OPTIONS = {"columns={'path': ...}": "--columns path=NAME", "classes=[...]": "--classes", "subfolder:": "--subfolder:"}


def _as_option(message: str) -> str:
    """A message of the library in the words of the command line."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


def add(commands: _SubParsersAction[Any]) -> None:
    """The command's parser."""
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


def run(arguments: Namespace) -> Outcome:
    """Aligns."""
    if arguments.cache is None:
        raise CanonicalError("--cache: expected a folder for the meshes; give one, such as --cache meshes.")
    start = time.perf_counter()
    data = photographs(arguments, NetworkSettings(size=64)).align(not arguments.quiet)
    took = time.perf_counter() - start
    told = account(data)
    if arguments.left_out is not None:
        _write(arguments.left_out, told["left_out"])
    text = f"{account_text(told)}\nmeshes are in {shown(arguments.cache)} ({seconds(took)})"
    return Outcome(text, {**told, "cache": str(arguments.cache), "seconds": took})


def interrupted(arguments: Namespace) -> str:
    """How to go on after Ctrl-C."""
    return f"interrupted. The meshes found so far are in {arguments.cache}; the same command goes on from there."


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, ["name", "group", "kind", "reason"])
        writer.writeheader()
        writer.writerows(rows)
