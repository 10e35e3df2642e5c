"""ONNX files: any number of images, any layout, and a network of torch only where it is the same one."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.fingerprint import network_digest
from captum_canonical.networks.from_onnx import OnnxNetwork
from face_tools import mesh_of
from onnx_tools import OnnxTwin, node, write_onnx, write_twin

X = torch.rand(5, 3, 24, 24, generator=torch.Generator().manual_seed(1))
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def _without_onnx2torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)


def converter(monkeypatch: pytest.MonkeyPatch, convert: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", SimpleNamespace(convert=convert))
    monkeypatch.setitem(sys.modules, "onnx", None)


@pytest.mark.parametrize(
    ("rows", "layout", "flat", "kind"),
    [
        ("n", "NCHW", 0, "OnnxNetwork"),
        ("n", "NHWC", 0, "OnnxNetwork"),
        ("n", "NCHW", 1, "FixedBatch"),  # open in its input, but not inside
        (1, "NCHW", 1, "FixedBatch"),
        (2, "NHWC", 2, "FixedBatch"),
        (8, "NCHW", 0, "FixedBatch"),
    ],
)
def test_outputs_are_those_of_the_network(
    rows: int | str, layout: str, flat: int, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "captum_canonical")
    path = write_twin(tmp_path / "twin.onnx", rows, layout=layout, flat=flat)
    loaded = cc.load_network(path)
    assert_close(loaded.network(X), OnnxTwin()(X).detach(), rtol=0, atol=1e-5)
    assert loaded.settings.size == (24, 24) and type(loaded.network).__name__ == kind
    assert (f"takes {1 if rows == 'n' else rows} images at once" in caplog.text) == (kind == "FixedBatch")
    assert "pip install onnx2torch" in caplog.text


def test_bytes_are_images_of_0_to_255(tmp_path: Path) -> None:
    loaded = cc.load_network(write_twin(tmp_path / "twin.onnx", kind="uint8", flat=0))
    given = (X - loaded.settings.mean) / loaded.settings.std
    assert_close(loaded.network(given), OnnxTwin()((255 * X).round()).detach(), rtol=1e-4, atol=1e-3)


def test_it_is_explained_by_occlusion_and_says_that_it_has_no_gradients(tmp_path: Path) -> None:
    net = cc.load_network(write_twin(tmp_path / "twin.onnx", 1)).network
    faces = mesh_of(cc.CanonicalFace.default(), 2, 24)
    maps, expected = (
        cc.CanonicalOcclusion(cc.ClassConfidence(each, link="log_odds"), faces).attribute(X[:2], 1, num_points=50)
        for each in (net, OnnxTwin().eval())
    )
    assert_close(maps, expected, rtol=0, atol=1e-5)
    with pytest.raises(CanonicalError, match="onnxruntime computes no gradients; explain it by occlusion"):
        cc.CanonicalProjector(Saliency(net), faces).attribute(X[:2], target=1)


def test_a_run_of_it_goes_on_and_one_of_another_file_does_not(tmp_path: Path) -> None:
    first, same = (cc.load_network(write_twin(tmp_path / f"{name}.onnx")).network for name in "ab")
    other = cc.load_network(write_twin(tmp_path / "c.onnx", layout="NHWC")).network
    assert network_digest(first) == network_digest(same) != network_digest(other)


# ------------------------------------------------------------------------------------------------ as a network of torch
def test_the_network_of_torch_is_taken_where_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converter(monkeypatch, lambda path: OnnxTwin())
    path = write_twin(tmp_path / "twin.onnx", flat=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = cc.load_network(path)
    assert isinstance(loaded.network, OnnxTwin) and not loaded.network.training
    faces = mesh_of(cc.CanonicalFace.default(), 1, 24)
    inner = Saliency(loaded.network)
    assert float(cc.CanonicalProjector(inner, faces).attribute(X[:1].requires_grad_(), target=1).abs().max()) > 0


class OneAtATime(OnnxTwin):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().view(1, 400))


def test_the_network_of_torch_may_take_a_fixed_number_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter(monkeypatch, lambda path: OneAtATime())
    network = cc.load_network(write_twin(tmp_path / "twin.onnx", 1)).network
    assert_close(network(X), OnnxTwin()(X), rtol=0, atol=1e-5)
    assert any(isinstance(each, OneAtATime) for each in network.modules())


def _other(path: str) -> nn.Module:
    net = OnnxTwin()
    with torch.no_grad():
        net.conv.weight[0] *= 1.1
    return net


@pytest.mark.parametrize(
    ("convert", "part"),
    [
        (_other, "outputs that differ by"),
        (lambda path: nn.Flatten(), r"outputs of shape \[\(3, 1728\)\]"),
        (lambda path: nn.Linear(2, 2), "mat1 and mat2"),
    ],
)
def test_another_network_of_torch_is_not_taken(
    convert: Any, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converter(monkeypatch, convert)
    with pytest.warns(UserWarning, match=f"onnx2torch makes another network of it .*{part}.* so onnxruntime runs it"):
        loaded = cc.load_network(write_twin(tmp_path / "twin.onnx", flat=0))
    assert isinstance(loaded.network, OnnxNetwork)


def test_what_cannot_be_converted_is_run_by_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def convert(path: str) -> nn.Module:
        raise NotImplementedError("Gelu")

    converter(monkeypatch, convert)
    caplog.set_level(logging.INFO, "captum_canonical")
    assert isinstance(cc.load_network(write_twin(tmp_path / "twin.onnx", flat=0)).network, OnnxNetwork)
    assert "cannot make a network of it (Gelu.)" in caplog.text


# -------------------------------------------------------------------------------------------------- what is refused
def test_what_is_no_network_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, added = ("n", 3, 8, 8), [node("Add", ["one", "two"], "sum")]
    pair = write_onnx(
        tmp_path / "pair.onnx", added, dict.fromkeys(("one", "two"), (images, "float32")), {"sum": images}
    )
    with pytest.raises(CanonicalError, match=r"got 2: one \['n', 3, 8, 8\], two .*; write a function"):
        cc.load_network(pair)
    rows = write_onnx(tmp_path / "rows.onnx", [node("Relu", ["x"], "y")], {"x": (("n", 5), "float32")}, {"y": ("n", 5)})
    with pytest.raises(CanonicalError, match=r"expected an input of images.* got x \['n', 5\]"):
        cc.load_network(rows)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(CanonicalError, match="onnxruntime cannot read the file"):
        cc.load_network(tmp_path / "broken.onnx")
    with pytest.raises(CanonicalError, match="it fails on images of noise"):
        cc.load_network(write_twin(tmp_path / "twin.onnx", 1, flat=7))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime"):
        cc.load_network(pair)


def test_two_outputs_have_their_names(tmp_path: Path) -> None:
    steps = [node("Flatten", ["x"], "flat"), node("Relu", ["flat"], "relu")]
    outputs = {"flat": ("n", 48), "relu": ("n", 48)}
    path = write_onnx(tmp_path / "two.onnx", steps, {"x": (("n", 3, 4, 4), "float32")}, outputs)
    found = cc.load_network(path).network(X[:, :, :4, :4] - 0.5)
    assert list(found) == ["flat", "relu"] and float(found["relu"].min()) == 0 > float(found["flat"].min())


def test_weights_in_a_file_beside_it_count(tmp_path: Path) -> None:
    """As torch.onnx.export writes them: the graph is the same for any weights."""
    found = []
    for factor in (1.0, 2.0, 2.0):
        weights = {"weight": np.full((4, 3, 1, 1), factor, np.float32)}
        path = write_onnx(
            tmp_path / "net.onnx",
            [node("Conv", ["input", "weight"], "maps"), node("Flatten", ["maps"], "scores")],
            {"input": (("n", 3, 1, 1), "float32")},
            {"scores": ("n", 4)},
            weights,
            tmp_path / ("long name of a file " * 9 + ".data"),
        )
        loaded = cc.load_network(path)
        assert_close(loaded.network(torch.ones(1, 3, 1, 1)), torch.full((1, 4), 3 * factor))
        found.append((loaded.key, network_digest(loaded.network)))
    (key, digest), other, again = found
    assert other == again and key != other[0] and digest != other[1]
