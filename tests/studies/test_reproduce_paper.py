"""The script that makes the paper's figures: from real photographs to a page, and on from where it was interrupted."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from studies.paper import command, page
from studies.paper.command import FIGURES, chosen, file_name
from studies.paper.drawing import not_blank


def reproduce(monkeypatch: pytest.MonkeyPatch, shared: Path, out: Path, *more: str) -> None:
    folders = ["--images", shared / "data/celeba_prnet/images", "--models", shared / "models", "--out", out]
    monkeypatch.setattr(sys, "argv", ["reproduce_paper.py", *map(str, folders), "--quick", *more])
    command.main()


def test_figures_are_made_once_and_put_on_the_page(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--photos", "5", "--only", "3,19")
    reproduce(monkeypatch, shared, tmp_path, *arguments)
    for name in ("fig03", "fig19"):
        assert not_blank(tmp_path / f"{name}.png") and page.read(tmp_path / f"{name}.json").n >= 1
    written = (tmp_path / "study.md").read_text()
    assert "![Figure 3: the procedure](fig03.png)" in written and "| points | 48 |" in written
    assert "**Not enough data.** Fewer than 3 photographs, so no map" in written  # nine poses of five people
    assert written.count("Not computed in this run.") == len(FIGURES) - 2
    headings = re.findall(r"^## (Figure \d+|Section V-F|What the paper)", written, re.MULTILINE)
    assert len(headings) == len(FIGURES)

    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("fig*")}
    (tmp_path / "fig19.json").unlink()  # as if it had been interrupted there
    reproduce(monkeypatch, shared, tmp_path, *arguments)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("fig*")}
    assert {name for name in before if before[name] != after[name]} == {"fig19.json", "fig19.png"}

    with pytest.raises(SystemExit, match=r"holds results of other settings: \{'photos': \(5, 6\)\}"):
        reproduce(monkeypatch, shared, tmp_path, "--photos", "6", "--only", "3")


def test_all_figures_of_the_paper_are_there() -> None:
    assert [key for key in FIGURES if key.isdigit()] == [f"{number:02d}" for number in range(1, 22)]
    assert chosen("1, 21,costs") == ["01", "21", "costs"] and chosen(None) == list(FIGURES)
    with pytest.raises(SystemExit, match="--only: expected some of 01, 02"):
        chosen("22")


def test_a_record_is_what_was_saved(tmp_path: Path) -> None:
    figure = page.Figure("a title", "text | with a bar", 3, page.table([("a", "b"), ("1|2", "line\nbreak")]))
    page.save(figure, tmp_path / "one.json")
    assert page.read(tmp_path / "one.json") == figure
    assert figure.table == "| a | b |\n| --- | --- |\n| 1\\|2 | line break |"
    assert json.loads((tmp_path / "one.json").read_text())["n"] == 3 and not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_the_quick_run_writes_every_file(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce(monkeypatch, shared, tmp_path)
    written = (tmp_path / "study.md").read_text()
    assert "Not computed" not in written
    for key in FIGURES:
        picture, record = (tmp_path / f"{file_name(key)}.{ending}" for ending in ("png", "json"))
        assert not_blank(picture) if picture.exists() else page.read(record).missing
        assert not picture.exists() or f"({picture.name})" in written
    others = [tmp_path / name for key in FIGURES for name in page.read(tmp_path / f"{file_name(key)}.json").more]
    stimuli = sorted((tmp_path / "survey").glob("*.png"))
    assert len(others) >= 1 and len(stimuli) >= 10
    assert [str(picture) for picture in [*others, *stimuli] if not not_blank(picture)] == []
    missing = {name for name in re.findall(r"\]\(([^)]+)\)", written) if not (tmp_path / name).exists()}
    assert not missing, f"the page names files that are not there: {missing}"
