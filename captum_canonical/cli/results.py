"""The commands that read what others wrote: ``report`` makes a page, ``compare`` compares two runs."""

from __future__ import annotations

from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_canonical.cli.console import CommandResult, escape, format_size
from captum_canonical.cli.option_values import integer_from, names
from captum_canonical.cli.options import add_common, examples
from captum_canonical.errors import CanonicalError
from captum_canonical.files import read_json
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.saliency.moments import WEIGHTS

if TYPE_CHECKING:
    from captum_canonical.saliency.result import ModelSaliency

BENCHMARK_FILE, COMMAND_FILE = "benchmark.json", "command.json"  # in the folders that benchmark and explain write


def open_run(folder: Path) -> tuple[RunFolder, ModelSaliency]:
    """Opens a run folder with at least one explained photograph.

    Raises:
        CanonicalError: it is no run folder, or no photograph is explained.
    """
    from captum_canonical.saliency.result import ModelSaliency

    if folder.is_dir() and not any(folder.iterdir()):
        raise CanonicalError(
            f"{folder}: expected the folder of a run, but it is empty; captum-canonical explain makes one."
        )
    result = ModelSaliency.open(folder)
    assert result.run is not None  # it was opened from one
    if not result.n:
        raise CanonicalError(
            f"{folder}: no photograph is explained in this run yet. {result.run.missing or 'All of them failed.'}"
        )
    return result.run, result


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
        **examples(
            "captum-canonical report run",
            "captum-canonical report run --weights people --out page.html --no-photos",
        ),
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="of explain or benchmark")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the folder)")
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="what counts equally in the mean map, its regions and concentration: photographs (default), or people, "
        "however many photographs there are of each; tests and comparisons count people in either case",
    )
    parser.add_argument(
        "--by",
        type=names,
        action="append",
        metavar="COLUMN,...",
        help="what photographs are sorted by, such as race; several names are crossed, such as gender,race; may be "
        "repeated (default: all columns with few groups)",
    )
    parser.add_argument("--no-photos", action="store_true", help="no photographs on the page, for sharing")
    add_common(parser)
    parser.set_defaults(run=run_report)


def run_report(arguments: Namespace) -> CommandResult:
    """Writes the page of a run or a benchmark."""
    from captum_canonical.benchmarking.result import BenchmarkResult
    from captum_canonical.reporting.report import report
    from captum_canonical.saliency.units import units_of

    folder, page = arguments.folder, arguments.out or arguments.folder / "report.html"
    if folder.is_dir():
        _check_place(page, arguments.out)
    source: BenchmarkResult | ModelSaliency
    lines: list[str] = []
    values: dict[str, Any] = {"missing": ""}
    about: dict[str, Any] = {}
    if (folder / BENCHMARK_FILE).is_file():
        if arguments.weights is not None:
            raise CanonicalError("--weights: of runs of explain only; this is the folder of a benchmark.")
        if arguments.by is not None:
            raise CanonicalError("--by: of runs of explain only; this is the folder of a benchmark.")
        source = BenchmarkResult.from_json(folder / BENCHMARK_FILE)
    else:
        run, result = open_run(folder)
        source = result.weighted(arguments.weights or result.weights)
        values |= {"missing": run.missing, "weights": source.weights}
        if source.weights == "people":
            units = units_of(result.single_maps("people"))
            lines.append(f"people count equally in the mean map: {units.description}. {units.caveat}".strip())
        lines += [f"the run is not finished: {run.missing}"] if run.missing else []
        unit = unit_of_run(folder)
        about |= {} if unit is None else {"unit": unit}
        if arguments.by is not None:
            about["strata"] = [each[0] if len(each) == 1 else tuple(each) for each in arguments.by]
    path = report(source, page, photos=not arguments.no_photos, **about)
    size = path.stat().st_size
    lines.insert(0, f"{escape(path)} ({format_size(size)})")
    return CommandResult("\n".join(lines), {"report": str(path), "bytes": size, **values})


def _check_place(page: Path, chosen: Path | None) -> None:
    """Raises CanonicalError before any work if the page cannot be written there."""
    from captum_canonical.reporting.page import check_place

    try:
        check_place(page)
    except CanonicalError as error:
        if chosen is not None:
            raise
        raise CanonicalError(f"{error} Choose another place with --out, such as --out report.html.") from error


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

    paths = (arguments.first, arguments.second)
    _check_two_folders(*paths)
    runs, (a, b) = zip(*(open_run(path) for path in paths), strict=True)
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


def _check_two_folders(first: Path, second: Path) -> None:
    if first.exists() and second.exists() and first.samefile(second):
        raise CanonicalError(
            f"{first}, {second}: expected two runs, but this is one folder. The groups of photographs of one run are "
            f"compared on its page, captum-canonical report {first}, or in Python by strata() and compare_groups()."
        )


def _side_names(first: Path, second: Path) -> tuple[str, str]:
    """The names of the folders, or their paths if the names are equal."""
    sides = (first.resolve().name, second.resolve().name)
    return sides if sides[0] != sides[1] else (str(first), str(second))


def _comparison_kind(a: ModelSaliency, b: ModelSaliency) -> str:
    """``"models"`` if the two runs share photographs, else ``"groups"``."""
    assert a.photos is not None and b.photos is not None  # of run folders
    return "models" if a.photos.count_shared(b.photos) else "groups"
