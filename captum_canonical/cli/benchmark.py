"""``captum-canonical benchmark``: the faithfulness of several methods on the same photographs."""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_canonical.cli.align import alignment_counts, alignment_text
from captum_canonical.cli.console import CommandResult, escape, format_duration
from captum_canonical.cli.layers import layer_arguments
from captum_canonical.cli.option_values import integer_from, names
from captum_canonical.cli.options import add_common, add_method, add_network, add_photos, examples
from captum_canonical.cli.results import BENCHMARK_FILE
from captum_canonical.cli.session import METHODS, OCCLUSION, Session, attribution, occlusion_arguments, start_session
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.networks.references import load_plugin
from captum_canonical.plugins import FILLS

if TYPE_CHECKING:
    from captum_canonical.benchmarking.result import BenchmarkResult
    from captum_canonical.faithfulness.fills import Fill

DEFAULT_FILLS = ["mean", "blur", "imputed"]
DRY_RUN_PHOTOS = 4


def add_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``benchmark``."""
    parser = commands.add_parser(
        "benchmark",
        help="methods side by side: how faithful their maps are",
        description="Scores each method's maps by how much hiding what they point at changes the network's confidence, "
        "beside random, uniform, mean-face and edge maps. All photographs are held in memory.",
        **examples(
            "captum-canonical benchmark --images photos --model examples.real_networks:gender --out scores \\",
            "    --methods occlusion,grad-cam,saliency --layer conv_out --points 256",
        ),
    )
    add_photos(parser)
    add_network(parser)
    add_method(parser)
    group = parser.add_argument_group("benchmark")
    group.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for scores, table and figure")
    group.add_argument(
        "--methods", type=names, default=[OCCLUSION], help=f"some of {', '.join(METHODS)} (default occlusion)"
    )
    group.add_argument(
        "--fills",
        type=names,
        default=DEFAULT_FILLS,
        help="what scored pixels become: names of fills (such as zero, mean, blur, imputed), or "
        "package.module:fill (default mean,blur,imputed)",
    )
    group.add_argument(
        "--folds", type=integer_from(2), default=5, help="of the mean maps, divided by identity (default 5)"
    )
    group.add_argument(
        "--batch-size", type=integer_from(1), default=32, help="photographs at once when maps are scored"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="say how many forward passes it takes and about how long, and stop"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> CommandResult:
    """Benchmarks the methods, or estimates the cost with ``--dry-run``."""
    start = time.perf_counter()
    unknown = [name for name in arguments.methods if name not in METHODS]
    if unknown or not arguments.methods:
        raise CanonicalError(f"--methods: expected some of {', '.join(METHODS)}, got {', '.join(unknown) or 'none'}.")
    arguments.fills = [_load_fill(text) for text in arguments.fills]
    session = start_session(arguments, arguments.methods)
    session.data.align(not arguments.quiet)
    session.probe()
    if arguments.dry_run:
        return _estimate(arguments, session, time.perf_counter() - start)
    batch = session.batch(len(session.data))
    result = _benchmark(arguments, session, batch, arguments.folds, batch.identities, not arguments.quiet)
    result = replace(result, settings={**result.settings, "input": dict(session.data.preprocessing)})
    _write(result, arguments.out)
    counts = alignment_counts(session.data)
    elapsed = time.perf_counter() - start
    text = "\n".join(
        [
            alignment_text(counts),
            result.table("text"),
            f"written to {escape(arguments.out)} ({format_duration(elapsed)})",
        ]
    )
    values = {
        "out": str(arguments.out),
        "rows": [{"row": row.label, "failure": row.failure} for row in result.rows],
        "notes": list(result.notes),
        "photographs": counts,
        "seconds": elapsed,
    }
    return CommandResult(text, values)


def _estimate(arguments: Namespace, session: Session, align_seconds: float) -> CommandResult:
    """Benchmarks a few photographs, and multiplies the cost by the number of the others."""
    found = len(session.data)
    batch = session.batch(DRY_RUN_PHOTOS)
    start = time.perf_counter()
    result = _benchmark(arguments, session, batch, 2, None, False)
    factor = found / len(batch.images)
    seconds = (time.perf_counter() - start) * factor + align_seconds
    passes = round(factor * sum((row.evaluations or 0) + row.scoring_evaluations for row in result.rows))
    counts = alignment_counts(session.data)
    failures = [f"{row.label}: {row.failure}" for row in result.rows if row.failure]
    lines = [
        alignment_text(counts),
        f"{passes:,} forward passes",
        f"about {format_duration(seconds)}, on this machine as busy as now",
        *(escape(failure) for failure in failures),
    ]
    values = {
        "dry_run": True,
        "forward_passes": passes,
        "seconds": seconds,
        "photographs": counts,
        "failures": failures,
    }
    return CommandResult("\n".join(lines), values)


def _load_fill(text: str) -> Fill:
    from captum_canonical.faithfulness.fills import as_fill

    return as_fill(load_plugin(text, FILLS, "--fills"))


def _benchmark(
    arguments: Namespace, session: Session, batch: FaceBatch, folds: int, identities: Any, show_progress: bool
) -> BenchmarkResult:
    from captum_canonical.benchmarking.run import benchmark

    scored = session.scored
    return benchmark(
        scored,
        batch.images,
        {name: _method(arguments, session, name) for name in arguments.methods},
        session.targets(batch, scored),
        faces=batch.faces,
        canonical_face=session.face,
        identities=identities,
        fills=arguments.fills,
        folds=folds,
        unbounded=not session.settings.is_classifier,  # cosines and values are below 0 where much is hidden
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        show_progress=show_progress,
    )


def _method(arguments: Namespace, session: Session, name: str) -> Any:
    method = attribution(name, session.confidence, session.layer, session.face)
    if name != OCCLUSION:
        return (method, layer_arguments(arguments)) if METHODS[name].needs_layer else method
    return method, occlusion_arguments(arguments, session.settings, session.device)


def _write(result: BenchmarkResult, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CanonicalError(f"--out {folder}: expected a folder, but there is a file of that name.") from error
    result.to_json(folder / BENCHMARK_FILE, per_image=True)
    (folder / "table.md").write_text(result.table("markdown"), encoding="utf-8")
    result.plot().savefig(folder / "benchmark.png", bbox_inches="tight")
