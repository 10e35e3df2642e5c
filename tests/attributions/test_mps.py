"""On a device without float64 the maps are those of the CPU, and nothing asks it for float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.errors import CanonicalError
from face_tools import mesh_of, noise
from fake_mps import DEVICE, FakeMPS, is_on, put
from small_networks import SmallNet

FACE = cc.CanonicalFace.default(64)
FACES, PHOTOS = mesh_of(FACE, 2, 32), noise(2, 32)


def network() -> nn.Module:
    return SmallNet(32, (6, 6), softmax=False)


def confidence(net: nn.Module) -> cc.ClassConfidence:
    return cc.ClassConfidence(net, link="log_odds")


METHODS: dict[str, Callable[[Any], Any]] = {
    "occlusion": lambda net: cc.CanonicalOcclusion(confidence(net), canonical_face=FACE),
    "dense occlusion": lambda net: cc.CanonicalOcclusion(confidence(net), canonical_face=FACE, inference="dense"),
    "saliency": lambda net: cc.CanonicalProjector(Saliency(confidence(net)), canonical_face=FACE),
    "grad-cam": lambda net: cc.CanonicalProjector(LayerGradCam(confidence(net), net.conv1), canonical_face=FACE),
    "grad-cam++": lambda net: cc.CanonicalProjector(
        cc.LayerGradCamPlusPlus(confidence(net), net.conv1), canonical_face=FACE
    ),
    "score-cam": lambda net: cc.CanonicalProjector(cc.LayerScoreCam(confidence(net), net.conv1), canonical_face=FACE),
}


@pytest.mark.parametrize("name", METHODS)
def test_maps_are_those_of_the_cpu(name: str) -> None:
    expected = METHODS[name](network()).attribute(PHOTOS.clone().requires_grad_(), target=1, faces=FACES)
    net = put(network())
    with FakeMPS():
        x = PHOTOS.to(DEVICE).requires_grad_()
        maps = METHODS[name](net).attribute(x, target=1, faces=FACES)
        assert maps.device == DEVICE and maps.dtype == torch.float32
    assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    assert float(maps.abs().max()) > 0


def test_maps_are_written_back_onto_photographs() -> None:
    projector = cc.CanonicalProjector(None, canonical_face=FACE, faces=FACES)
    maps = torch.rand(2, 1, *FACE.size, generator=torch.Generator().manual_seed(1))
    with FakeMPS():
        found = projector.reproject(maps.to(DEVICE))
        assert found.device == DEVICE
    assert_close(found, projector.reproject(maps), rtol=1e-5, atol=1e-6)


def test_a_run(tmp_path: Path) -> None:
    options: Any = {"canonical_face": FACE, "num_points": 60, "show_progress": False}
    expected = cc.explain_dataset(confidence(network()), (PHOTOS, FACES), tmp_path / "cpu", **options)
    net = put(network())
    with FakeMPS():
        found = cc.explain_dataset(confidence(net), (PHOTOS, FACES), tmp_path / "mps", **options)
    assert_close(found.mean, expected.mean, rtol=1e-4, atol=1e-6)


def test_the_benchmark_says_where_it_runs() -> None:
    net = put(network())
    with FakeMPS(), pytest.raises(CanonicalError, match=r"mps does not have; move the network .* to the CPU"):
        cc.benchmark(confidence(net), PHOTOS.to(DEVICE), {"saliency": Saliency(net)}, 1, faces=FACES)


def test_the_device_refuses_what_mps_refuses() -> None:
    with FakeMPS():
        x = torch.ones(3, device=DEVICE)
        refused: list[Callable[[], object]] = [
            x.double,
            lambda: x.to(torch.float64),
            lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
            lambda: torch.ones(3, dtype=torch.float64).to("mps"),
            lambda: x.to("cpu", torch.float64),
            x.numpy,
        ]
        for each in refused:
            with pytest.raises(TypeError):
                each()
        with pytest.raises(RuntimeError, match="on the same device"):
            _ = x + torch.ones(3)
        assert is_on(x * 2) and not is_on(x.cpu()) and x.cpu().double().sum() == 3 and x.tolist() == [1.0] * 3
        assert isinstance(x[torch.tensor([0, 2])], Tensor)
