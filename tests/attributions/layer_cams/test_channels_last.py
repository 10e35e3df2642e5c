"""Layers with channels last and layers of tokens: as in a twin of the network that permutes them itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import (
    GuidedGradCam,
    InternalInfluence,
    LayerActivation,
    LayerConductance,
    LayerDeepLift,
    LayerFeatureAblation,
    LayerGradCam,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    NoiseTunnel,
)
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.attributions.base import run_attribution
from face_tools import mesh_of, noise
from layout_tools import Permuted, SmallSwin, SmallViT, twin

FACE = cc.CanonicalFace.default(32)
SIZE, GRID = (64, 48), (8, 6)
NETWORKS: dict[str, tuple[nn.Module, str, int | None]] = {
    "swin": (SmallSwin(), "norm", None),
    "swin, block": (SmallSwin(), "block", None),
    "vit": (SmallViT(), "blocks.1", 1),
    "vit, norm": (SmallViT(), "blocks.2.norm1", 1),
    "vit, tuples": (SmallViT(as_tuple=True), "blocks.1", 1),
    "deit": (SmallViT(prefix=2), "blocks.1", 2),
    "registers": (SmallViT(prefix=5), "blocks.0", 5),
    "mean of tokens": (SmallViT(prefix=0), "norm", 0),
}
ONE_LAYER: dict[str, Callable[..., Any]] = {
    "grad-cam": LayerGradCam,
    "activation": LayerActivation,
    "gradient x activation": LayerGradientXActivation,
    "influence": InternalInfluence,
    "conductance": LayerConductance,
    "guided": GuidedGradCam,
    "grad-cam++": cc.LayerGradCamPlusPlus,
    "score-cam": cc.LayerScoreCam,
    "guided++": cc.attributions.GuidedGradCamPlusPlus,
    "tunnel": lambda net, layer: NoiseTunnel(LayerGradCam(net, layer)),
}
MORE: dict[str, dict[str, Any]] = {"activation": {}, "tunnel": {"target": [0, 1, 2, 3], "stdevs": 0.0, "nt_samples": 2}}


def arguments(method: str) -> dict[str, Any]:
    return MORE.get(method, {"target": [0, 1, 2, 3]})


def maps_of(method: Any, x: Tensor, **given: Any) -> Tensor:
    torch.manual_seed(0)
    return cc.CanonicalProjector(method, mesh_of(FACE, len(x), SIZE), FACE).attribute(x, reduce="abs", **given)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ONE_LAYER)
@pytest.mark.filterwarnings("ignore:the network has no nn.ReLU")
def test_as_a_twin_that_permutes(method: str, network: str) -> None:
    net, name, prefix = NETWORKS[network]
    other, maps = twin(net, name, GRID, prefix)
    x, make = noise(4, SIZE), ONE_LAYER[method]
    found = maps_of(make(net, net.get_submodule(name)), x, **arguments(method))
    expected = maps_of(make(other, maps), x, **arguments(method))
    assert expected.max() > 1e-7 or "guided" in method  # whose product may vanish
    assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", [LayerIntegratedGradients, LayerDeepLift, LayerFeatureAblation])
def test_methods_that_replace_the_layer(method: Any, network: str) -> None:
    """Their maps are Captum's own of the layer, permuted: tokens before the patches are replaced, too."""
    net, name, prefix = NETWORKS[network]
    if (
        method is LayerFeatureAblation and name == "blocks.1" and net.blocks[0].as_tuple
    ):  # Captum does not take the None
        return
    if method is LayerDeepLift and prefix is not None:  # torch's attention has no modules that it could hook
        return
    x, layer = noise(2, SIZE), net.get_submodule(name)
    given = {"target": 1, "n_steps": 4} if method is LayerIntegratedGradients else {"target": 1}
    try:
        plain = method(net, layer).attribute(x, **given)
    except AttributeError:  # a tuple with None
        assert net.blocks[0].as_tuple
        return
    plain = plain[:, prefix:].reshape(2, *GRID, -1) if prefix is not None else plain
    expected = cc.CanonicalProjector(None, mesh_of(FACE, 2, SIZE), FACE).project(
        plain.permute(0, 3, 1, 2), reduce="abs"
    )
    assert_close(maps_of(method(net, layer), x, **given), expected, rtol=1e-4, atol=1e-6)


def test_channels_first_is_captum_s_own_to_the_bit() -> None:
    net, x = SmallSwin(), noise(2, SIZE)
    own = LayerGradCam(net, net.permute).attribute(x, target=1)
    assert torch.equal(run_attribution(LayerGradCam(net, net.permute), x, {"target": 1}).maps, own)


@pytest.mark.parametrize(("net", "name", "prefix"), [(SmallSwin(), "block", None), (SmallViT(), "blocks.1.mlp", 1)])
def test_a_layer_s_input(net: nn.Module, name: str, prefix: int | None) -> None:
    """As in a twin that permutes before the layer."""
    other, maps = twin(net, name, GRID, prefix)
    parent, _, last = name.rpartition(".")
    permuted = other.get_submodule(name)
    assert isinstance(permuted, Permuted)
    layer, permuted.layer = permuted.layer, nn.Identity()
    setattr(other.get_submodule(parent), last, nn.Sequential(permuted, layer))
    x, single = noise(2, SIZE), {"stdevs": 0.0, "nt_samples": 1}
    expected = maps_of(LayerGradCam(other, maps), x, target=1)
    given: dict[str, Any] = {"target": 1, "attribute_to_layer_input": True}
    assert_close(maps_of(LayerGradCam(net, name), x, **given), expected, rtol=1e-4, atol=1e-6)
    assert_close(maps_of(NoiseTunnel(LayerGradCam(net, name)), x, **given, **single), expected, rtol=1e-4, atol=1e-6)
    positional = cc.CanonicalProjector(LayerGradCam(net, name), mesh_of(FACE, 2, SIZE), FACE)
    assert_close(positional.attribute(x, 1, None, True, reduce="abs"), expected, rtol=1e-4, atol=1e-6)
    own = cc.LayerGradCamPlusPlus(other, maps).attribute(x, 1)
    assert_close(cc.LayerGradCamPlusPlus(net, name).attribute(x, 1, None, True), own, rtol=1e-4, atol=1e-6)
    assert expected.max() > 1e-3 and own.abs().max() > 1e-3


def test_everything_is_put_back() -> None:
    net, x = SmallViT(), noise(1, SIZE)
    before = [dict(module._forward_hooks) for module in net.modules()]
    method = LayerGradCam(net, net.blocks[1])
    maps_of(method, x, target=1)
    with pytest.raises(cc.CanonicalError):
        maps_of(method, x, target=1, layout="channels_last")
    with pytest.raises((AssertionError, IndexError)):
        maps_of(method, x, target=9)
    assert [dict(module._forward_hooks) for module in net.modules()] == before and method.layer is net.blocks[1]


def test_a_layer_that_runs_twice_counts_as_it_ran_last() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.act = SmallViT(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            self.act(x.new_ones(len(x), 11, 3))  # tokens in no grid
            y = self.net.patches(x).flatten(2).transpose(1, 2)
            y = self.act(y).mean(1)
            return self.net.head(y)

    net, x = Twice().eval(), noise(2, SIZE)
    expected = LayerGradientXActivation(net, net.act).attribute(x, target=1)
    found = run_attribution(LayerGradientXActivation(net, net.act), x, {"target": 1}).maps
    assert_close(found, expected.transpose(1, 2).reshape(2, -1, *GRID))


def test_half_precision_and_data_parallel() -> None:
    net, x = SmallViT(), noise(2, SIZE)
    expected = maps_of(LayerGradCam(net, "blocks.1"), x, target=1)
    parallel = nn.DataParallel(net)
    assert_close(maps_of(LayerGradCam(parallel, "blocks.1"), x, target=1), expected)
    assert_close(maps_of(LayerGradCam(cc.ClassConfidence(parallel), "blocks.1"), x, target=1).shape, expected.shape)
    half = maps_of(LayerGradCam(copy.deepcopy(net).bfloat16(), "blocks.1"), x.bfloat16(), target=1)
    assert torch.corrcoef(torch.stack([half.flatten(), expected.flatten()]))[0, 1] > 0.95


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch 2.6 and later")
@pytest.mark.parametrize("first", [False, True])
def test_compiled_networks_run_as_they_were_written(first: bool) -> None:
    net, x = SmallViT(), noise(2, SIZE)
    expected = maps_of(LayerGradCam(net, "blocks.1"), x, target=1)
    compiled = torch.compile(net, backend="eager")
    if first:
        compiled(x)
    assert_close(maps_of(LayerGradCam(compiled, "blocks.1"), x, target=1), expected)
    assert cc.last_spatial_layer(cc.ClassConfidence(compiled), x).endswith("blocks.2.norm1")


def test_several_inputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = SmallViT()

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.net(x) * scale

    net, x, scale = Both().eval(), noise(2, SIZE), torch.tensor([[1.0], [2.0]])
    other, maps = twin(net, "net.blocks.1", GRID, 1)
    meshes = (mesh_of(FACE, 2, SIZE), None)
    both = [
        cc.CanonicalProjector(LayerGradCam(*each), meshes, FACE).attribute((x, scale), target=1)[0]
        for each in ((net, "net.blocks.1"), (other, maps))
    ]
    assert_close(*both, rtol=1e-4, atol=1e-6)
    assert isinstance(other.get_submodule("net.blocks.1"), Permuted)
