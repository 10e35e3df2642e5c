"""``report`` and ``compare``: commands on finished and unfinished runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from plotly.offline import get_plotlyjs

import captum_canonical as cc
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


# --------------------------------------------------------------------------------------------------- people count
def run_of_people(folder: Path, identities: list[str], capsys: Capture) -> Path:
    """A run over photographs of these people, from a table."""
    write_photos(folder / "photos", [f"{number}.png" for number in range(len(identities))])
    rows = [f"photos/{number}.png,{name}" for number, name in enumerate(identities)]
    (folder / "table.csv").write_text("\n".join(["path,identity", *rows]) + "\n")
    arguments = explain_command("", folder / "run", "--csv", str(folder / "table.csv"))
    del arguments[1:3]  # --images
    run_json(arguments, capsys)
    return folder / "run"


@pytest.mark.parametrize("weights", [None, "photographs", "people"])
def test_report_counts_photographs_or_people(
    weights: str | None, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the page is what region_table finds with the same weights, and the page and the command say so."""
    from captum_canonical.reporting import findings

    run = run_of_people(tmp_path, ["Ann", "Ann", "Ann", "Ann", "Bob", "Cleo", ""], capsys)
    found: list[cc.RegionTable] = []
    monkeypatch.setattr(findings, "region_table", lambda result: found.append(cc.region_table(result)) or found[-1])
    arguments = ["report", str(run), *([] if weights is None else ["--weights", weights])]
    values = run_json(arguments, capsys)
    assert values["weights"] == (weights or "photographs")
    result = cc.ModelSaliency.open(run).weighted(values["weights"])
    assert found[0].as_json() == cc.region_table(result).as_json() and found[0].weights == values["weights"]
    page, once = Path(values["report"]).read_text("utf-8"), weights == "people"
    assert ("Mean over 7 photographs, every person counted once" in page) == once
    assert ("The mean of the maps of all people, each the mean over their photographs" in page) == once
    assert ("Photographs in which the place is seen." in page) != once
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "people count equally in the mean map: 4 people. 1 photographs of unknown people count as" in printed
    ) == once
    assert not torch.equal(result.weighted("people").mean, result.weighted("photographs").mean)


def test_weights_that_nothing_is_counted_by(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run_json(explain_command(photos, tmp_path / "run"), capsys)
    assert main(["report", str(tmp_path / "run"), "--weights", "people"]) == 0
    assert "5 photographs. Identities are not known" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "run"), "--weights", "persons"]) == 2
    assert "invalid choice: 'persons'" in capsys.readouterr().err
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "benchmark.json").write_text("{}")
    line = run_error(["report", str(tmp_path / "scores"), "--weights", "people"], capsys)
    assert "--weights: of runs of explain only; this is the folder of a benchmark" in line


# ------------------------------------------------------------------------------------------ the places of the files
@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """A copy that cannot be written to, and a user to whom permissions apply."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(folder, Path(place) / "run"))
        os.chmod(place, 0o755)
        for path in (*copy.iterdir(), copy):
            path.chmod(0o555 if path.is_dir() else 0o444)
        mine = os.geteuid()
        if mine == 0:
            os.seteuid(65534)
        try:
            yield copy
        finally:
            os.seteuid(mine)
            copy.chmod(0o755)


def test_report_of_a_folder_that_cannot_be_written_to(
    photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_json(explain_command(photos, tmp_path / "run"), capsys)
    run_json(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")], capsys)  # all is imported now
    # The user to come may not be allowed to read what is installed for this one.
    plotly = get_plotlyjs()
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: plotly)

    def opened(*_: Any) -> None:
        raise AssertionError("the maps were read before the place of the page was looked at")

    with read_only(tmp_path / "run") as folder:
        with monkeypatch.context() as patched:
            patched.setattr(cc.ModelSaliency, "open", opened)
            line = run_error(["report", str(folder)], capsys)
            assert f"{folder}/report.html: expected a place for the page, but it cannot be written" in line
            assert line.endswith("Choose another place with --out, such as --out report.html.")
            line = run_error(["report", str(folder), "--out", str(folder / "page.html")], capsys)
            assert f"{folder}/page.html: expected a place for the page" in line and "another place" not in line
        with tempfile.TemporaryDirectory() as mine:
            arguments = ["report", str(folder), "--out", str(Path(mine) / "page.html"), "--no-photos"]
            assert run_json(arguments, capsys)["bytes"] > 1000
        assert main(["compare", str(folder), str(folder), "--json"]) == 2
        capsys.readouterr()


def test_explain_of_a_finished_run_that_cannot_be_written_to(tmp_path: Path, capsys: Capture) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        photos = write_photos(Path(place) / "photos", ["0.png", "1.png"])
        run_json(explain_command(photos, tmp_path / "run"), capsys)
        with read_only(tmp_path / "run") as folder:
            values = run_json(explain_command(photos, folder), capsys)
    assert values["complete"] and values["explained"] == 2


def test_one_run_is_not_compared_with_itself(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    run_json(explain_command(photos, tmp_path / "run"), capsys)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for other in (tmp_path / "run", tmp_path / "link", tmp_path / "photos/../run"):
        line = run_error(["compare", str(tmp_path / "run"), str(other)], capsys)
        assert "expected two runs, but this is one folder" in line and "captum-canonical report" in line
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    values = run_json(["compare", str(tmp_path / "run"), str(tmp_path / "copy"), "--permutations", "50"], capsys)
    assert values["kind"] == "models" and "no difference" in values["verdict"].lower()
