"""The commands that read what others wrote: ``report`` makes a page, ``compare`` compares two runs."""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_canonical.cli.console import CommandResult, escape, format_size
from captum_canonical.cli.options import add_common, examples, integer_from, names
from captum_canonical.errors import CanonicalError
from captum_canonical.files import read_json
from captum_canonical.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from captum_canonical.saliency.result import ModelSaliency

BENCHMARK_FILE, COMMAND_FILE = "benchmark.json", "command.json"  # in the folders that benchmark and explain write


def open_run(folder: Path) -> RunFolder:
    """Opens a run folder with at least one explained photograph.

    Raises:
        CanonicalError: it is no run folder, or no photograph is explained.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        raise CanonicalError(
            f"{folder}: expected the folder of a run, but it is empty; captum-canonical explain makes one."
        )
    run = RunFolder.open(folder)
    if not run.n:
        raise CanonicalError(
            f"{folder}: no photograph is explained in this run yet. {run.missing or 'All of them failed.'}"
        )
    return run


def unit_of_run(folder: Path) -> str | None:
    """The unit of a run's maps; None for runs that the command line did not make."""
    unit = (read_json(folder / COMMAND_FILE) or {}).get("unit")
    return unit if isinstance(unit, str) else None


# ----------------------------------------------------------------------------------------------------------- report
def add_report_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``report``."""
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
    parser.set_defaults(run=run_report)


def run_report(arguments: Namespace) -> CommandResult:
    """Writes the page of a run or a benchmark."""
    from captum_canonical.benchmarking.result import BenchmarkResult
    from captum_canonical.reporting.report import report

    folder, missing, unit = arguments.folder, "", None
    source: Any = folder
    if (folder / BENCHMARK_FILE).is_file():
        source = BenchmarkResult.from_json(folder / BENCHMARK_FILE)
    else:
        missing, unit = open_run(folder).missing, unit_of_run(folder)
    about: dict[str, Any] = {} if unit is None else {"unit": unit}
    path = report(source, arguments.out or folder / "report.html", photos=not arguments.no_photos, **about)
    size = path.stat().st_size
    lines = [f"{escape(path)} ({format_size(size)})"] + ([f"the run is not finished: {missing}"] if missing else [])
    return CommandResult("\n".join(lines), {"report": str(path), "bytes": size, "missing": missing})


# ---------------------------------------------------------------------------------------------------------- compare
def add_compare_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``compare``."""
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
    parser.add_argument("--permutations", type=integer_from(1), default=10_000, help="of the tests (default 10000)")
    parser.add_argument("--seed", type=integer_from(0), default=0, help="of the permutations (default 0)")
    add_common(parser)
    parser.set_defaults(run=run_compare)


def run_compare(arguments: Namespace) -> CommandResult:
    """Compares two runs, as two models or as two groups."""
    from captum_canonical.comparisons.groups import compare_groups
    from captum_canonical.comparisons.models import compare_models
    from captum_canonical.saliency.result import ModelSaliency

    paths = (arguments.first, arguments.second)
    runs = [open_run(path) for path in paths]
    a, b = (ModelSaliency.open(path) for path in paths)
    kind = _comparison_kind(a, b) if arguments.kind == "auto" else arguments.kind
    if arguments.match and kind != "groups":
        raise CanonicalError("--match: of two groups only; these are two networks on the same photographs.")
    options: dict[str, Any] = {"permutations": arguments.permutations, "seed": arguments.seed}
    options["names"] = _side_names(*paths)
    if kind == "models":
        comparison = compare_models(a, b, **options)
    else:
        comparison = compare_groups(a, b, match=tuple(arguments.match) if arguments.match else None, **options)
    notes = [f"{escape(run.path)}: {run.missing}" for run in runs if run.missing]
    units = [unit_of_run(path) for path in paths]
    if None not in units and units[0] != units[1]:
        notes.append(f"The maps have different units, {units[0]} and {units[1]}: means cannot be compared, shares can.")
    values = comparison.as_json()
    notes += values["notes"]
    what = "the same photographs, two explanations" if kind == "models" else "two groups of photographs"
    text = "\n".join([f"compared as {what}", escape(comparison.verdict), *(escape(note) for note in notes)])
    return CommandResult(text, {"kind": kind, **values, "notes": notes})


def _side_names(first: Path, second: Path) -> tuple[str, str]:
    """The names of the folders, or their paths if the names are equal."""
    sides = (first.resolve().name, second.resolve().name)
    return sides if sides[0] != sides[1] else (str(first), str(second))


def _comparison_kind(a: ModelSaliency, b: ModelSaliency) -> str:
    """``"models"`` if the two runs share photographs, else ``"groups"``."""
    assert a.photos is not None and b.photos is not None  # of run folders
    return "models" if a.photos.count_shared(b.photos) else "groups"
