"""How much faster "auto" is than dense inference on today's networks, and which operator ends the windows.

    python benchmarks/zoo_speed.py [--only NAME ...] [--rounds 3] [--points 256] --json FILE
    python benchmarks/zoo_speed.py --table FILE

One photograph, the paper's patch. Dense is ``inference="dense"``: 16 rows, as PyTorch lays images out. Ours is a whole
call of ``inference="auto"``: tracing, planning, the check against dense inference, the clean run and the patches. Of
the patches a part is run on both sides (``--seconds`` each) and their time multiplied; everything else is timed whole.
The two take turns, and the ratio is the median over rounds. Processor time of the process stands beside wall time,
since other processes may have used the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_canonical.adapters import as_network
from captum_canonical.inference.choose import DENSE_ROWS, choose_inference
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.operators import Whole
from captum_canonical.inference.scorer import Scorer
from incremental import patches_of
from networks import scaled
from timing import machine
from zoo import ZOO, ZooNetwork, photos

Times = tuple[float, float]  # wall and processor seconds


def _timed(work: Callable[[], object]) -> Times:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


class _Reason(logging.Handler):
    """Remembers why inference is dense."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage().removeprefix("inference is dense: ").rstrip(".")


def ends(engine: Any) -> str:
    """The operator from which on maps are complete, as people call it."""
    if not isinstance(engine, IncrementalInference):
        return ""
    steps = engine.network.steps.values()
    first = next((s for s in steps if s.hidden and isinstance(s.operator, Whole)), None)
    if first is None or first.shape is None or len(first.shape) != 4 or max(first.size) == 1:
        return "the end"
    return f"{first.name} ({' x '.join(map(str, first.shape[1:]))})"


def _part(engine: Any, hidden: Patches, most: int) -> Patches:
    """About ``most`` patches, in whole batches, whose windows are as large as those of all."""
    if not isinstance(engine, IncrementalInference):
        return hidden[:: max(1, len(hidden) // most)]
    plan = engine.plan(hidden)
    every = max(1, round(len(hidden) / max(most, 4 * engine.rows)))
    return hidden[plan.order[plan.batch % every == every // 2]]


def study(entry: ZooNetwork, points: int, rounds: int, seconds: float) -> dict[str, Any]:
    """A network's row of the table."""
    net: nn.Module = entry.build()
    photo = photos(1, entry.size)
    with torch.no_grad():
        if not isinstance(net(photo), torch.Tensor):
            net = as_network(net, output="race" if entry.name == "own:fairface_heads" else None)
        hidden = patches_of(entry.size, scaled(15, entry.size), 1, points)
        scorer, reason = Scorer(net, 0, (), 1), _Reason()
        dense = DenseInference(scorer, (photo,), (0.0,), DENSE_ROWS)
        once = _timed(lambda: dense.occluded_scores(hidden[:DENSE_ROWS]))[1] / DENSE_ROWS
        most = int(min(max(seconds / once, DENSE_ROWS), points))
        logger = logging.getLogger("captum_canonical")
        logger.addHandler(reason)
        logger.setLevel(logging.INFO)
        found: list[dict[str, Times]] = []
        engine: Any = None

        def prepare() -> None:
            nonlocal engine
            engine = choose_inference("auto", scorer, (photo,), (0.0,), None, hidden)
            engine.clean_scores()

        prepare()  # warms up, as the first dense rows did above
        engine.occluded_scores(hidden[: engine.rows])
        for _ in range(rounds):
            times = {"prepare": _timed(prepare)}
            some, few = _part(engine, hidden, most), hidden[:most]
            times["run"] = _scaled(_timed(lambda some=some: engine.occluded_scores(some)), points / len(some))
            times["dense"] = _scaled(_timed(lambda few=few: dense.occluded_scores(few)), points / len(few))
            found.append(times)
        logger.removeHandler(reason)
    ratios = [[t["dense"][kind] / (t["prepare"][kind] + t["run"][kind]) for t in found] for kind in (0, 1)]
    incremental = isinstance(engine, IncrementalInference)
    return {
        "inference": "incremental" if incremental else "dense",
        "size": entry.size,
        "ends": ends(engine),
        "reason": "" if incremental else reason.text,
        "ratio": statistics.median(ratios[0]),
        "ratio_processor": statistics.median(ratios[1]),
        "by_multiply_adds": engine.plan(hidden).ratio if incremental else 1.0,
        "dense_ms": 1000 * statistics.median(t["dense"][0] for t in found) / points,
        "prepare_s": statistics.median(t["prepare"][0] for t in found),
        "run_of_each": most,
    }


def _scaled(times: Times, factor: float) -> Times:
    return times[0] * factor, times[1] * factor


def table(results: dict[str, Any]) -> str:
    """Markdown, the largest gain first."""
    lines = ["| network | px | faster, processor time | by wall | windows end at |", "|---|---|---|---|---|"]
    rows = {name: row for name, row in results.items() if ":" in name}
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["ratio_processor"]):
        why = row["ends"] or f"dense: {row['reason']}"
        lines.append(f"| {name} | {row['size']} | **{row['ratio_processor']:.1f} x** | {row['ratio']:.1f} x | {why} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the rows and, if asked, writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="parts of names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0, help="of dense inference in a round")
    parser.add_argument("--json", type=Path, help="results; added to those that are there")
    parser.add_argument("--table", type=Path, help="prints the table of these results, and measures nothing")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    results: dict[str, Any] = {"machine": machine(), "points": args.points}
    if args.json and args.json.exists():
        results = json.loads(args.json.read_text(encoding="utf-8")) | results
    for name, entry in ZOO.items():
        if args.only and not any(part in name for part in args.only):
            continue
        if entry.needs and importlib.util.find_spec(entry.needs) is None:
            print(f"{name}: needs {entry.needs}", flush=True)
            continue
        row = results[name] = study(entry, args.points, args.rounds, args.seconds)
        print(
            f"{name:38} {row['inference']:12} {row['ratio']:5.2f} x, processor {row['ratio_processor']:5.2f} x, by "
            f"multiply-adds {row['by_multiply_adds']:5.2f}; {row['ends'] or row['reason']}",
            flush=True,
        )
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
