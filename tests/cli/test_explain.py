"""``explain``: the same maps as the library, options, interruptions and messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import captum_canonical as cc
import command_tools
from captum_canonical.cli.command import main
from command_tools import SIDE, Capture, Counting, DrawnAligner, explain_command, run_error, run_json, write_photos


def test_explain_is_the_call_of_the_library(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    values = run_json(explain_command(photos, tmp_path / "run", "--mean", "0.5", "--std", "0.25", "--seed", 4), capsys)
    assert values["explained"] == 5 and values["complete"] and values["missing"] == "" and values["failed"] == []
    data = cc.AlignedFaces(photos, DrawnAligner(), size=SIDE, crop=None, mean=0.5, std=0.25)
    confidence = cc.ClassConfidence(command_tools.net().eval(), link="log_odds")
    fill = torch.zeros(1, 3, 1, 1)  # 0.5, normalised
    options = {"num_points": 40, "patch_size": 5, "baselines": fill, "batch_size": 2, "seed": 4}
    expected = cc.explain_dataset(confidence, data, tmp_path / "other", show_progress=False, **options)
    found = cc.ModelSaliency.open(tmp_path / "run")
    assert_close(found.mean, expected.mean, rtol=0, atol=0)
    assert found.records["predicted"] == ["abc"[number] for number in expected.records["predicted"]]


def test_explain_goes_on_and_refuses_other_settings(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    run_json(explain_command(photos, run), capsys)
    assert run_json(explain_command(photos, run), capsys)["explained"] == 5
    assert "patch_size: 5" in run_error(explain_command(photos, run, "--patch-size", 7), capsys)


def test_rotating_points(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    values = run_json(explain_command(photos, tmp_path / "run", "--rotating", "--dry-run"), capsys)
    assert not (tmp_path / "run").exists() and values["forward_passes"] <= 5 * 42
    run_json(explain_command(photos, tmp_path / "run", "--rotating"), capsys)
    found = cc.ModelSaliency.open(tmp_path / "run")
    assert found.photos.approximation == "40 of 1,024 points"
    assert "points: rotating there" in run_error(explain_command(photos, tmp_path / "run"), capsys)
    command = explain_command(photos, tmp_path / "other", "--rotating", points=None)
    for more in ([], ["--dry-run"]):
        assert "--rotating: expected --points, how many" in run_error([*command, *more], capsys)


def test_the_crop_of_a_template(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ["--crop", "arcface", "--size", SIDE, "--method", "saliency"]
    run_json(explain_command(photos, tmp_path / "run", *options, points=None), capsys)
    found = cc.ModelSaliency.open(tmp_path / "run")
    assert found.run.settings["input"]["crop"]["template"] == "arcface"
    data = cc.AlignedFaces(photos, DrawnAligner(), size=SIDE, crop="arcface")
    assert found.run.data == data.fingerprint
    error = run_error(explain_command(photos, tmp_path / "run", *options[2:], "--crop", "dlib", points=None), capsys)
    assert "input.crop.template: arcface there, dlib now" in error


def test_targets_groups_and_identities_of_a_table(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "people.csv"
    table.write_text("file,target,group,identity\n00.png,b,x,ada\n01.png,c,y,bob\n02.png,a,x,ada\n")
    columns = ["--labels", table, "--columns", "path=file"]
    run_json(explain_command(photos, tmp_path / "run", *columns, "--target", "given"), capsys)
    records = cc.ModelSaliency.open(tmp_path / "run").records
    rows = sorted(zip(*(records[name] for name in ("name", "target", "group", "identity")), strict=True))
    assert rows == [("00.png", "b", "x", "ada"), ("01.png", "c", "y", "bob"), ("02.png", "a", "x", "ada")]
    run_json(explain_command(photos, tmp_path / "c", *columns, "--target", "c"), capsys)
    assert set(cc.ModelSaliency.open(tmp_path / "c").records["target"]) == {"c"}
    assert "a class (a, b, c)" in run_error(explain_command(photos, tmp_path / "d", "--target", "d"), capsys)
    assert "a class from 0 to 2" in run_error(explain_command(photos, tmp_path / "d", "--target", 3), capsys)
    assert not (tmp_path / "d").exists()


def test_as_many_names_of_classes_as_outputs_are_expected(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    error = run_error(explain_command(photos, tmp_path / "d", "--classes", "a,b"), capsys)
    assert "--classes: expected a name for each of the network's 3 outputs" in error and not (tmp_path / "d").exists()


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "guided-grad-cam++", "score-cam", "saliency"])
def test_other_methods(method: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    own = ["--layer", "deep"] if "cam" in method else []
    run_json(explain_command(photos, tmp_path / "run", "--method", method, *own, points=None), capsys)
    assert cc.ModelSaliency.open(tmp_path / "run").mean.abs().max() > 0


def test_methods_and_layers_that_do_not_fit(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    def line(*more: str) -> str:
        return run_error(explain_command(photos, tmp_path / "run", *more, points=None), capsys)

    assert "--layer: the network has no module 'deap'; it has deep" in line("--method", "grad-cam", "--layer", "deap")
    assert "looks into no layer" in line("--layer", "deep")
    assert "looks into no layer" in line("--layout", "tokens")
    assert "--inference: of occlusion only" in line("--method", "saliency", "--inference", "dense")


def test_the_verdict_of_a_stopping_rule_is_reported(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(40)])
    values = run_json(
        explain_command(photos, tmp_path / "run", "--until", "split-half=0.01", "--batch-size", 16), capsys
    )
    assert values["explained"] == 32 and values["complete"] and "SplitHalf(0.01)" in values["verdicts"][-1]


def test_outputs_that_are_probabilities_are_noticed(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    common = ["--size", str(SIDE), "--crop", "none"]
    assert main(explain_command(photos, tmp_path / "a", *common, model="probabilities")) == 0
    assert "look like probabilities" in capsys.readouterr().err
    assert main(explain_command(photos, tmp_path / "b", *common, "--link", "none", model="probabilities")) == 0
    assert "probabilities" not in capsys.readouterr().err


def test_verbose_says_what_is_decided(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert (
        main(explain_command(photos, tmp_path / "run", "--verbose", "--size", SIDE, "--crop", "none", model="counting"))
        == 0
    )
    assert "captum-canonical: inference is dense: " in capsys.readouterr().err


def test_an_output_that_is_in_the_way(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    assert "there is a file of that name" in run_error(explain_command(photos, tmp_path / "file"), capsys)
    assert "letter.txt" in run_error(explain_command(photos, tmp_path / "full"), capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_ctrl_c_keeps_what_is_finished_and_the_command_goes_on(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    common = ["--size", str(SIDE), "--crop", "none"]
    run_json(explain_command(photos, tmp_path / "whole", *common, model="counting"), capsys)
    Counting.rows, Counting.interrupt_at = 0, int(Counting.rows * 0.6)
    line = run_error(explain_command(photos, tmp_path / "run", *common, model="counting"), capsys, code=130)
    assert f"captum-canonical report {tmp_path / 'run'}" in line and "the same command goes on" in line
    before = cc.ModelSaliency.open(tmp_path / "run")
    assert 0 < before.n < 5 and before.run is not None and not before.run.complete
    Counting.rows = 0
    assert run_json(explain_command(photos, tmp_path / "run", *common, model="counting"), capsys)["complete"]
    first, second = (cc.ModelSaliency.open(tmp_path / name).mean for name in ("whole", "run"))
    assert_close(first, second, rtol=0, atol=0)


def test_ctrl_c_before_anything_is_finished(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    Counting.interrupt_at = 1
    arguments = explain_command(photos, tmp_path / "run", "--size", SIDE, "--crop", "none", model="counting")
    assert "begins again" in run_error(arguments, capsys, code=130)


def test_the_examples_gender_network(shared: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    """The reference of the documentation, from the repository's root, on real photographs."""
    monkeypatch.chdir(Path(__file__).parents[2])
    table = tmp_path / "some.csv"
    names = sorted(path.name for path in (shared / "data/celeba_prnet/images").iterdir())[:3]
    table.write_text("path\n" + "\n".join(names) + "\n")
    arguments = [
        "explain",
        "--labels",
        table,
        "--images",
        shared / "data/celeba_prnet/images",
        "--out",
        tmp_path / "run",
    ]
    arguments += ["--model", "examples.real_networks:gender", "--weights", shared / "models", "--points", 64, "--quiet"]
    values = run_json([str(each) for each in arguments], capsys)
    assert values["explained"] == 3
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["arguments"]["patch_size"] == 15


def test_half_precision_from_end_to_end(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run_json(explain_command(photos, tmp_path / "run", "--dtype", "bfloat16"), capsys)
    found = cc.ModelSaliency.open(tmp_path / "run")
    data = cc.AlignedFaces(photos, DrawnAligner(), size=SIDE, crop=None)
    confidence = cc.ClassConfidence(command_tools.net().bfloat16().eval(), link="log_odds")
    options = {"num_points": 40, "patch_size": 5, "baselines": torch.full((1, 3, 1, 1), 0.5), "batch_size": 2}
    with pytest.warns(UserWarning, match="half precision: rounding moves a drop"):
        expected = cc.explain_dataset(confidence, data, tmp_path / "other", show_progress=False, **options)
    assert_close(found.mean, expected.mean, rtol=0, atol=0)
    assert None not in found.photos.records["rounding"]
    assert "--dtype" in run_error([*explain_command(photos, tmp_path / "x"), "--dtype", "int8"], capsys)
