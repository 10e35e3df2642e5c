"""Grad-CAM++ and Guided Grad-CAM++ by themselves."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam, LayerGradCam
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.attributions import grad_cam_plus_plus
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from layer_cam_tools import Net, Pair, TupleNet, hooks, plus_plus, same, slow

pytestmark = pytest.mark.filterwarnings("ignore:(Setting backward hooks on ReLU|Input Tensor 0 did not already)")


def test_the_closed_form_is_that_of_the_derivatives_of_the_exponential(net: Net, x: Tensor) -> None:
    """Eqs. 7 and 10 of the publication with derivatives of exp(S) taken by autograd, position by position."""
    net.double()
    photo = x[:1].double()
    activations = net.relu(net.conv(photo)).detach()
    expected = torch.zeros(6, 5, dtype=torch.float64)
    for k in range(5):
        weight = 0.0
        for i, j in [(i, j) for i in range(6) for j in range(5)]:
            here = activations[0, k, i, j].clone().requires_grad_()
            put = activations.clone()
            put[0, k, i, j] = here
            order = [net.upper(put)[0, 1].exp()]
            for _ in range(3):
                order += torch.autograd.grad(order[-1], here, create_graph=True)
            if order[1] > 0:  # the others are cut off by Eq. 7, and 0 / 0 where the score ignores a position
                alpha = order[2] / (2 * order[2] + activations[0, k].sum() * order[3])
                weight += float((alpha * order[1]).detach())
        expected += weight * activations[0, k]
    result = LayerGradCamPlusPlus(net, net.relu).attribute(photo, 1)[0, 0]
    same(result * net(photo)[0, 1].exp().detach(), expected, atol=1e-9)


def test_golden_vector() -> None:
    """Worked out by hand: the two channels have the weights 4/77 and 1/23."""
    one_conv = pytest.importorskip("captum.testing.helpers.basic_models").BasicModel_ConvNet_One_Conv().eval()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    result = LayerGradCamPlusPlus(one_conv, one_conv.relu1).attribute(x, 0)
    assert_close(result, torch.tensor([[[[0, 0.2078], [1.8713, 2.7301]]]]), atol=5e-5, rtol=0)
    channels = LayerGradCamPlusPlus(one_conv, one_conv.relu1).attribute(x, 0, attr_dim_summation=False)
    activations = one_conv.relu1(one_conv.conv1(x)).detach()
    assert_close(channels, torch.tensor([4 / 77, 1 / 23]).view(1, 2, 1, 1) * activations)


@pytest.mark.parametrize("options", [{}, {"relu_attributions": True}, {"attr_dim_summation": False}], ids=str)
@pytest.mark.parametrize("layer", ["conv", "relu", "head", "layer input", "two tensors", "frozen"])
def test_with_mean_gradients_for_weights_it_is_captums(
    net: Net, x: Tensor, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool], layer: str
) -> None:
    def means(gradients: Tensor, activations: Tensor) -> Tensor:
        return gradients.mean((2, 3), keepdim=True) if gradients.ndim > 2 else gradients

    monkeypatch.setattr(grad_cam_plus_plus, "_channel_weights", means)
    model: nn.Module = net
    if layer == "two tensors":
        model = TupleNet().eval()
        place = model.layer
    elif layer == "frozen":
        place = net.requires_grad_(False).conv
    elif layer == "layer input":
        place, options = net.relu, options | {"attribute_to_layer_input": True}
    else:
        place = getattr(net, layer)
    target = torch.tensor([3, 0, 1])
    ours = LayerGradCamPlusPlus(model, place).attribute(x, target, **options)
    captums = LayerGradCam(model, place).attribute(x, target, **options)
    assert type(ours) is type(captums)
    assert_close(ours, captums)


def test_layers_without_positions(net: Net, x: Tensor) -> None:
    """Each unit is a channel with one position: alpha = 1 / (2 + g A)."""
    head = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    model = nn.Sequential(net, head).eval()
    a = head[1](head[0](net(x))).detach()
    g = head[2].weight[1].detach().expand_as(a)
    expected = (g.clamp(min=0) / (2 + g * a) * a).sum(1, keepdim=True)
    assert_close(LayerGradCamPlusPlus(model, head[1]).attribute(x, 1), expected)


@pytest.mark.parametrize("scale", [1e-22, 1e-30])
def test_small_gradients_do_not_underflow(net: Net, x: Tensor, scale: float) -> None:
    """Where g is tiny alpha is 1/2; the square of the gradient would be 0 in float32."""
    activations = net.relu(net.conv(x)).detach().requires_grad_()
    gradients = torch.autograd.grad(net.upper(activations)[:, 1].sum(), activations)[0]
    expected = (gradients.clamp(min=0).sum((2, 3), keepdim=True) / 2 * activations).sum(1, keepdim=True)
    result = LayerGradCamPlusPlus(lambda p: scale * net(p), net.relu).attribute(x, 1)
    same(result / scale, expected.detach())


def test_a_vanishing_denominator_counts_as_one() -> None:
    """Activations that sum to -2 and gradients of 1: 2 g^2 + g^3 sum(A) = 0, so alpha = g^2 = 1."""
    layer = nn.Identity()
    x = torch.full((1, 1, 2, 2), -0.5)
    result = LayerGradCamPlusPlus(lambda p: layer(p).sum((1, 2, 3)), layer).attribute(x)
    assert_close(result, torch.full((1, 1, 2, 2), 4 * -0.5))


def test_a_score_that_ignores_the_layer(net: Net, x: Tensor) -> None:
    result = LayerGradCamPlusPlus(lambda p: net(p) * 0 + 3, net.relu).attribute(x, 1)
    assert_close(result, torch.zeros(3, 1, 6, 5))
    aside = LayerGradCamPlusPlus(lambda p: net(p).detach() + net.head.bias, net.relu)
    with pytest.raises(RuntimeError, match="not have been used"):
        aside.attribute(x, 1)
    assert hooks(net) == 0
    if "grad_kwargs" in inspect.signature(LayerGradCam.attribute).parameters:  # captum 0.8 and later
        result = aside.attribute(x, 1, grad_kwargs={"allow_unused": True, "materialize_grads": True})
        assert_close(result, torch.zeros(3, 1, 6, 5))


def test_one_forward_pass_is_enough(net: Net, x: Tensor) -> None:
    calls = []
    LayerGradCamPlusPlus(lambda p: (calls.append(len(p)), net(p))[1], net.relu).attribute(x, 1)
    assert calls == [3]


@pytest.mark.parametrize("method", [LayerGradCamPlusPlus, GuidedGradCamPlusPlus])
def test_several_inputs_of_the_gradient_methods(method: type) -> None:
    pair, photos = Pair().eval(), (torch.randn(2, 3, 11, 9), torch.randn(2, 3, 11, 9), torch.randn(2, 2))
    result = method(pair, pair.both).attribute(photos, 1)
    if method is LayerGradCamPlusPlus:
        for row in range(2):
            activations = pair.both(torch.cat([photos[0][row], photos[1][row]])[None]).detach()[0]
            data = photos[2][row : row + 1]
            upper = lambda a, d=data: pair.head(torch.cat([a.float().flatten(1), d], 1))[0, 1]  # noqa: E731
            same(result[row, 0], plus_plus(activations, upper))
    else:
        assert [part.shape for part in result] == [photos[0].shape, photos[1].shape, (0,)]
        assert result[0].abs().max() > 0


class GuidedRelu(torch.autograd.Function):
    """Passes on positive gradients of positive inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0) * (ctx.saved_tensors[0] > 0)


def test_guided_product(net: Net, x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    target = torch.tensor([3, 0, 1])
    scores = net.upper(GuidedRelu.apply(net.conv(leaf)))
    gradients = torch.autograd.grad(scores[range(3), target].sum(), leaf)[0]
    cam = slow(LayerGradCamPlusPlus, net, x, target.tolist()).float().clamp(min=0)
    large = F.interpolate(cam, (11, 9), mode="bilinear", align_corners=False)
    same(GuidedGradCamPlusPlus(net, net.relu).attribute(x, target), large * gradients)
    nearest = F.interpolate(cam, (11, 9), mode="nearest")
    same(GuidedGradCamPlusPlus(net, net.relu).attribute(x, target, None, "nearest"), nearest * gradients)


@pytest.mark.parametrize("layer_input", [False, True])
def test_guided_with_mean_gradients_for_weights_is_captums(
    net: Net, x: Tensor, monkeypatch: pytest.MonkeyPatch, layer_input: bool
) -> None:
    monkeypatch.setattr(grad_cam_plus_plus, "_channel_weights", lambda g, a: g.mean((2, 3), keepdim=True))
    arguments = {"interpolate_mode": "bilinear", "attribute_to_layer_input": layer_input}
    ours = GuidedGradCamPlusPlus(net, net.relu).attribute((x,), 1, **arguments)
    captums = GuidedGradCam(net, net.relu).attribute((x.clone(),), 1, **arguments)
    assert isinstance(ours, tuple)
    same(1e4 * ours[0], 1e4 * captums[0].detach())


def test_guided_says_when_there_is_nothing_to_guide(x: Tensor) -> None:
    class Functional(Net):
        def forward(self, x: Tensor, *_: Any) -> Tensor:
            return self.upper(F.relu(self.conv(x)))

    net = Functional().eval()
    net.relu = nn.Identity().eval()
    with pytest.warns(UserWarning, match=r"no nn\.ReLU") as seen:
        GuidedGradCamPlusPlus(net, net.conv).attribute(x, 1)
    assert seen[0].filename == __file__
