"""Methods on networks that return more than a tensor: those of Captum and our own equal those on the logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import (
    Attribution,
    DeepLift,
    FeatureAblation,
    GuidedBackprop,
    GuidedGradCam,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from torch import nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.attributions.base import run_attribution
from captum_canonical.attributions.outputs import attribute_with
from captum_canonical.restore import HOOKS
from face_tools import mesh_of
from output_tools import FOUND, Returns, SevenLogits

FACE = cc.CanonicalFace.default(32)
METHODS: dict[str, Callable[[nn.Module], Attribution]] = {
    "Saliency": Saliency,
    "IntegratedGradients": IntegratedGradients,
    "NoiseTunnel": lambda net: NoiseTunnel(Saliency(net)),
    "LayerGradCam": lambda net: LayerGradCam(net, net.second),
    "GuidedBackprop": GuidedBackprop,
    "GuidedGradCam": lambda net: GuidedGradCam(net, net.second),
    "DeepLift": DeepLift,
    "LayerGradCamPlusPlus": lambda net: cc.LayerGradCamPlusPlus(net, net.second),
    "GuidedGradCamPlusPlus": lambda net: cc.GuidedGradCamPlusPlus(net, net.second),
    "LayerScoreCam": lambda net: cc.LayerScoreCam(net, net.second),
}


def hooks_of(net: nn.Module) -> int:
    return sum(len(getattr(module, name) or ()) for module in net.modules() for name in HOOKS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_the_projector_and_runs_take_what_hugging_face_returns(name: str) -> None:
    x, faces = torch.rand(2, 3, 32, 32), mesh_of(FACE, 2)
    maps = []
    for net in (SevenLogits(), Returns("model output")):
        torch.manual_seed(0)
        method = METHODS[name](net)
        maps.append(cc.CanonicalProjector(method, faces, FACE).attribute(x, target=1))
        torch.manual_seed(0)
        maps.append(run_attribution(method, x, {"target": 1}).maps)
        assert not hooks_of(net) and getattr(method, "forward_func", net) is net
    assert_close(maps[0], maps[2], rtol=0, atol=0)
    assert_close(maps[1], maps[3], rtol=0, atol=0)
    assert maps[0].abs().max() > 0


@pytest.mark.parametrize("kind", FOUND)
def test_occlusion_takes_what_is_found(kind: str) -> None:
    x, faces = torch.rand(1, 3, 32, 32), mesh_of(FACE, 1)
    maps = [
        cc.CanonicalOcclusion(net, faces, FACE, inference=how).attribute(x, target=1, num_points=64)
        for net, how in ((SevenLogits(), "dense"), (Returns(kind), "dense"), (Returns(kind), "incremental"))
    ]
    assert_close(maps[1], maps[0], rtol=0, atol=0)
    assert_close(maps[2], maps[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Saliency, cc.CanonicalOcclusion, FeatureAblation])
def test_several_parts_are_listed(make: Callable[[nn.Module], Attribution]) -> None:
    x, faces = torch.rand(1, 3, 32, 32), mesh_of(FACE, 1)
    method = make(Returns("tuple"))
    if not isinstance(method, cc.CanonicalOcclusion):
        method = cc.CanonicalProjector(method)
    method.canonical_face = FACE
    with pytest.raises(cc.CanonicalError, match=r"got tuple of 0 \(\d, 3, 32, 32\), 1 \(\d, 7\); adapters.as_network"):
        method.attribute(x, target=0, faces=faces)


def test_an_error_of_the_method_itself_stays_what_it_is() -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise TypeError("of the network")

    with pytest.raises(TypeError, match="of the network"):
        attribute_with(Saliency(broken), torch.rand(1, 3, 8, 8), target=0)
