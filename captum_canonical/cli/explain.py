"""``captum-canonical explain``: explains a network on photographs, and writes a run folder."""

from __future__ import annotations

import os
import time
from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

from captum_canonical.cli.align import alignment_counts, alignment_text
from captum_canonical.cli.console import CommandResult, count, escape, first_lines, format_duration
from captum_canonical.cli.estimate import estimate
from captum_canonical.cli.layers import layer_arguments
from captum_canonical.cli.option_values import integer_from, stopping_rule
from captum_canonical.cli.options import add_common, add_method, add_network, add_photos, examples
from captum_canonical.cli.results import COMMAND_FILE
from captum_canonical.cli.session import (
    METHODS,
    OCCLUSION,
    Session,
    attribution,
    map_unit,
    occlusion_arguments,
    start_session,
)
from captum_canonical.errors import CanonicalError
from captum_canonical.files import write_json
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.run_folder.layout import MANIFEST

OCCLUSION_OPTIONS = ("points", "rotating", "patch_size", "fill", "inference")


def add_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``explain``."""
    parser = commands.add_parser(
        "explain",
        help="photographs and a network to a run folder",
        description="Explains a network on every photograph of a folder or table, and averages the maps on one face. "
        "What is finished is kept: the same command goes on after Ctrl-C or a crash.",
        **examples(
            "captum-canonical explain --images photos --model examples.real_networks:gender --out run",
            "captum-canonical explain --labels people.csv --model my_net:make --weights net.safetensors --size 112 \\",
            "    --mean 0.5 --std 0.5 --target given --cache meshes --out run --dry-run",
            "captum-canonical explain --images photos --model net.pt2 --size 224 --method grad-cam --out cam",
            "torchrun --nproc-per-node 2 -m captum_canonical.cli explain ...",
        ),
    )
    add_photos(parser)
    add_network(parser)
    add_method(parser)
    group = parser.add_argument_group("run")
    group.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="the run folder; an unfinished one goes on"
    )
    group.add_argument(
        "--method",
        choices=list(METHODS),
        metavar="METHOD",
        default=OCCLUSION,
        help=f"what makes the maps: {', '.join(METHODS)} (default occlusion)",
    )
    group.add_argument(
        "--inference", choices=["auto", "incremental", "dense"], help="of occlusion (default auto: whatever is faster)"
    )
    group.add_argument(
        "--rotating",
        action="store_const",
        const="rotating",
        help="each photograph evaluates another set of --points points: far less work for a map of the network, at the "
        "price of single maps with holes",
    )
    group.add_argument("--symmetric", action="store_true", help="pool each map with its mirror image")
    group.add_argument(
        "--until",
        type=stopping_rule,
        metavar="RULE",
        help="stop when there are enough: split-half=0.95, or standard-error=0.05 (of the map's spread)",
    )
    group.add_argument("--batch-size", type=integer_from(1), default=8, help="photographs at once (default 8)")
    group.add_argument(
        "--num-workers", type=integer_from(0), default=0, help="processes that read photographs (default 0)"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="say how many forward passes it takes and about how long, and stop"
    )
    add_common(parser)
    parser.set_defaults(run=run, interrupted=interrupted)


def run(arguments: Namespace) -> CommandResult:
    """Explains the photographs, or estimates the cost with ``--dry-run``."""
    from captum_canonical.runs.explain import explain_dataset

    start = time.perf_counter()
    _check(arguments)
    session = start_session(arguments, [arguments.method])
    call = _explain_arguments(arguments, session)
    if arguments.dry_run:
        return estimate(arguments, session, call, start)
    session.data.align(not arguments.quiet)
    session.probe()
    run = explain_dataset(session.confidence, session.data, arguments.out, **call).run
    assert run is not None  # of a folder
    _write_command(arguments, session.settings)
    return _summary(arguments, session, run, time.perf_counter() - start)


def interrupted(arguments: Namespace) -> str:
    """The message after Ctrl-C."""
    if not (arguments.out / MANIFEST).is_file():
        return "interrupted before the first photograph was explained; the same command begins again."
    return (
        f"interrupted. What is finished is kept in {arguments.out}, and the same command goes on from there; "
        f"captum-canonical report {arguments.out} shows it."
    )


def _check(arguments: Namespace) -> None:
    if arguments.method != OCCLUSION:
        given = [name for name in OCCLUSION_OPTIONS if getattr(arguments, name) is not None]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise CanonicalError(f"{options}: of occlusion only; leave it out with --method {arguments.method}.")
    if arguments.rotating is not None and arguments.points is None:
        raise CanonicalError(
            "--rotating: expected --points, how many points each photograph evaluates, such as --points 64."
        )
    if arguments.out.exists() and not arguments.out.is_dir():
        raise CanonicalError(f"--out {arguments.out}: expected a folder, but there is a file of that name.")


def _explain_arguments(arguments: Namespace, session: Session) -> dict[str, Any]:
    """The arguments of :func:`explain_dataset`."""
    call: dict[str, Any] = {
        "target": session.target,
        "symmetric": arguments.symmetric,
        "until": arguments.until,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
        "network_key": session.key,
        "device": session.device,
        "num_workers": arguments.num_workers,
        "show_progress": not arguments.quiet,
    }
    if arguments.method != OCCLUSION:
        method = attribution(arguments.method, session.confidence, session.layer, session.face)
        return call | {"method": method} | layer_arguments(arguments)
    own = occlusion_arguments(arguments, session.settings, session.device)
    own |= {} if arguments.rotating is None else {"points": arguments.rotating}
    return call | {"canonical_face": session.face, "inference": arguments.inference} | own


def _write_command(arguments: Namespace, settings: NetworkSettings) -> None:
    """Writes the options and the unit of the maps into the run folder, for reports."""
    if int(os.environ.get("RANK", "0")) > 0:
        return
    unit = map_unit(arguments.method, settings)
    options = {name: value for name, value in vars(arguments).items() if value is not None and not callable(value)}
    try:
        write_json(arguments.out / COMMAND_FILE, {"unit": unit, "model": arguments.model, "options": options}, str)
    except OSError:  # a finished run in a folder that cannot be written to: what is there says the same
        if not (arguments.out / COMMAND_FILE).is_file():
            raise


def _summary(arguments: Namespace, session: Session, run_folder: RunFolder, elapsed: float) -> CommandResult:
    counts = alignment_counts(session.data)
    failed = [
        {"name": name, "group": group, "reason": reason}
        for name, group, status, reason in zip(
            *(run_folder.records[column] for column in ("name", "group", "status", "reason")), strict=True
        )
        if status != "done"
    ]
    verdicts = [verdict["says"] for verdict in run_folder.stopping.get("verdicts", [])]
    explained = count(run_folder.n, "photograph", "photographs")
    lines = [
        alignment_text(counts),
        *first_lines(
            [f"failed: {escape(each['name'])}: {escape(each['reason'])}" for each in failed], 10, "more failed"
        ),
        *(escape(verdict) for verdict in verdicts[-1:]),
        *([run_folder.missing] if run_folder.missing else []),
        f"{explained} explained in {escape(arguments.out)} ({format_duration(elapsed)})",
        f"next: captum-canonical report {escape(arguments.out)}",
    ]
    values = {
        "run": str(arguments.out),
        "explained": run_folder.n,
        "complete": run_folder.complete,
        "missing": run_folder.missing,
        "failed": failed,
        "verdicts": verdicts,
        "seconds": elapsed,
        "photographs": counts,
        "process": int(os.environ.get("RANK", "0")),
    }
    return CommandResult("\n".join(lines), values)
