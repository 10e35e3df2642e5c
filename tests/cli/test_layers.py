"""``--layer`` and ``--layout``: the last layer with positions by default, and layers of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.cli.command import main
from command_tools import SIDE, Capture, explain_command, run_error, run_json, write_photos
from layout_tools import SmallViT, twin


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", [f"{number}.png" for number in range(4)])


def command(photos: Path, out: Path, *more: Any, model: str = "with_settings") -> list[str]:
    return explain_command(photos, out, "--method", "grad-cam", *more, model=model, points=None)


def test_the_last_layer_is_the_default_and_is_named(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    loud = [word for word in command(photos, tmp_path / "a") if word != "--quiet"]
    assert main(loud) == 0
    assert "--layer deep: the last layer with positions" in capsys.readouterr().err
    run_json(command(photos, tmp_path / "b", "--layer", "deep"), capsys)
    assert_close(cc.ModelSaliency.open(tmp_path / "a").mean, cc.ModelSaliency.open(tmp_path / "b").mean)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert "layer model.deep" in json.dumps(manifest["settings"])
    assert main(command(photos, tmp_path / "a", "--layer", "trunk")) == 2  # another run's folder
    assert main(command(photos, tmp_path / "a", "--layer", "deep")) == 0  # the same one


def test_tokens(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    """As a twin that permutes."""
    run_json(command(photos, tmp_path / "run", model="layout_tools:vit"), capsys)
    run = cc.ModelSaliency.open(tmp_path / "run")
    net, maps = twin(SmallViT((SIDE, SIDE)), "blocks.2.norm1", (6, 6), 1)
    confidence = cc.ClassConfidence(net, link="log_odds")
    assert run.run is not None
    data = cc.AlignedFaces(photos, _aligner(), size=(SIDE, SIDE), crop=None)
    expected = cc.explain_dataset(
        confidence, data, tmp_path / "other", method=LayerGradCam(confidence, maps), show_progress=False
    )
    assert_close(run.mean, expected.mean, rtol=1e-4, atol=1e-6)
    assert run.mean.abs().max() > 1e-4


def test_a_layout_in_doubt(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    model = "layout_tools:doubtful"
    given = ["--layer", "blocks.1"]
    assert 'write layout="tokens:HEIGHTxWIDTH:PREFIX"' in run_error(
        command(photos, tmp_path / "run", *given, model=model), capsys
    )
    layout = ["--layout", "tokens:6x6:18"]
    run_json(command(photos, tmp_path / "out", *given, *layout, model=model), capsys)
    assert cc.ModelSaliency.open(tmp_path / "out").mean.abs().max() > 0
    other = ["--layout", "tokens:6x6"]
    assert "layout" in run_error(command(photos, tmp_path / "out", *given, *other, model=model), capsys)
    assert "expected" in run_error(command(photos, tmp_path / "x", *given, "--layout", "rows", model=model), capsys)


def test_benchmark(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    words = explain_command(photos, tmp_path / "scores", "--methods", "grad-cam,grad-cam++", model="layout_tools:vit")
    values = run_json(["benchmark", *words[1:], "--fills", "zero", "--folds", "2"], capsys)
    assert all(row["failure"] is None for row in values["rows"])


def test_no_layer_to_look_into(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    error = run_error(command(photos, tmp_path / "run", model="layout_tools:flat"), capsys)
    assert "--layer: grad-cam looks into a layer, and none was found" in error and "name one" in error


def _aligner() -> Any:
    from command_tools import DrawnAligner

    return DrawnAligner()


def test_noise_is_the_same_each_time() -> None:
    from captum_canonical.cli.layers import _noise

    first, again = (_noise(SmallViT(), {"size": (8, 6), "channels": "L"}, torch.device("cpu")) for _ in range(2))
    assert first.shape == (1, 1, 8, 6) and torch.equal(first, again)
