"""``report`` and ``compare``: commands on finished and unfinished runs."""

from __future__ import annotations

from pathlib import Path

from captum_canonical.cli.command import main
from command_tools import Capture, explain_command, run_error, run_json, write_photos


def test_report_of_folders_that_hold_no_run(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    assert "it is empty" in run_error(["report", str(tmp_path / "empty")], capsys)
    assert "no manifest.json" in run_error(["report", str(tmp_path / "other")], capsys)
    assert "no such folder" in run_error(["report", str(tmp_path / "nowhere")], capsys)
    assert "no such folder" in run_error(["compare", str(tmp_path / "nowhere"), str(tmp_path / "other")], capsys)


def test_report_of_a_run_that_was_cut_off(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    run_json(explain_command(photos, run), capsys)
    records = run / "records-0.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:3]) + lines[3][:20])  # in the middle of a line, as a crash leaves it
    values = run_json(["report", str(run)], capsys)
    assert "2 of 5 photographs are not finished" in values["missing"] and values["bytes"] < 12e6
    assert "2 of 5 photographs are not finished" in (run / "report.html").read_text("utf-8")
    records.write_text("")
    assert "no photograph is explained in this run yet" in run_error(["report", str(run)], capsys)
    (run / "manifest.json").write_text('{"format"')
    assert "cannot be read" in run_error(["report", str(run)], capsys)


def test_report_names_the_unit_of_the_maps(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for link, unit in (("log_odds", "drop in log-odds"), ("probability", "drop in probability")):
        run_json(explain_command(photos, tmp_path / link, "--link", link), capsys)
        path = Path(run_json(["report", str(tmp_path / link), "--out", str(tmp_path / "page.html")], capsys)["report"])
        assert unit in path.read_text("utf-8")


def test_compare(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    others = write_photos(tmp_path / "others", [f"{number:02}.png" for number in range(5)], first=50)
    for name, source, more in (("a", photos, ()), ("b", photos, ("--target", "a")), ("c", others, ())):
        run_json(explain_command(source, tmp_path / name, *more), capsys)
    a, b, c = (str(tmp_path / name) for name in "abc")
    few = ["--permutations", "50"]
    assert run_json(["compare", a, b, *few], capsys)["kind"] == "models"
    groups = run_json(["compare", a, c, *few], capsys)
    assert groups["kind"] == "groups"
    assert main(["compare", a, c, *few]) == 0
    assert "two groups of photographs" in capsys.readouterr().out
    assert "--match: of two groups only" in run_error(["compare", a, b, "--match", "pose"], capsys)


def test_compare_says_what_makes_the_sides_unlike(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    """Both ways to print have all notes: unfinished runs, other settings, other units; sides go by their folders."""
    for name, more in (("old", ()), ("new", ("--patch-size", "9", "--link", "none"))):
        run_json(explain_command(photos, tmp_path / name, *more), capsys)
    records = next((tmp_path / "new").glob("records-*.jsonl"))
    records.write_text("\n".join(records.read_text().splitlines()[:-1]) + "\n")
    arguments = ["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--permutations", "50"]
    values = run_json(arguments, capsys)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "old" in values["verdict"] and "new" in values["verdict"]
    for words in ("are not finished", "were made with different settings", "different units"):
        assert any(words in note for note in values["notes"]) and words in printed
