"""Heat maps of other packages as a Captum method."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalProjector,
    ClassConfidence,
    FaceMesh,
    benchmark,
    model_randomization,
)
from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.benchmarking.measures import BenchmarkSettings
from captum_canonical.benchmarking.methods import BenchmarkMethod
from captum_canonical.benchmarking.photos import prepare
from captum_canonical.benchmarking.run import notes_of
from interop_tools import QUICK, SIDE, FeatureNet, brightness


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
    ("returned", "message"),
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
def test_what_is_no_map_is_an_error(returned: Any, message: str, photos: Tensor) -> None:
    with pytest.raises(CanonicalError, match=message):
        ExternalAttribution(lambda x, target: returned, "raw").attribute(photos)


def test_wrong_arguments_are_errors(photos: Tensor) -> None:
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


def test_it_replaces_a_captum_method(net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
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


def test_a_benchmark_records_the_scale(net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    scaled, raw = (ExternalAttribution(brightness, scale) for scale in ("normalised", "raw"))
    methods = {"cam": scaled, "projected": CanonicalProjector(scaled), "raw": raw, "captum": Saliency(net)}
    score = ClassConfidence(net)
    result = benchmark(score, photos, methods, 1, faces=faces, canonical_face=face, fills=["mean"], **QUICK)
    described = json.loads(result.to_json())["settings"]["methods"]
    assert {name: facts.get("scale") for name, facts in described.items()} == {
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
    assert any("scaled image by image: cam, projected." in note for note in notes_of(data, settings, False, runs))
    assert not any("image by image" in note for note in notes_of(data, settings, False, runs[2:]))
