"""What layer methods leave alone, and what they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.score_cam import LayerScoreCam
from layer_cam_tools import LAYER_METHODS, METHODS, Net, TupleNet, hooks, same

pytestmark = pytest.mark.filterwarnings("ignore:(Setting backward hooks on ReLU|Input Tensor 0 did not already)")


@pytest.fixture
def untouched(net: Net) -> Iterator[Callable[[Tensor], None]]:
    net.conv.weight.requires_grad_(False)
    net.head.weight.grad = torch.ones_like(net.head.weight)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()

    def check(x: Tensor) -> None:
        assert hooks(net) == 0
        assert not any(module.training for module in net.modules())
        assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
        assert [p.grad is None for p in net.parameters()] == [True, True, False, True]
        assert_close(net.head.weight.grad, torch.ones_like(net.head.weight))
        assert_close(dict(net.state_dict()), state, atol=0, rtol=0)
        assert torch.equal(torch.get_rng_state(), random)
        assert torch.is_grad_enabled()
        assert x.grad is None

    yield check


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wants_gradient", [False, True])
def test_nothing_is_left_behind(
    method: type, net: Net, x: Tensor, untouched: Callable[[Tensor], None], wants_gradient: bool
) -> None:
    x.requires_grad_(wants_gradient)
    before = x.detach().clone()
    for layer, of_input in ((net.relu, False), (net.conv, True)):  # the input of conv is the user's own tensor
        cam = method(net, layer)
        result = cam.attribute(x, 1, attribute_to_layer_input=of_input)
        assert not result.requires_grad
        assert result.is_contiguous()
        for wrong in ({"target": 77}, {"target": None}, {"target": [0]}, {"inputs": x.detach() * float("nan")}):
            with pytest.raises((CanonicalError, ZeroDivisionError)):
                cam.attribute(**({"inputs": x, "target": 1} | wrong), attribute_to_layer_input=of_input)
            untouched(x)
        assert x.requires_grad == wants_gradient
        assert_close(x.detach(), before, atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_networks_that_write_into_their_input(method: type, net: Net, x: Tensor) -> None:
    class Rude(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x.add_(1)
            return self.net(x)

    before = x.clone()
    rude = method(Rude(), net.relu).attribute(x, 1)
    assert_close(x, before, atol=0, rtol=0)
    if method is not LayerScoreCam:  # its masks act before the network writes
        same(rude, method(net, net.relu).attribute(x + 1, 1))


@pytest.mark.parametrize("method", METHODS)
def test_training_mode_is_warned_about(method: type, net: Net, x: Tensor) -> None:
    cam = method(net.train(), net.relu)
    with pytest.warns(UserWarning, match="training mode") as seen:
        cam.attribute(x, 1)
    if method is not GuidedGradCamPlusPlus:
        assert seen[0].filename == __file__
    assert net.training


def test_inside_no_grad(net: Net, x: Tensor) -> None:
    for method in METHODS:
        expected = method(net, net.relu).attribute(x, 1)
        with torch.no_grad():
            assert_close(method(net, net.relu).attribute(x, 1), expected)
            assert not torch.is_grad_enabled()


ERRORS = {
    "no target": (LAYER_METHODS, {"target": None}, "target"),
    "target too large": (LAYER_METHODS, {"target": 4}, "target"),
    "targets too few": (LAYER_METHODS, {"target": [1]}, "target"),
    "a list of inputs": (METHODS, {"inputs": [torch.zeros(1, 3, 11, 9)]}, "expected a tensor or a tuple"),
    "no inputs": (METHODS, {"inputs": torch.zeros(0, 3, 11, 9)}, "batch size of at least 1"),
    "integers": ([LayerScoreCam], {"inputs": torch.ones(1, 3, 11, 9, dtype=torch.uint8)}, "floating-point input"),
    "integers, guided": (
        [GuidedGradCamPlusPlus],
        {"inputs": torch.ones(1, 3, 11, 9, dtype=torch.uint8)},
        "expected floating-point inputs",
    ),
    "weighting": ([LayerScoreCam], {"weighting": "mean"}, "'increase' or 'softmax', got 'mean'"),
    "no perturbations": ([LayerScoreCam], {"perturbations_per_eval": 0}, "perturbations_per_eval"),
    "baseline": ([LayerScoreCam], {"baselines": torch.zeros(1, 3, 4, 4)}, "does not broadcast"),
    "baselines": ([LayerScoreCam], {"baselines": (0, 0)}, "baselines"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(net: Net, x: Tensor, case: str) -> None:
    methods, wrong, message = ERRORS[case]
    careless = lambda p: net(p.float())  # noqa: E731
    for method in methods:
        cam = method(net if method is GuidedGradCamPlusPlus else careless, net.relu)
        with pytest.raises(CanonicalError, match=message):
            cam.attribute(**({"inputs": x, "target": 1} | wrong))
        assert hooks(net) == 0


@pytest.mark.parametrize("method", METHODS)
def test_errors_about_layers(method: type, net: Net, x: Tensor) -> None:
    with pytest.raises(CanonicalError, match="layer that runs"):
        method(net, nn.ReLU()).attribute(x, 1)
    if method is not LayerGradCamPlusPlus:
        with pytest.raises(CanonicalError, match="dimensions"):
            method(net, net.head).attribute(x, 1)

    class Sideways(Net):
        def forward(self, x: Tensor, *_: Any) -> Tensor:
            return self.upper(self.relu(self.conv(x).transpose(0, 1)).transpose(0, 1))

    sideways = Sideways().eval()
    with pytest.raises(CanonicalError, match="begin with the 3 images"):
        method(sideways, sideways.relu).attribute(x, 1)


def test_errors_about_guided_networks(net: Net, x: Tensor) -> None:
    with pytest.raises(CanonicalError, match=r"expected an nn\.Module, got function"):
        GuidedGradCamPlusPlus(lambda p: net(p), net.relu)
    two = TupleNet().eval()
    with pytest.raises(CanonicalError, match="one tensor"):
        GuidedGradCamPlusPlus(two, two.layer).attribute(x, 1)


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("where", ["score", "activation"])
def test_not_a_number_is_an_error(method: type, net: Net, x: Tensor, where: str) -> None:
    if where == "score":
        broken = lambda p: net(p) * float("inf")  # noqa: E731
    else:
        net.conv.bias.data[2] = float("nan")
        broken = lambda p: net.upper(net.relu(net.conv(p)).nan_to_num(0.5))  # noqa: E731
    told = "NaN or infinity for the masked" if (method, where) == (LayerScoreCam, "score") else "is NaN or infinite"
    with warnings.catch_warnings(), pytest.raises(CanonicalError, match=told):
        warnings.simplefilter("ignore")
        method(broken, net.relu).attribute(x, 1)
