"""Every form in which a network is given explains the same: the command line beside the library, with stand-ins."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
import command_tools
import peer_packages
from command_tools import SIDE, Capture, DrawnAligner, explain_command, run_error, run_json
from onnx_tools import OnnxTwin, write_twin

Form = tuple[nn.Module, list[Any]]


class Flat(nn.Module):
    """A trunk and a head, between which the number of images is written down when it is traced or exported."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.net, self.rows = command_tools.Net(), rows

    def forward(self, x: Tensor) -> Tensor:
        features = self.net.deep(self.net.trunk(x).relu()).relu()
        return self.net.head(features.reshape(self.rows, -1))


def timm_form(folder: Path) -> Form:
    net = peer_packages.Small(3)
    torch.save(net.state_dict(), folder / "w.pth")
    return net, ["--model", "timm:small", "--weights", folder / "w.pth", "--size", SIDE]


def hugging_face_form(folder: Path) -> Form:
    preprocessor = {"size": SIDE, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25] * 3}
    net = peer_packages.save_folder(folder / "net", {0: "a", 1: "b", 2: "c"}, preprocessor)
    return net, ["--model", f"hf:{folder / 'net'}"]


def onnx_form(folder: Path) -> Form:
    return OnnxTwin(), ["--model", write_twin(folder / "net.onnx", 2, flat=2)]


def exported_form(folder: Path) -> Form:
    program = torch.export.export(Flat(3).eval(), (torch.rand(3, 3, SIDE, SIDE),))
    torch.export.save(program, folder / "net.pt2")
    return command_tools.net(), ["--model", folder / "net.pt2"]


def traced_form(folder: Path) -> Form:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Flat(1).eval(), torch.rand(1, 3, SIDE, SIDE)).save(folder / "net.pt")
    return command_tools.net(), ["--model", folder / "net.pt", "--size", SIDE]


def factory_form(folder: Path) -> Form:
    net = command_tools.net()
    with torch.no_grad():
        net.head.weight.mul_(-1)  # type: ignore[operator, union-attr]
    torch.save(net.state_dict(), folder / "w.pth")
    return net, ["--model", "command_tools:net", "--weights", folder / "w.pth", "--size", SIDE]


FORMS: dict[str, Callable[[Path], Form]] = {
    "timm": timm_form,
    "hf": hugging_face_form,
    "onnx": onnx_form,
    "torch.export": exported_form,
    "TorchScript": traced_form,
    "factory": factory_form,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_command_line_explains_the_same_network(
    form: str, photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "timm", peer_packages.timm())
    monkeypatch.setitem(sys.modules, "transformers", peer_packages.transformers())
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    net, options = FORMS[form](tmp_path)
    command = explain_command(photos, tmp_path / "run", *options, "--crop", "none", "--patch-size", 5, points=30)
    values = run_json(command, capsys)
    assert values["explained"] == 5 and values["failed"] == []
    found = cc.ModelSaliency.open(tmp_path / "run")
    given = found.run.settings["input"]
    data = cc.AlignedFaces(
        photos, DrawnAligner(), size=tuple(given["size"]), crop=None, mean=given["mean"], std=given["std"]
    )
    normalised = {"timm": [0.5, 0.4, 0.3], "hf": [0.5, 0.4, 0.3]}.get(form, [0.0])
    assert given["mean"] == pytest.approx(normalised)
    method: Any = {"num_points": 30, "patch_size": 5, "batch_size": 2, "show_progress": False}
    confidence = cc.ClassConfidence(net.eval(), link="log_odds")
    expected = cc.explain_dataset(confidence, data, tmp_path / "library", **method)
    assert_close(found.mean, expected.mean, rtol=1e-3, atol=5e-6)
    assert float(found.mean.abs().max()) > 1e-4
    assert run_json(command, capsys)["explained"] == 5, "the same command goes on"


def test_what_each_form_says_of_what_is_missing(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for model, part in (
        ("hf:nowhere", "--model hf:nowhere: expected a folder with config.json"),
        (tmp_path, f"--model {tmp_path}: this is a folder; one of Hugging Face is given as hf:"),
        ("net.keras", "--model net.keras: expected package.module:factory, timm:NAME, hf:FOLDER, an ONNX"),
    ):
        assert part in run_error(explain_command(photos, tmp_path / "run", "--model", model), capsys)
    weights = ["--model", "command_tools:net", "--weights", tmp_path]
    error = run_error(explain_command(photos, tmp_path / "run", *weights), capsys)
    assert f"--weights {tmp_path}: expected a file of weights, got a folder" in error
