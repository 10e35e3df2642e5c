"""``captum-canonical compare``: two run folders, two groups of photographs or two networks."""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

import captum_canonical as cc
from captum_canonical.cli.console import Outcome, shown
from captum_canonical.cli.options import add_common, at_least, examples, names
from captum_canonical.cli.report import opened, unit_of
from captum_canonical.errors import CanonicalError


def add(commands: _SubParsersAction[Any]) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "compare",
        help="two run folders: the difference of their maps, with corrected tests",
        description="Compares two run folders: photograph by photograph if both explain the same photographs (two "
        "networks, two methods), else as two groups of photographs.",
        **examples(
            "captum-canonical compare run_of_net_a run_of_net_b",
            "captum-canonical compare women men --as groups --match pose,confidence --json",
        ),
    )
    parser.add_argument("first", type=Path, metavar="A", help="run folder")
    parser.add_argument("second", type=Path, metavar="B", help="run folder")
    parser.add_argument(
        "--as", dest="kind", choices=["auto", "models", "groups"], default="auto", help="default: by the photographs"
    )
    parser.add_argument("--match", type=names, metavar="WHAT,...", help="groups only: pose, confidence or both")
    parser.add_argument("--permutations", type=at_least(1), default=10_000, help="of the tests (default 10000)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the permutations (default 0)")
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> Outcome:
    """Compares."""
    folders = [opened(path) for path in (arguments.first, arguments.second)]
    a, b = (cc.ModelSaliency.open(path) for path in (arguments.first, arguments.second))
    kind = _kind(a, b) if arguments.kind == "auto" else arguments.kind
    if arguments.match and kind != "groups":
        raise CanonicalError("--match: of two groups only; these are two networks on the same photographs.")
    options: dict[str, Any] = {"permutations": arguments.permutations, "seed": arguments.seed}
    options["names"] = _names(arguments.first, arguments.second)
    if kind == "models":
        found = cc.compare_models(a, b, **options)
    else:
        found = cc.compare_groups(a, b, match=tuple(arguments.match) if arguments.match else None, **options)
    notes = [f"{shown(each.path)}: {each.missing}" for each in folders if each.missing]
    units = [unit_of(path) for path in (arguments.first, arguments.second)]
    if None not in units and units[0] != units[1]:
        notes.append(f"The maps have different units, {units[0]} and {units[1]}: means cannot be compared, shares can.")
    values = found.as_json()
    notes += values["notes"]
    what = "the same photographs, two explanations" if kind == "models" else "two groups of photographs"
    text = "\n".join([f"compared as {what}", shown(found.verdict), *(shown(note) for note in notes)])
    return Outcome(text, {"kind": kind, **values, "notes": notes})


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Of the folders; whole paths where these are the same."""
    names = (first.resolve().name, second.resolve().name)
    return names if names[0] != names[1] else (str(first), str(second))


def _kind(a: cc.ModelSaliency, b: cc.ModelSaliency) -> str:
    """Photographs that both explain are compared with themselves; groups have none in common."""
    assert a.photos is not None and b.photos is not None  # of run folders
    return "models" if a.photos.count_shared(b.photos) else "groups"
