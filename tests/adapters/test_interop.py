"""Other packages' heat maps as a Captum method, our methods as what Quantus calls.

Tests about pytorch-grad-cam and Quantus run twice: with a stand-in of the interface that they document (`peers.py`),
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
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, NoiseTunnel, Saliency
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
    model_randomization,
)
from captum_canonical.adapters.explain_func import as_explain_func
from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.benchmarking.methods import BenchmarkMethod
from captum_canonical.benchmarking.photos import prepare
from captum_canonical.benchmarking.run import notes_of
from captum_canonical.benchmarking.settings import BenchmarkSettings
from captum_canonical.faithfulness.imputation import ImputedFill

SIDE = 32
QUICK = {"folds": 2, "budget": 0.1, "resamples": 5, "permutations": 5, "batch_size": 4, "seed": 0}


class Net(nn.Module):
    """Three scores, the convolutions in ``features``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(8 * 49, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIDE)


@pytest.fixture
def faces(face: CanonicalFace) -> FaceMesh:
    """Four faces, each in a place of its own."""
    shifts = torch.tensor([[0.0, 0, 0], [2, 1, 0], [-2, 2, 0], [1, -3, 0]])
    return FaceMesh(face.vertices.float() + shifts[:, None], image_size=(SIDE, SIDE), topology=face.topology)


@pytest.fixture
def photos() -> Tensor:
    return torch.rand(4, 3, SIDE, SIDE)


def brightness(x: Tensor, target: Any = None) -> np.ndarray:
    return x.mean(1).numpy()


# ------------------------------------------------------------------------------------------- heat maps that come in
@pytest.mark.parametrize(
    "form",
    [
        lambda maps: maps.numpy(),
        lambda maps: maps.numpy()[:, :, ::-1, ::-1][:, :, ::-1, ::-1],
        lambda maps: maps.double().requires_grad_(),
        lambda maps: list(maps.numpy()),
        lambda maps: list(maps),
        lambda maps: [maps[0], maps[1].numpy(), maps[2], maps[3]],
    ],
)
@pytest.mark.parametrize("channels", [None, 1, 2])
def test_maps_come_in_any_usual_form(form: Callable[[Tensor], Any], channels: int | None, photos: Tensor) -> None:
    maps = torch.rand(4, *([] if channels is None else [channels]), 5, 7)
    if channels is None:
        maps = maps[:, None]
        got = ExternalAttribution(lambda x, target: form(maps)[:], "raw").attribute(photos)
    else:
        got = ExternalAttribution(lambda x, target: form(maps), "raw").attribute(photos)
    assert_close(got.float(), maps, rtol=0, atol=0)
    assert not got.requires_grad and got.is_contiguous() and got.dtype in (torch.float32, torch.float64)


def test_mirrored_numpy_views_and_maps_without_channels(photos: Tensor) -> None:
    got = ExternalAttribution(lambda x, target: brightness(x)[:, :, ::-1], "raw").attribute(photos)
    assert_close(got, photos.mean(1, keepdim=True).flip(3), rtol=0, atol=0)
    (listed,) = ExternalAttribution(lambda x, target: [m[::-1] for m in brightness(x)], "raw").attribute((photos,))
    assert_close(listed, photos.mean(1, keepdim=True).flip(2), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float16, np.int64])
def test_narrow_numbers_become_single_precision(dtype: type, photos: Tensor) -> None:
    got = ExternalAttribution(lambda x, target: np.ones((4, 3, 3), dtype), "raw").attribute(photos)
    assert got.dtype == torch.float32 and bool((got == 1).all())


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (np.zeros((3, 8, 8)), r"expected 4 maps.*got shape \(3, 1, 8, 8\)"),
        (np.zeros((8, 8)), r"got shape \(8, 8\)"),
        (np.zeros((4, SIDE, SIDE, 3)), "channels come first"),
        (np.full((4, 8, 8), np.nan), r"images \[0, 1, 2, 3\]"),
        ([np.zeros((8, 8)), np.zeros((8, 7)), np.zeros((8, 8)), np.zeros((8, 8))], "got list"),
        (np.zeros((4, 8, 8), complex), "real numbers"),
        (None, "got NoneType"),
        (np.array(["a"] * 4), "numpy or torch"),
        (np.zeros((4, 0, 8)), "got shape"),
    ],
)
def test_what_is_no_map_is_told(returned: Any, told: str, photos: Tensor) -> None:
    with pytest.raises(CanonicalError, match=told):
        ExternalAttribution(lambda x, target: returned, "raw").attribute(photos)


def test_wrong_arguments_are_told(photos: Tensor) -> None:
    with pytest.raises(CanonicalError, match="scale: expected 'raw', or 'normalised'"):
        ExternalAttribution(brightness, "normalized")  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="explain: expected a function"):
        ExternalAttribution(brightness(photos), "raw")  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="expected one tensor"):
        ExternalAttribution(brightness, "raw").attribute((photos, photos))


@pytest.mark.parametrize("target", [2, torch.tensor(2), torch.tensor([2]), [2, 2, 2, 2], np.array([2, 2, 2, 2])])
def test_labels_reach_the_function_as_one_for_each_image(target: Any, photos: Tensor) -> None:
    seen: dict[str, Any] = {}

    def explain(x: Tensor, target: Tensor, **arguments: Any) -> np.ndarray:
        seen.update(arguments, labels=target.tolist())
        x.zero_()  # its copy
        return np.zeros((4, 2, 2))

    before = photos.clone()
    ExternalAttribution(explain, "raw").attribute(photos, target, smooth=True)
    assert seen == {"smooth": True, "labels": [2, 2, 2, 2]} and torch.equal(photos, before)


@pytest.mark.parametrize("target", [None, (1, 2), [(0, 1)] * 4])
def test_other_targets_reach_the_function_as_they_are(target: Any, photos: Tensor) -> None:
    seen = []
    ExternalAttribution(lambda x, t: seen.append(t) or brightness(x), "raw").attribute(photos, target)
    assert seen == [target]


def test_it_stands_in_for_a_captum_method(net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    saliency = Saliency(net)
    external = ExternalAttribution(
        lambda x, target: saliency.attribute(x.requires_grad_(), target).numpy(), "raw", forward_func=net
    )
    for wrap in (
        lambda m: CanonicalProjector(m, faces, face),
        lambda m: CanonicalProjector(NoiseTunnel(m), faces, face),
    ):
        more = {} if wrap(saliency).attribution_method is saliency else {"nt_samples": 2, "stdevs": 0.0}
        assert_close(
            wrap(external).attribute(photos, target=1, **more), wrap(saliency).attribute(photos, target=1, **more)
        )
    tests = [
        model_randomization(CanonicalProjector(method, faces, face), photos, target=1, seeds=[3])
        for method in (external, saliency)
    ]
    assert_close(tests[0].similarity["spearman"], tests[1].similarity["spearman"], equal_nan=True)


def test_a_benchmark_records_the_scale(net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    scaled, raw = (ExternalAttribution(brightness, scale) for scale in ("normalised", "raw"))
    methods = {"cam": scaled, "projected": CanonicalProjector(scaled), "raw": raw, "captum": Saliency(net)}
    score = ClassConfidence(net)
    result = benchmark(score, photos, methods, 1, faces=faces, canonical_face=face, fills=["mean"], **QUICK)
    told = json.loads(result.to_json())["settings"]["methods"]
    assert {name: facts.get("scale") for name, facts in told.items()} == {
        "cam": "normalised",
        "projected": "normalised",
        "raw": "raw",
        "captum": None,
    }
    settings = BenchmarkSettings(
        fills=("mean",),
        fractions=(0.0, 1.0),
        spaces=("image",),
        sign="positive",
        unbounded=False,
        symmetric=False,
        per_target=False,
        **QUICK,
    )
    data = prepare(score, photos, 1, faces, face, None, None, settings)
    runs = [BenchmarkMethod(name, method, data, []) for name, method in methods.items()]
    assert any(
        "scaled image by image: cam, projected." in note for note in notes_of(data, settings, False, False, runs)
    )
    assert not any("image by image" in note for note in notes_of(data, settings, False, False, runs[2:]))


# ------------------------------------------------------------------------------------------- attributions that go out
def test_canonical_maps_are_reprojected_whatever_the_batch(
    net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    method = CanonicalOcclusion(net, canonical_face=face)
    labels = np.array([0, 2, 1, 1])
    maps = method.attribute(photos, target=torch.as_tensor(labels), faces=faces, num_points=60)
    want = CanonicalProjector(None, canonical_face=face).reproject(maps, faces).numpy()
    explain_func = as_explain_func(method, faces, photos, num_points=60)
    got = explain_func(model=net, inputs=photos.numpy(), targets=labels, device="cpu")
    np.testing.assert_array_equal(got, want)
    assert got.shape == (4, 1, SIDE, SIDE) and got.dtype == np.float32 and np.abs(got).max() > 0
    for rows in ([3], [2, 0], [1, 1, 3]):
        got = explain_func(net, photos.numpy()[rows].astype(np.float64), labels[rows])
        np.testing.assert_allclose(got, want[rows], atol=1e-6)


def test_other_methods_are_reduced_and_brought_to_the_image(net: Net, photos: Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    gradients = Saliency(net).attribute(photos.clone().requires_grad_(), target=labels, abs=False)
    explain_func = as_explain_func(Saliency, abs=False)
    got = explain_func(net, photos.numpy(), labels.numpy())
    np.testing.assert_allclose(got, gradients.sum(1, keepdim=True).numpy(), atol=1e-6)
    got = explain_func(net, photos.numpy(), labels.numpy(), reduce="max")  # as explain_func_kwargs
    np.testing.assert_allclose(got, gradients.amax(1, keepdim=True).numpy(), atol=1e-6)
    named = explain_func(net, photos.numpy(), labels.numpy(), method="Saliency")  # as quantus.evaluate does
    np.testing.assert_array_equal(named, explain_func(net, photos.numpy(), labels.numpy()))
    coarse = LayerGradCam(net, net.features).attribute(photos, labels)
    want = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False).detach().numpy()
    got = as_explain_func(lambda model: LayerGradCam(model, model.features))(net, photos.numpy(), labels.numpy())
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_an_aligner_is_asked_about_the_images_of_each_call(
    net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    asked = []

    def aligner(x: Tensor) -> FaceMesh:
        asked.append(len(x))
        return faces[[0] * len(x)]

    explain_func = as_explain_func(CanonicalProjector(Saliency(net), aligner, face))
    assert explain_func(net, photos.numpy(), np.zeros(4, int)).shape == (4, 1, SIDE, SIDE)
    twice = as_explain_func(CanonicalProjector(Saliency(net), None, face), lambda x: faces[[0, 1]])
    with pytest.raises(AlignmentError, match="one mesh for each of the 4 images, got 2"):
        twice(net, photos.numpy(), np.zeros(4, int))
    assert asked == [4]


def test_nothing_is_explained_with_the_faces_of_others(
    net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    method = CanonicalOcclusion(net, faces, face)
    with pytest.raises(CanonicalError, match="give an aligner, or meshes together with the images"):
        as_explain_func(method)
    with pytest.raises(CanonicalError, match="4 meshes belong to, got none"):
        as_explain_func(method, faces)
    with pytest.raises(CanonicalError, match="4 meshes belong to, got 3"):
        as_explain_func(method, faces, photos[:3])
    with pytest.raises(CanonicalError, match="0 and 1 are equal"):
        as_explain_func(method, faces, photos[[0, 0, 1, 2]])
    with pytest.raises(CanonicalError, match="Saliency needs none"):
        as_explain_func(Saliency(net), faces, photos)
    with pytest.raises(AlignmentError, match=r"images \[1\] of this call are not among"):
        as_explain_func(method, faces, photos)(net, np.stack([photos[2], photos[0] + 0.01]), np.zeros(2, int))


def test_nothing_is_explained_with_another_network(net: Net, photos: Tensor) -> None:
    labels, other = np.zeros(4, int), Net().eval()
    same = as_explain_func(Saliency(ClassConfidence(net)))
    assert same(net, photos.numpy(), labels).shape == (4, 1, SIDE, SIDE)
    for method in (
        Saliency(net),
        Saliency(ClassConfidence(net)),
        Saliency(lambda x: net(x)),
        NoiseTunnel(Saliency(net)),
        lambda model: Saliency(net),
        lambda model: LayerGradCam(model, net.features),
        lambda model: CanonicalProjector(LayerGradCam(model, net.features), lambda x: None),
    ):
        with pytest.raises(CanonicalError, match="another network than the one that the metric gives"):
            as_explain_func(method)(other, photos.numpy(), labels)
    with pytest.raises(CanonicalError, match="expected a Captum attribution, got Net"):
        as_explain_func(lambda model: model)(net, photos.numpy(), labels)
    with pytest.raises(CanonicalError, match="leave out return_coverage"):
        same(net, photos.numpy(), labels, return_coverage=True)
    with pytest.raises(CanonicalError, match="NaN or infinity"):
        broken = ExternalAttribution(brightness, "raw", net)
        broken.explain, broken.attribute = None, lambda x, **more: x * torch.nan  # type: ignore[method-assign]
        as_explain_func(broken)(net, photos.numpy(), labels)


# ------------------------------------------------------------------------------------------- the packages themselves
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
    grad_cam: ModuleType, net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
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
    grad_cam: ModuleType, net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
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
    told = result.settings["methods"]
    assert told["package"]["scale"] == "normalised" and "scale" not in told["captum"]
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
    real_grad_cam: ModuleType, net: Net, photos: Tensor, monkeypatch: pytest.MonkeyPatch, label: int
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
    quantus: ModuleType, net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
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
    real_quantus: ModuleType, net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
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
    real_quantus: ModuleType, net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor
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
    pytest.importorskip("mediapipe", reason="the examples' aligner")
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
    assert [told.get("scale") for told in methods.values()] == ["normalised", "normalised", None, None]
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
