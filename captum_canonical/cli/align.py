"""``captum-canonical align``: faces found once and kept, with an account of what is left out."""

from __future__ import annotations

import csv
import time
from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

from captum_canonical.cli.console import Outcome, seconds, shown
from captum_canonical.cli.data import account, account_text, photographs
from captum_canonical.cli.options import add_common, add_photos, examples
from captum_canonical.cli.settings import NetworkSettings
from captum_canonical.errors import CanonicalError


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
