"""``align``: counts by group, photographs that are left out, and the cache of meshes."""

from __future__ import annotations

import csv
from pathlib import Path

from captum_canonical.cli.command import main
from command_tools import Capture, DrawnAligner, explain_command, run_json, write_photos


def test_align_gives_an_account_by_group_and_keeps_the_meshes(tmp_path: Path, capsys: Capture) -> None:
    photos = write_photos(tmp_path / "photos", ["dark/1.png", "dark/2 black.png", "light/1.png", "light/2.png"])
    (photos / "dark" / "3.jpg").write_text("no photograph")
    arguments = ["align", "--images", str(photos), "--aligner", "command_tools:DrawnAligner", "--quiet"]
    arguments += ["--subfolder", "group", "--cache", str(tmp_path / "meshes"), "--left-out", str(tmp_path / "left.csv")]
    values = run_json(arguments, capsys)
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
    run_json(["align", "--images", str(photos), "--cache", cache, *aligner], capsys)
    DrawnAligner.calls.clear()
    run_json(explain_command(photos, tmp_path / "run", "--cache", cache), capsys)
    assert DrawnAligner.calls == []
