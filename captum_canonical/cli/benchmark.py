"""``captum-canonical benchmark``: methods side by side on the same photographs, beside controls that know nothing."""

from __future__ import annotations

import time
from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.cli.console import Outcome, seconds, shown
from captum_canonical.cli.methods import METHODS, OF_INPUTS, OF_LAYERS, attribution, occlusion_arguments
from captum_canonical.cli.options import add_common, add_method, add_network, add_photos, at_least, examples, names
from captum_canonical.cli.photographs import account, account_text
from captum_canonical.cli.report import BENCHMARK
from captum_canonical.cli.session import Session, begin
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError

FILLS = ("mean", "blur", "imputed")
TRIED = 4  # photographs, for --dry-run


def add(commands: _SubParsersAction[Any]) -> None:
    """The command's parser."""
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
        "--methods", type=names, default=["occlusion"], help=f"some of {', '.join(METHODS)} (default occlusion)"
    )
    group.add_argument("--fills", type=names, default=list(FILLS), help="what scored pixels become (mean,blur,imputed)")
    group.add_argument("--folds", type=at_least(2), default=5, help="of the mean maps, divided by identity (default 5)")
    group.add_argument("--batch-size", type=at_least(1), default=32, help="photographs at once when maps are scored")
    group.add_argument(
        "--dry-run", action="store_true", help="say how many forward passes it takes and about how long, and stop"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> Outcome:
    """Compares."""
    start = time.perf_counter()
    unknown = [name for name in arguments.methods if name not in METHODS]
    if unknown or not arguments.methods:
        raise CanonicalError(f"--methods: expected some of {', '.join(METHODS)}, got {', '.join(unknown) or 'none'}.")
    session = begin(arguments, arguments.methods)
    session.data.align(not arguments.quiet)
    session.probe()
    if arguments.dry_run:
        return _estimate(arguments, session, time.perf_counter() - start)
    batch = _photographs(session, len(session.data))
    identities = None if None in batch.identities else batch.identities
    result = _scores(arguments, session, batch, arguments.folds, identities, not arguments.quiet)
    _write(result, arguments.out)
    told = account(session.data)
    took = time.perf_counter() - start
    text = f"{account_text(told)}\n{result.table('text')}\nwritten to {shown(arguments.out)} ({seconds(took)})"
    rows = [{"row": row.label, "failure": row.failure} for row in result.rows]
    return Outcome(
        text,
        {"out": str(arguments.out), "rows": rows, "notes": list(result.notes), "photographs": told, "seconds": took},
    )


def _photographs(session: Session, count: int) -> FaceBatch:
    return session.data.collate([session.data[index] for index in range(count)]).to(session.device)


def _scores(
    arguments: Namespace, session: Session, batch: FaceBatch, folds: int, identities: Any, show_progress: bool
) -> cc.BenchmarkResult:
    scored = session.network if session.settings.link == "none" else ClassConfidence(session.network)
    return cc.benchmark(
        scored,
        batch.images,
        {name: _method(arguments, session, name) for name in arguments.methods},
        _target(session, batch, scored),
        faces=batch.faces,
        canonical_face=session.face,
        identities=identities,
        fills=arguments.fills,
        folds=folds,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        show_progress=show_progress,
    )


def _estimate(arguments: Namespace, session: Session, aligned: float) -> Outcome:
    """A benchmark of a few photographs, and as much again for each of the others."""
    found = len(session.data)
    batch = _photographs(session, min(TRIED, found))
    start = time.perf_counter()
    result = _scores(arguments, session, batch, 2, None, False)
    share = found / len(batch.images)
    took = (time.perf_counter() - start) * share + aligned
    passes = round(share * sum((row.evaluations or 0) + row.scoring_evaluations for row in result.rows))
    told = account(session.data)
    failed = [f"{row.label}: {row.failure}" for row in result.rows if row.failure]
    text = [account_text(told), f"{passes:,} forward passes", f"about {seconds(took)}, on this machine as busy as now"]
    values = {"dry_run": True, "forward_passes": passes, "seconds": took, "photographs": told, "failures": failed}
    return Outcome("\n".join([*text, *(shown(each) for each in failed)]), values)


def _method(arguments: Namespace, session: Session, name: str) -> Any:
    method = attribution(name, session.confidence, session.layer if name in OF_LAYERS else None, session.face)
    if name in OF_LAYERS or name in OF_INPUTS:
        return method
    return method, occlusion_arguments(arguments, session.settings, session.device)


def _target(session: Session, batch: FaceBatch, scored: Any) -> Any:
    """A class for each photograph, or None for a network with one score."""
    if session.target == "given":
        if batch.targets is None or not isinstance(batch.targets, Tensor) or batch.targets.is_floating_point():
            raise CanonicalError("--target given: expected a column target with a class for each photograph.")
        return batch.targets
    if isinstance(session.target, int):
        return session.target
    with torch.no_grad():
        outputs = torch.cat([scored(part) for part in batch.images.split(32)])
    return outputs.argmax(1) if outputs.ndim == 2 and outputs.shape[1] > 1 else None


def _write(result: cc.BenchmarkResult, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CanonicalError(f"--out {folder}: expected a folder, but there is a file of that name.") from error
    result.to_json(folder / BENCHMARK, per_image=True)
    (folder / "table.md").write_text(result.table("markdown"), encoding="utf-8")
    result.plot().savefig(folder / "benchmark.png", bbox_inches="tight")
