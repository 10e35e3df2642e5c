"""``captum-canonical report``: a run folder or a benchmark to one HTML page."""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

import captum_canonical as cc
from captum_canonical.cli.console import Outcome, shown
from captum_canonical.cli.options import add_common, examples
from captum_canonical.errors import CanonicalError
from captum_canonical.files import read_json
from captum_canonical.run_folder.folder import RunFolder

BENCHMARK, COMMAND = "benchmark.json", "command.json"  # in the folders of the commands of these names


def add(commands: _SubParsersAction[Any]) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "report",
        help="a run folder or a benchmark to one HTML page",
        description="Writes one self-contained page that opens without a network. It computes nothing; an unfinished "
        "run is shown as far as it goes.",
        **examples("captum-canonical report run", "captum-canonical report run --out page.html --no-photos"),
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="of explain or benchmark")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the folder)")
    parser.add_argument("--no-photos", action="store_true", help="no photographs on the page, for sharing")
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> Outcome:
    """Writes the page."""
    source: Any = arguments.folder
    missing, about = "", {}
    if (arguments.folder / BENCHMARK).is_file():
        source = cc.BenchmarkResult.from_json(arguments.folder / BENCHMARK)
    else:
        found = opened(arguments.folder)
        missing = found.missing
        unit = unit_of(arguments.folder)
        about = {} if unit is None else {"unit": unit}
    path = cc.report(source, arguments.out or arguments.folder / "report.html", photos=not arguments.no_photos, **about)
    size = path.stat().st_size
    lines = [f"{shown(path)} ({size / 1e6:.1f} MB)"] + ([f"the run is not finished: {missing}"] if missing else [])
    return Outcome("\n".join(lines), {"report": str(path), "bytes": size, "missing": missing})


def unit_of(folder: Path) -> str | None:
    """The unit of a run's maps, if the command made the run."""
    unit = (read_json(folder / COMMAND) or {}).get("unit")
    return unit if isinstance(unit, str) else None


def opened(folder: Path) -> RunFolder:
    """A run folder with at least one photograph.

    Raises:
        CanonicalError: it is none, or empty.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        raise CanonicalError(
            f"{folder}: expected the folder of a run, but it is empty; captum-canonical explain makes one."
        )
    found = RunFolder.open(folder)
    if not found.n:
        raise CanonicalError(
            f"{folder}: no photograph is explained in this run yet. {found.missing or 'All of them failed.'}"
        )
    return found
