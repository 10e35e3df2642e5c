"""The entry point: help, exit codes, one line for each error, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import captum_canonical as cc
from captum_canonical.cli import results
from captum_canonical.cli.command import main
from captum_canonical.cli.console import CommandResult
from command_tools import Capture, explain_command, run_error, run_json, write_photos

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
        (explain_command("photos", "run", "--size", "big"), "expected pixels or HEIGHTxWIDTH, got 'big'"),
        (explain_command("photos", "run", "--until", "split-half=2"), "a number above 0 and below 1"),
        (explain_command("photos", "run", "--mean", "0.1;0.2"), "numbers with commas"),
        (explain_command("photos", "run", "--batch-size", "0"), "from 1 on"),
        (explain_command("photos", "run", "--crop", "1,2,3"), "LEFT,TOP,RIGHT,BOTTOM"),
        (explain_command("photos", "run", "--crop", "arcfaces"), "face, none, arcface, dlib, facenet or LEFT"),
        (explain_command("photos", "run", "--columns", "file"), "NAME=COLUMN"),
    ):
        line = run_error(arguments, capsys)
        assert part in line and "--help" in line


def test_the_installed_program_and_the_module_are_the_same() -> None:
    program = Path(sys.executable).with_name("captum-canonical")
    if not program.exists():
        pytest.skip("the package runs from its source folder, not installed")
    for command in ([str(program)], [sys.executable, "-m", "captum_canonical.cli"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == f"captum-canonical {cc.__version__}\n"


@pytest.mark.parametrize(
    ("images", "part"),
    [
        (
            "nowhere",
            "expected a folder of photographs, a photograph or a label table, but there is no such folder or file",
        ),
        ("empty", "found none in this folder"),
        ("black", "no face was found in any of 2 photographs"),
        ("bad.csv", "expected a column 'path', got ['a', 'b']. Name it by --columns path=NAME."),
    ],
)
def test_photographs_that_are_none(images: str, part: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    write_photos(tmp_path / "black", ["black 1.png", "black 2.png"])
    (tmp_path / "bad.csv").write_text("a;b\n1;2\n")
    assert part in run_error(explain_command(tmp_path / images, tmp_path / "run"), capsys)
    assert not (tmp_path / "run").exists()


def test_debug_shows_where_an_error_comes_from(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(explain_command(photos, tmp_path / "run", "--debug", model="broken")) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said and 'raise RuntimeError("no\\nluck")' in said


def test_a_fault_of_ours_is_one_line_too(
    photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captum_canonical.cli.explain._summary", lambda *_: 1 / 0)
    line = run_error(explain_command(photos, tmp_path / "run"), capsys, code=1)
    assert "ZeroDivisionError" in line and "--debug" in line


@pytest.mark.parametrize("package", ["mediapipe", "face_alignment"])
def test_a_missing_extra_says_what_to_install(
    package: str, photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ["align", "--images", str(photos), "--cache", str(tmp_path / "m"), "--quiet"]
    line = run_error([*arguments, "--aligner", package.replace("_", "-")], capsys)
    can_be_had = package != "mediapipe" or sys.version_info < (3, 13)
    assert ("pip install" if can_be_had else "face_landmarker.task") in line and package.replace("_", "-") in line


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
    run_json(explain_command(photos, tmp_path / "run", "--verbose"), capsys)
    run_error(explain_command(photos, tmp_path / "run2", model="broken"), capsys)
    assert state() == before


def test_hostile_names_break_no_line_and_no_page(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", HOSTILE)
    for name in HOSTILE:
        (photos / f"broken {name}").write_text("no photograph")
    arguments = explain_command(photos, tmp_path / "run")
    values = run_json(arguments, capsys)
    assert sorted(each["name"] for each in values["photographs"]["left_out"]) == sorted(f"broken {n}" for n in HOSTILE)
    assert sorted(cc.ModelSaliency.open(tmp_path / "run").records["name"]) == sorted(HOSTILE)

    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\u202e" not in said.out + said.err
    assert len([line for line in said.out.splitlines() if line.startswith("left out: ")]) == len(HOSTILE)
    assert all(line.startswith("captum-canonical: ") for line in said.err.splitlines())

    run_json(["report", str(tmp_path / "run")], capsys)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


def test_commands_without_a_reference_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def report(_: object) -> CommandResult:
        seen.append([str(Path(place).resolve()) for place in sys.path])
        return CommandResult("", {})

    monkeypatch.setattr(results, "run_report", report)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "run"]) == 0
    assert str(tmp_path.resolve()) not in seen[0]
