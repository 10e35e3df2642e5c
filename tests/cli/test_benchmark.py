"""``benchmark``, and its ``--dry-run``."""

from __future__ import annotations

from pathlib import Path

import pytest

import captum_canonical as cc
from captum_canonical.cli.command import main
from captum_canonical.plugins import FILLS
from command_tools import Capture, explain_command, run_error, run_json
from plugin_tools import install


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


MINE = """
from captum_canonical.faithfulness import Fill

class Mine(Fill):
    name = "mine"
    uses_hidden = False

    def __call__(self, images, hidden):
        return images.flip(3)
"""


def test_fills_of_ones_own(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["benchmark", *explain_command(photos, tmp_path / "out")[1:], "--folds", "2"]
    assert f"expected {', '.join(FILLS.names())} or package.module:fill, got 'mine'" in run_error(
        [*arguments, "--fills", "mine"], capsys
    )
    install(tmp_path, "package_of_mine", MINE, FILLS.group, {"mine": "package_of_mine:Mine"})
    results = []
    for fill in ("mine", "package_of_mine:Mine"):
        run_json([*arguments, "--fills", f"mean,{fill}"], capsys)
        results.append(cc.BenchmarkResult.from_json(tmp_path / "out" / "benchmark.json"))
    assert results[0].fills == results[1].fills == ("mean", "mine")
    values = [result["occlusion, per image"].value("mean_drop", "mine") for result in results]
    assert values[0] == values[1]


def test_identities_that_are_missing_drop_no_others(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    who = ["Ann", "nan", "Ann", "", "Bob"]
    lines = [f"{number:02}.png,{name}" for number, name in enumerate(who)]
    (photos / "who.csv").write_text("\n".join(["path,identity", *lines]))
    arguments = ["benchmark", *explain_command(photos, tmp_path / "out")[3:], "--labels", str(photos / "who.csv")]
    assert main([*arguments, "--folds", "2", "--fills", "mean"]) == 0
    assert "identity: 1 of 5 entries are taken as missing ('nan' 1 times)" in capsys.readouterr().err
    result = cc.BenchmarkResult.from_json(tmp_path / "out" / "benchmark.json")
    assert result.units.tolist() == [0, 1, 0, 2, 3] and result.settings["identities"] == 4
