"""``--dry-run``: how many forward passes, and about how long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import captum_canonical as cc
from captum_canonical.benchmarking.methods import EvaluationCounter
from captum_canonical.cli.command import main
from captum_canonical.run_folder.folder import RunFolder
from command_tools import SIDE, Capture, Counting, DrawnAligner, explain_command, run_json, write_photos

INPUT = ("--size", str(SIDE), "--crop", "none")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(6)])


def test_forward_passes_are_those_of_the_run(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = explain_command(photos, tmp_path / "run", *INPUT, "--inference", "dense", model="counting")
    estimated = run_json([*arguments, "--dry-run"], capsys)
    assert not (tmp_path / "run").exists()
    assert estimated["found"] == 6 and estimated["exact"] and estimated["inference"] == "dense, as asked for"
    Counting.rows = 0
    run_json(arguments, capsys)
    assert estimated["forward_passes"] == Counting.rows - 1, "all but the one that tries the network"
    assert estimated["disk_bytes"] == sum(
        (tmp_path / "run" / f"{n}.npy").stat().st_size - 128 for n in ("maps", "coverage")
    )


@pytest.mark.parametrize("method", ["score-cam", "integrated-gradients"])
def test_forward_passes_of_other_methods(method: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    layer = ["--layer", "deep"] if method == "score-cam" else []
    arguments = explain_command(photos, tmp_path / "run", "--method", method, *layer, "--dry-run", points=None)
    estimated = run_json(arguments, capsys)
    assert estimated["inference"] is None
    counter = EvaluationCounter()
    with counter.counting():
        run_json([word for word in arguments if word != "--dry-run"], capsys)
    assert estimated["forward_passes"] == counter.count
    each = {"score-cam": 1 + 8, "integrated-gradients": 50}[method]  # rows: the photo and 8 channels; 50 steps
    assert estimated["forward_passes"] >= 6 * (1 + each)
    assert estimated["forward_passes"] <= 6 * (4 + each)


def test_what_is_finished_is_not_counted_again(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = explain_command(photos, tmp_path / "run")
    whole = run_json([*arguments, "--dry-run"], capsys)
    run_json(arguments, capsys)
    records = tmp_path / "run" / "records-0.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:4]))
    assert len(RunFolder.open(tmp_path / "run")) == 4
    rest = run_json([*arguments, "--dry-run"], capsys)
    assert rest["finished"] == 4
    assert rest["forward_passes"] == pytest.approx(whole["forward_passes"] / 3, rel=0.01)


def test_of_many_photographs_a_few_are_looked_at(tmp_path: Path, capsys: Capture) -> None:
    names = [f"{number:03}{' black' if number % 4 == 1 else ''}.png" for number in range(130)]
    photos = write_photos(tmp_path / "photos", names)
    estimated = run_json([*explain_command(photos, tmp_path / "run", "--points", 8), "--dry-run"], capsys)
    assert not estimated["exact"] and estimated["photographs"] == 130
    assert len(set(DrawnAligner.calls)) <= 64
    assert estimated["found"] == pytest.approx(130 * 0.75, abs=130 * 0.1)


def test_until_makes_it_an_upper_bound(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main([*explain_command(photos, tmp_path / "run", "--until", "split-half=0.9"), "--dry-run"]) == 0
    assert "at most about" in capsys.readouterr().out


def test_the_estimate_is_within_a_factor_of_two(tmp_path: Path, capsys: Capture) -> None:
    """Of a run of some seconds. Other work on the machine can spoil one try, hardly three."""
    photos = write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(24)])
    factors = []
    for attempt in range(3):
        arguments = explain_command(photos, tmp_path / f"run{attempt}", "--points", 600, "--batch-size", 4)
        estimated = run_json([*arguments, "--dry-run"], capsys)
        start = time.perf_counter()
        run = run_json(arguments, capsys)
        assert run["seconds"] <= time.perf_counter() - start
        factors.append(estimated["seconds"] / run["seconds"])
        if 0.5 <= factors[-1] <= 2:
            break
    assert 0.5 <= factors[-1] <= 2, factors
    assert cc.ModelSaliency.open(tmp_path / "run0").n == 24
