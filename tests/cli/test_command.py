"""The command line: what each command says and writes, what errors look like, and how it can be interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import captum_canonical as cc
import command_tools
from captum_canonical.cli import info as known
from captum_canonical.cli.command import main
from command_tools import SIDE, Counting, DrawnAligner, write_photos

Capture = pytest.CaptureFixture[str]
COMMANDS = ("align", "explain", "benchmark", "compare", "report", "info")
HOSTILE = [
    "<script>alert(1)<script>.png",
    "a\"b'c&d.png",
    "line\nbreak.png",
    "\x1b[2Jclear.png",
    "ünïcode 🙂 \u202egnp.png",
    "not utf-8 \udcff.png",
    "--help.png",
]


@pytest.fixture(autouse=True)
def _clean() -> None:
    DrawnAligner.calls.clear()
    Counting.rows, Counting.interrupt_at = 0, None


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(5)])


def explain(photos: Path | str, out: Path | str, *more: Any, model: str = "with_settings") -> list[str]:
    options = ["explain", "--images", photos, "--aligner", "command_tools:DrawnAligner", "--out", out, "--points", 40]
    reference = model if ":" in model or "." in model else f"command_tools:{model}"
    return [str(each) for each in [*options, "--model", reference, "--batch-size", 2, "--quiet", *more]]


def ok(arguments: list[str], capsys: Capture) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def refused(arguments: list[str], capsys: Capture, code: int = 2) -> str:
    """The single line of a command that fails."""
    capsys.readouterr()
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith("\n") and "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if "warning" not in line]
    assert len(lines) == 1, said.err
    return lines[0]


# ---------------------------------------------------------------------------------------------------------- help
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(command: str, capsys: Capture) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "\nexamples:\n" in said and f"captum-canonical {command}" in said.partition("\nexamples:\n")[2]
    for option in ("--json", "--quiet", "--debug"):
        assert option in said


def test_help_names_all_commands_and_exit_codes(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for part in (*COMMANDS, "exit codes: 0 done", "130 interrupted"):
        assert part in said


def test_options_that_do_not_fit_are_one_line(capsys: Capture) -> None:
    for arguments, part in (
        (["explain"], "--model, --out"),
        (["exlpain"], "invalid choice"),
        (explain("photos", "run", "--size", "big"), "expected pixels or HEIGHTxWIDTH, got 'big'"),
        (explain("photos", "run", "--until", "split-half=2"), "a number above 0 and below 1"),
        (explain("photos", "run", "--mean", "0.1;0.2"), "numbers with commas"),
        (explain("photos", "run", "--batch-size", "0"), "from 1 on"),
        (explain("photos", "run", "--crop", "1,2,3"), "LEFT,TOP,RIGHT,BOTTOM"),
        (explain("photos", "run", "--columns", "file"), "NAME=COLUMN"),
    ):
        line = refused(arguments, capsys)
        assert part in line and "--help" in line


def test_the_installed_program_and_the_module_are_the_same() -> None:
    program = Path(sys.executable).with_name("captum-canonical")
    if not program.exists():
        pytest.skip("the package runs from its source folder, not installed")
    for command in ([str(program)], [sys.executable, "-m", "captum_canonical.cli"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == f"captum-canonical {cc.__version__}\n"


# ---------------------------------------------------------------------------------------------------------- info
def test_info(capsys: Capture) -> None:
    values = ok(["info"], capsys)
    assert values["self_test"]["passed"] and values["self_test"]["seconds"] < 60
    assert values["captum-canonical"] == cc.__version__ and values["packages"]["torch"] == torch.__version__
    assert values["aligners"]["mediapipe"] == {"available": True, "says": "offline"}
    assert main(["info"]) == 0
    assert "self-test passed" in capsys.readouterr().out


def test_info_finds_a_package_that_computes_something_else(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A splat that is off by one pixel; and an aligner that is not there."""
    from captum_canonical.attributions import _points

    splat = _points.splat
    monkeypatch.setattr(_points, "splat", lambda box, *rest: splat(box + 1, *rest))
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    assert main(["info"]) == 1
    said = capsys.readouterr().out
    assert "self-test FAILED" in said and "map by dense inference: WRONG" in said
    assert "mean of two maps: WRONG" in said
    assert "aligner mediapipe: not available" in said and "pip install" in said


def test_the_known_map_is_large_at_its_region_and_nothing_far_from_it() -> None:
    face = cc.CanonicalFace.default(known.SIZE)
    expected = known.known_map(face, face.region_mask(known.REGION))
    assert np.unravel_index(expected.argmax(), expected.shape)[0] > known.SIZE * 0.4
    assert np.abs(expected[face.region_mask("chin").numpy()]).max() == 0
    assert known.self_test().passed


# --------------------------------------------------------------------------------------------------------- align
def test_align_gives_an_account_by_group_and_keeps_the_meshes(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["dark/1.png", "dark/2 black.png", "light/1.png", "light/2.png"])
    (photos / "dark" / "3.jpg").write_text("no photograph")
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--quiet"]
    arguments += ["--subfolder", "group", "--cache", str(tmp_path / "meshes"), "--left-out", str(tmp_path / "left.csv")]
    values = ok(arguments, capsys)
    assert values["photographs"] == 5 and values["found"] == 3
    assert values["groups"]["dark"] == {"found": 1, "no_face": 1, "not_aligned": 0, "unreadable": 1}
    assert values["groups"]["light"]["found"] == 2
    assert [each["kind"] for each in values["left_out"]] == ["no face", "unreadable"]
    with open(tmp_path / "left.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["dark/2 black.png", "dark/3.jpg"] and "not an image" in rows[1]["reason"]

    assert len(DrawnAligner.calls) == 4
    assert main(arguments) == 0
    assert len(DrawnAligner.calls) == 4, "meshes come from the cache"
    said = capsys.readouterr().out
    assert "faces found in 3 of 5 photographs" in said and "left out: dark/2 black.png" in said
    assert [line.split() for line in said.splitlines() if line.startswith("dark ")] == [["dark", "1", "1", "0", "1"]]


def test_meshes_serve_any_input_size(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    cache = str(tmp_path / "meshes")
    aligner = ["--aligner", "command_tools:DrawnAligner", "--quiet"]
    ok(["align", "--images", str(photos), "--cache", cache, *aligner], capsys)
    DrawnAligner.calls.clear()
    ok(explain(photos, tmp_path / "run", "--cache", cache), capsys)
    assert DrawnAligner.calls == []


# ------------------------------------------------------------------------------------------------------- explain
def test_explain_is_the_call_of_the_library(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    values = ok(explain(photos, tmp_path / "run", "--mean", "0.5", "--std", "0.25", "--seed", 4), capsys)
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
    ok(explain(photos, run), capsys)
    assert ok(explain(photos, run), capsys)["explained"] == 5
    assert "patch_size: 5" in refused(explain(photos, run, "--patch-size", 7), capsys)


def test_targets_groups_and_identities_of_a_table(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "people.csv"
    table.write_text("file,target,group,identity\n00.png,b,x,ada\n01.png,c,y,bob\n02.png,a,x,ada\n")
    columns = ["--csv", table, "--columns", "path=file"]
    ok(explain(photos, tmp_path / "run", *columns, "--target", "given"), capsys)
    records = cc.ModelSaliency.open(tmp_path / "run").records
    rows = sorted(zip(*(records[name] for name in ("name", "target", "group", "identity")), strict=True))
    assert rows == [("00.png", "b", "x", "ada"), ("01.png", "c", "y", "bob"), ("02.png", "a", "x", "ada")]
    ok(explain(photos, tmp_path / "c", *columns, "--target", "c"), capsys)
    assert set(cc.ModelSaliency.open(tmp_path / "c").records["target"]) == {"c"}
    assert "a class (a, b, c)" in refused(explain(photos, tmp_path / "d", "--target", "d"), capsys)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "guided-grad-cam++", "score-cam", "saliency"])
def test_other_methods(method: str, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    own = ["--layer", "deep"] if "cam" in method else []
    arguments = explain(photos, tmp_path / "run", "--method", method, *own)
    at = arguments.index("--points")
    ok(arguments[:at] + arguments[at + 2 :], capsys)
    assert cc.ModelSaliency.open(tmp_path / "run").mean.abs().max() > 0


def test_methods_and_layers_that_do_not_fit(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    def line(*more: str) -> str:
        arguments = explain(photos, tmp_path / "run", *more)
        at = arguments.index("--points")
        return refused(arguments[:at] + arguments[at + 2 :], capsys)

    assert "name one, such as trunk, deep" in line("--method", "grad-cam")
    assert "no layer 'deap'; it has deep" in line("--method", "grad-cam", "--layer", "deap")
    assert "looks into no layer" in line("--layer", "deep")
    assert "--inference: of occlusion only" in line("--method", "saliency", "--inference", "dense")


def test_a_stopping_rule_is_told(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(40)])
    values = ok(explain(photos, tmp_path / "run", "--until", "split-half=0.01", "--batch-size", 16), capsys)
    assert values["explained"] == 32 and values["complete"] and "SplitHalf(0.01)" in values["verdicts"][-1]


def test_outputs_that_are_probabilities_are_noticed(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    common = ["--size", str(SIDE), "--crop", "none"]
    assert main(explain(photos, tmp_path / "a", *common, model="probabilities")) == 0
    assert "look like probabilities" in capsys.readouterr().err
    assert main(explain(photos, tmp_path / "b", *common, "--link", "none", model="probabilities")) == 0
    assert "probabilities" not in capsys.readouterr().err


def test_verbose_says_what_is_decided(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(explain(photos, tmp_path / "run", "--verbose", "--size", SIDE, "--crop", "none", model="counting")) == 0
    assert "captum-canonical: inference is dense: " in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- errors and interruptions
@pytest.mark.parametrize(
    ("images", "part"),
    [
        ("nowhere", "expected a folder of photographs, a .csv file or a list of files; it is none"),
        ("empty", "found none in this folder"),
        ("black", "no face was found in any of 2 photographs"),
        ("bad.csv", "separated by commas"),
    ],
)
def test_photographs_that_are_none(images: str, part: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    write_photos(tmp_path / "black", ["black 1.png", "black 2.png"])
    (tmp_path / "bad.csv").write_text("a;b\n1;2\n")
    assert part in refused(explain(tmp_path / images, tmp_path / "run"), capsys)
    assert not (tmp_path / "run").exists()


def test_debug_shows_where_an_error_comes_from(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(explain(photos, tmp_path / "run", "--debug", model="broken")) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and 'raise RuntimeError("no\\nluck")' in said


def test_an_output_that_is_in_the_way(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    assert "there is a file of that name" in refused(explain(photos, tmp_path / "file"), capsys)
    assert "letter.txt" in refused(explain(photos, tmp_path / "full"), capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_fault_of_ours_is_one_line_too(
    photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captum_canonical.cli.explain.summary", lambda *_: 1 / 0)
    line = refused(explain(photos, tmp_path / "run"), capsys, code=1)
    assert "ZeroDivisionError" in line and "--debug" in line


@pytest.mark.parametrize("package", ["mediapipe", "face_alignment"])
def test_a_missing_extra_says_what_to_install(
    package: str, photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ["align", "--images", str(photos), "--cache", str(tmp_path / "m"), "--quiet"]
    line = refused([*arguments, "--aligner", package.replace("_", "-")], capsys)
    assert "pip install" in line and package.replace("_", "-") in line


def test_ctrl_c_keeps_what_is_finished_and_the_command_goes_on(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    common = ["--size", str(SIDE), "--crop", "none"]
    ok(explain(photos, tmp_path / "whole", *common, model="counting"), capsys)
    Counting.rows, Counting.interrupt_at = 0, int(Counting.rows * 0.6)
    line = refused(explain(photos, tmp_path / "run", *common, model="counting"), capsys, code=130)
    assert f"captum-canonical report {tmp_path / 'run'}" in line and "the same command goes on" in line
    before = cc.ModelSaliency.open(tmp_path / "run")
    assert 0 < before.n < 5 and before.run is not None and not before.run.complete
    Counting.rows = 0
    assert ok(explain(photos, tmp_path / "run", *common, model="counting"), capsys)["complete"]
    first, second = (cc.ModelSaliency.open(tmp_path / name).mean for name in ("whole", "run"))
    assert_close(first, second, rtol=0, atol=0)


def test_ctrl_c_before_anything_is_finished(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    Counting.interrupt_at = 1
    arguments = explain(photos, tmp_path / "run", "--size", SIDE, "--crop", "none", model="counting")
    assert "begins again" in refused(arguments, capsys, code=130)


def test_nothing_is_left_behind(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    """Import path, warnings, environment, signals and random state are as before, after success and after an error."""

    def state() -> list[Any]:
        return [
            list(sys.path),
            list(warnings.filters),
            warnings.showwarning,
            dict(os.environ),
            signal.getsignal(signal.SIGINT),
            torch.get_rng_state().tolist(),
        ]

    before = state()
    ok(explain(photos, tmp_path / "run", "--verbose"), capsys)
    refused(explain(photos, tmp_path / "run2", model="broken"), capsys)
    assert state() == before


# --------------------------------------------------------------------------------------------- hostile file names
def test_hostile_names_break_no_line_and_no_page(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", HOSTILE)
    for name in HOSTILE:
        (photos / f"broken {name}").write_text("no photograph")
    arguments = explain(photos, tmp_path / "run")
    values = ok(arguments, capsys)
    assert sorted(each["name"] for each in values["photographs"]["left_out"]) == sorted(f"broken {n}" for n in HOSTILE)
    assert sorted(cc.ModelSaliency.open(tmp_path / "run").records["name"]) == sorted(HOSTILE)

    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\u202e" not in said.out + said.err
    assert len([line for line in said.out.splitlines() if line.startswith("left out: ")]) == len(HOSTILE)
    assert all(line.startswith("captum-canonical: ") for line in said.err.splitlines())

    ok(["report", str(tmp_path / "run")], capsys)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


# ---------------------------------------------------------------------------------------------- reports of folders
def test_report_of_folders_that_hold_no_run(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    assert "it is empty" in refused(["report", str(tmp_path / "empty")], capsys)
    assert "no manifest.json" in refused(["report", str(tmp_path / "other")], capsys)
    assert "no such folder" in refused(["report", str(tmp_path / "nowhere")], capsys)
    assert "no such folder" in refused(["compare", str(tmp_path / "nowhere"), str(tmp_path / "other")], capsys)


def test_report_of_a_run_that_was_cut_off(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    ok(explain(photos, run), capsys)
    records = run / "records-0.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:3]) + lines[3][:20])  # in the middle of a line, as a crash leaves it
    values = ok(["report", str(run)], capsys)
    assert "2 of 5 photographs are not finished" in values["missing"] and values["bytes"] < 12e6
    assert "2 of 5 photographs are not finished" in (run / "report.html").read_text("utf-8")
    records.write_text("")
    assert "no photograph is explained in this run yet" in refused(["report", str(run)], capsys)
    (run / "manifest.json").write_text('{"format"')
    assert "cannot be read" in refused(["report", str(run)], capsys)


def test_report_names_the_unit_of_the_maps(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for link, unit in (("log_odds", "drop in log-odds"), ("probability", "drop in probability")):
        ok(explain(photos, tmp_path / link, "--link", link), capsys)
        path = Path(ok(["report", str(tmp_path / link), "--out", str(tmp_path / "page.html")], capsys)["report"])
        assert unit in path.read_text("utf-8")


# ----------------------------------------------------------------------------------------------------- benchmark
def test_benchmark(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = explain(photos, tmp_path / "out", "--methods", "occlusion,grad-cam,saliency", "--layer", "deep")
    arguments = ["benchmark", *arguments[1:], "--fills", "mean", "--folds", "2"]
    estimate = ok([*arguments, "--dry-run"], capsys)
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
    assert "got nonsense" in refused([*arguments, "--methods", "nonsense"], capsys)


# ------------------------------------------------------------------------------------------------------- compare
def test_compare(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    others = write_photos(tmp_path / "others", [f"{number:02}.png" for number in range(5)], first=50)
    for name, source, more in (("a", photos, ()), ("b", photos, ("--target", "a")), ("c", others, ())):
        ok(explain(source, tmp_path / name, *more), capsys)
    a, b, c = (str(tmp_path / name) for name in "abc")
    few = ["--permutations", "50"]
    assert ok(["compare", a, b, *few], capsys)["kind"] == "models"
    groups = ok(["compare", a, c, *few], capsys)
    assert groups["kind"] == "groups"
    assert main(["compare", a, c, *few]) == 0
    assert "two groups of photographs" in capsys.readouterr().out
    assert "--match: of two groups only" in refused(["compare", a, b, "--match", "pose"], capsys)


def test_compare_says_what_makes_the_sides_unlike(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    """Both ways to print have all notes: unfinished runs, other settings, other units; sides go by their folders."""
    for name, more in (("old", ()), ("new", ("--patch-size", "9", "--link", "none"))):
        ok(explain(photos, tmp_path / name, *more), capsys)
    records = next((tmp_path / "new").glob("records-*.jsonl"))
    records.write_text("\n".join(records.read_text().splitlines()[:-1]) + "\n")
    arguments = ["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--permutations", "50"]
    values = ok(arguments, capsys)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "old" in values["verdict"] and "new" in values["verdict"]
    for words in ("are not finished", "were made with different settings", "different units"):
        assert any(words in note for note in values["notes"]) and words in printed


# ------------------------------------------------------------------------------------------------- real networks
def test_the_examples_gender_network(shared: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    """The reference of the documentation, from the repository's root, on real photographs."""
    monkeypatch.chdir(Path(__file__).parents[2])
    table = tmp_path / "some.csv"
    names = sorted(path.name for path in (shared / "data/celeba_prnet/images").iterdir())[:3]
    table.write_text("path\n" + "\n".join(names) + "\n")
    arguments = ["explain", "--csv", table, "--images", shared / "data/celeba_prnet/images", "--out", tmp_path / "run"]
    arguments += ["--model", "examples.real_networks:gender", "--weights", shared / "models", "--points", 64, "--quiet"]
    values = ok([str(each) for each in arguments], capsys)
    assert values["explained"] == 3
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["arguments"]["patch_size"] == 15
