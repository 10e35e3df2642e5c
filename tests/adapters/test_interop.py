"""pytorch-grad-cam and Quantus themselves, and the examples about them.

The tests run twice: with a stand-in of the interface that they document (`peers.py`),
and with the package itself, where it is installed. It is no part of ``.[test]``; `.ci/run` installs both packages at
its end and runs this file again. By hand, in an environment that has ``.[test]``::

    pip install -c constraints.txt quantus && pip install -c constraints.txt --no-deps grad-cam ttach
    pytest tests/adapters/test_interop.py
"""

from __future__ import annotations

import csv
import importlib
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, Saliency
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

import peers
from captum_canonical import (
    AlignmentError,
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    CanonicalProjector,
    ClassConfidence,
    FaceMesh,
    LayerGradCamPlusPlus,
    LayerScoreCam,
    benchmark,
)
from captum_canonical.adapters.explain_func import as_explain_func
from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.faithfulness.imputation import ImputedFill
from interop_tools import QUICK, SIDE, FeatureNet


@pytest.fixture(params=["stand-in", "package"])
def grad_cam(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """pytorch-grad-cam."""
    return _peer("pytorch_grad_cam", request.param, monkeypatch)


@pytest.fixture(params=["stand-in", "package"])
def quantus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _peer("quantus", request.param, monkeypatch)


def _peer(name: str, which: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if which == "package" and not peers.installed(name):
        pytest.skip(f"{name} is not installed; its interface is tested with a stand-in")
    peers.provide(name, monkeypatch, real=which == "package")
    return importlib.import_module(name)


def test_grad_cam_of_both_packages_is_the_same_but_for_its_scale(
    grad_cam: ModuleType, net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """Both upsample bilinearly between pixel centres, so that scaling by minimum and maximum is all that differs."""
    output = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget

    def explain(x: Tensor, target: Tensor) -> np.ndarray:
        with grad_cam.GradCAM(net, [net.features]) as cam:
            found = cam(x, [output(label) for label in target.tolist()])
        assert isinstance(found, np.ndarray) and found.shape == (4, SIDE, SIDE) and found.dtype == np.float32
        assert found.min() == 0 and 0.999 < found.max() <= 1
        return found

    external = ExternalAttribution(explain, "normalised", net)
    captum = LayerGradCam(net, net.features)
    maps = torch.stack([captum.attribute(photos, label, relu_attributions=True).detach() for label in range(3)])
    labels = maps.sum((2, 3, 4)).argmax(0)  # a map without positive values would have nothing to scale
    ours = F.interpolate(maps[labels, torch.arange(4)], (SIDE, SIDE), mode="bilinear", align_corners=False)
    ours = ours - ours.amin((1, 2, 3), keepdim=True)
    scaled = ours / ours.amax((1, 2, 3), keepdim=True)
    assert_close(external.attribute(photos, labels), scaled, rtol=0, atol=1e-4)
    got = CanonicalProjector(external, faces, face).attribute(photos, target=labels)
    assert_close(got, CanonicalProjector(None, faces, face).project(scaled), rtol=0, atol=1e-4)
    assert float(got.std()) > 0.05 and not net.features._forward_hooks


def test_grad_cam_in_a_benchmark_is_told_to_be_scaled_and_scored_as_captums(
    grad_cam: ModuleType, net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """The scale of a map changes no score of its own image, but the mean over images."""
    output = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    labels = (
        torch.stack([LayerGradCam(net, net.features).attribute(photos, t, relu_attributions=True) for t in range(3)])
        .sum((2, 3, 4))
        .argmax(0)
    )

    def explain(x: Tensor, target: Tensor) -> np.ndarray:
        with grad_cam.GradCAM(net, [net.features]) as cam:
            return cam(x, [output(label) for label in target.tolist()])

    result = benchmark(
        ClassConfidence(net),
        photos,
        {
            "package": ExternalAttribution(explain, "normalised"),
            "captum": (LayerGradCam(net, net.features), {"relu_attributions": True}),
        },
        target=labels,
        faces=faces,
        canonical_face=face,
        fills=["mean"],
        **QUICK,
    )
    described = result.settings["methods"]
    assert described["package"]["scale"] == "normalised" and "scale" not in described["captum"]
    assert any("scaled image by image: package." in note for note in result.notes)
    theirs, ours = (result[f"{name}, per image"] for name in ("package", "captum"))
    assert theirs.failure is None and theirs.evaluations == ours.evaluations == 4
    # The package also takes the lowest value of an enlarged map for 0.
    assert_close(theirs.explained["negative", "mean"], ours.explained["negative", "mean"], rtol=0, atol=1e-3)
    assert not torch.equal(result.mean_maps["package"], result.mean_maps["captum"])
    assert all(p.grad is None for p in net.parameters())  # the package's backward pass leaves gradients behind


@pytest.fixture
def real_grad_cam(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _peer("pytorch_grad_cam", "package", monkeypatch)


def _as_the_package_shows(maps: Tensor) -> Tensor:
    """Clipped, scaled, enlarged, and scaled again."""
    for size in (None, (SIDE, SIDE)):
        maps = maps.clamp(min=0) if size is None else F.interpolate(maps, size, mode="bilinear", align_corners=False)
        maps = maps - maps.amin((1, 2, 3), keepdim=True)
        maps = maps / maps.amax((1, 2, 3), keepdim=True)
    return maps


@pytest.mark.parametrize("label", [0, 1, 2])
def test_our_cams_are_those_of_the_package(
    real_grad_cam: ModuleType, net: FeatureNet, photos: Tensor, monkeypatch: pytest.MonkeyPatch, label: int
) -> None:
    """Score-CAM in its soft-maxed variant; the package enlarges its masks with aligned corners, we do not."""
    output = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", lambda size: torch.nn.Upsample(size=size, mode="bilinear"))
    with torch.no_grad():
        net.head.weight.mul_(100)  # the package adds 1e-6 to the denominators of Grad-CAM++
    with real_grad_cam.GradCAMPlusPlus(net, [net.features]) as cam:
        theirs = torch.from_numpy(cam(photos, [output(label)] * 4))[:, None]
    ours = LayerGradCamPlusPlus(net, net.features).attribute(photos, label)
    assert_close(theirs, _as_the_package_shows(ours), rtol=0, atol=1e-4)
    assert float(theirs.std()) > 0.05
    with torch.no_grad():
        net.head.weight.div_(20)
    with real_grad_cam.ScoreCAM(net, [net.features]) as cam:
        theirs = torch.from_numpy(cam(photos, [output(label)] * 4))[:, None]
    ours = LayerScoreCam(net, net.features).attribute(photos, label, weighting="softmax")
    assert_close(theirs, _as_the_package_shows(ours), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (7, 11), (20, 16)])
def test_imputed_pixels_are_those_of_the_package(real_grad_cam: ModuleType, size: tuple[int, int]) -> None:
    imputer = importlib.import_module("pytorch_grad_cam.metrics.road").NoisyLinearImputer(noise=0.0)
    image, hidden = torch.rand(3, *size), torch.rand(size) < 0.6
    ours = ImputedFill(noise=0.0)(image[None], hidden[None, None])[0]
    assert_close(ours, imputer(image, (~hidden).float()), rtol=0, atol=1e-5)


def test_quantus_randomises(
    quantus: ModuleType, net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    def make(model: nn.Module) -> CanonicalOcclusion:
        return CanonicalOcclusion(model, canonical_face=face)

    mprt = quantus.MPRT(disable_warnings=True, display_progressbar=False)
    data = {"model": net, "x_batch": photos.numpy(), "y_batch": np.array([0, 2, 1, 1]), "batch_size": 3}
    scores = mprt(**data, explain_func=as_explain_func(make, faces, photos, num_points=60))
    np.testing.assert_allclose(scores["original"], 1, atol=1e-5)
    assert set(scores) == {"original", "head", "features.2", "features.0"} and max(scores["features.0"]) < 0.9
    assert all(len(each) == 4 for each in scores.values())
    with pytest.raises(CanonicalError, match="another network"):
        mprt(**data, explain_func=as_explain_func(make(net), faces, photos))


@pytest.fixture
def real_quantus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _peer("quantus", "package", monkeypatch)


def test_quantus_perturbs_and_asks_for_other_labels(
    real_quantus: ModuleType, net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    labels = np.array([0, 2, 1, 1])
    data = {"model": net, "x_batch": photos.numpy(), "y_batch": labels, "batch_size": 3}
    quiet = {"disable_warnings": True, "display_progressbar": False}
    method = CanonicalOcclusion(net, canonical_face=face)
    fixed = as_explain_func(method, faces, photos, num_points=60)
    logits = real_quantus.RandomLogit(num_classes=3, seed=0, **quiet)(**data, explain_func=fixed)
    assert len(logits) == 4 and max(logits) < 0.99
    flipped = real_quantus.PixelFlipping(features_in_step=64, return_auc_per_sample=True, **quiet)
    from_maps = flipped(**data, a_batch=fixed(net, photos.numpy(), labels))
    np.testing.assert_allclose(flipped(**data, explain_func=fixed), from_maps, rtol=1e-6)
    sensitivity = real_quantus.MaxSensitivity(nr_samples=2, **quiet)
    with pytest.raises(AlignmentError, match="are not among"):
        sensitivity(**data, explain_func=fixed)
    one_place = as_explain_func(method, lambda x: faces[[0] * len(x)], num_points=60)
    assert np.isfinite(sensitivity(**data, explain_func=one_place)).all()


def test_quantus_evaluates_several_methods_at_once(
    real_quantus: ModuleType, net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """``evaluate`` hands the method's name over as ``method``, which is no argument of ours."""
    labels = np.array([0, 2, 1, 1])
    methods = {
        "occlusion": as_explain_func(CanonicalOcclusion(net, canonical_face=face), faces, photos, num_points=30),
        "Saliency": as_explain_func(Saliency),
    }
    metric = real_quantus.Sparseness(disable_warnings=True)
    found = real_quantus.evaluate({"sparseness": metric}, methods, net, photos.numpy(), labels, explain_func_kwargs={})
    for name, explain_func in methods.items():
        want = metric(net, photos.numpy(), labels, explain_func(net, photos.numpy(), labels))
        np.testing.assert_allclose(found[name]["sparseness"], want)


# ------------------------------------------------------------------------------------------------------- examples
def _run(example: str, out: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    script = Path(__file__).resolve().parents[2] / "examples" / f"{example}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--out", str(out), "--steps", "40", *arguments])
    runpy.run_path(str(script), run_name="__main__")


def _is_drawn(path: Path) -> bool:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")).std() > 5


def test_the_example_of_grad_cam(
    grad_cam: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("interop_grad_cam", tmp_path, monkeypatch, "--copies", "3")
    methods = json.loads((tmp_path / "grad_cam.json").read_text())["settings"]["methods"]
    assert [each.get("scale") for each in methods.values()] == ["normalised", "normalised", None, None]
    said = capsys.readouterr().out
    assert "pytorch-grad-cam: GradCAM: normalised" in said and "failed" not in said
    assert _is_drawn(tmp_path / "grad_cam.png")


def test_the_example_of_quantus(real_quantus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run("interop_quantus", tmp_path, monkeypatch, "--copies", "3", "--points", "40")
    with open(tmp_path / "quantus.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["CanonicalOcclusion", "Grad-CAM, canonical", "Grad-CAM"]
    assert all(np.isfinite(float(row["pixel flipping (lower)"])) for row in rows) and len(rows[0]) == 6
    assert _is_drawn(tmp_path / "quantus.png")
