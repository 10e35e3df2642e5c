"""``benchmark``, and its ``--dry-run``."""

from __future__ import annotations

from pathlib import Path

import pytest

import captum_canonical as cc
from captum_canonical.cli.command import main
from command_tools import Capture, explain_command, run_error, run_json


def test_benchmark(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = explain_command(photos, tmp_path / "out", "--methods", "occlusion,grad-cam,saliency", "--layer", "deep")
    arguments = ["benchmark", *arguments[1:], "--fills", "mean", "--folds", "2"]
    estimate = run_json([*arguments, "--dry-run"], capsys)
    assert not (tmp_path / "out").exists() and not estimate["failures"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "grad-cam" in said and "random" in said
    result = cc.BenchmarkResult.from_json(tmp_path / "out" / "benchmark.json")
    assert {row.name for row in result.rows} >= {"occlusion", "grad-cam", "saliency", "uniform"}
    assert all(row.failure is None for row in result.rows)
    passes = sum(row.evaluations + row.scoring_evaluations for row in result.rows)
    assert estimate["forward_passes"] == pytest.approx(passes, rel=0.1) and estimate["seconds"] > 0
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 10_000
    assert "| " in (tmp_path / "out" / "table.md").read_text()
    assert "got nonsense" in run_error([*arguments, "--methods", "nonsense"], capsys)
