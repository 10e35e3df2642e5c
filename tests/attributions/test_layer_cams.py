"""LayerGradCamPlusPlus, GuidedGradCamPlusPlus and LayerScoreCam against slow computations of their equations."""

from __future__ import annotations

import inspect
import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam, NoiseTunnel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalProjector, ClassConfidence, FaceMesh
from captum_canonical.attributions import grad_cam_plus_plus, score_cam
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.score_cam import LayerScoreCam
from oracles import rolled

LAYER_METHODS = [LayerGradCamPlusPlus, LayerScoreCam]
METHODS = [*LAYER_METHODS, GuidedGradCamPlusPlus]
WEIGHTINGS = ["increase", "softmax"]
pytestmark = pytest.mark.filterwarnings("ignore:(Setting backward hooks on ReLU|Input Tensor 0 did not already)")


class Net(nn.Module):
    """(N, 3, 11, 9) -> 4 scores; a second photo, a scale per image and one more number are optional."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(5 * 3 * 2, 4)

    def upper(self, activations: Tensor, scale: Tensor | float = 1.0, power: int = 1) -> Tensor:
        scale = scale[:, None] if isinstance(scale, Tensor) else scale
        return (scale * self.head(self.pool(activations).flatten(1))) ** power

    def forward(self, x: Tensor, scale: Tensor | float = 1.0, power: int = 1) -> Tensor:
        if x.isnan().any():
            raise ZeroDivisionError("of the network")
        return self.upper(self.relu(self.conv(x)), scale, power)


class Grid(nn.Module):
    """The four scores of a network as (N, 2, 2)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).reshape(-1, 2, 2)


class Pair(nn.Module):
    """Two photos and metadata (N, 2) -> (N, 4); the layer ``both`` sees the photos side by side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(12)
        self.both = nn.Sequential(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(5 * 5 * 4 + 2, 4)

    def forward(self, x: Tensor, y: Tensor, data: Tensor) -> Tensor:
        return self.head(torch.cat([self.both(torch.cat([x, y], 1)).flatten(1), data], 1))


class TwoTensors(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = self.net.conv(x)
        return self.net.relu(before), 2 * before[:, :3].square()


class TupleNet(nn.Module):
    """A layer with two tensors, (N, 5, 6, 5) and (N, 3, 6, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = TwoTensors(Net())
        self.head = nn.Linear(3 * 6 * 5, 4)

    def upper(self, first: Tensor, second: Tensor) -> Tensor:
        return self.layer.net.upper(first) + self.head(second.flatten(1)) ** 2

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(*self.layer(x))


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 11, 9)


# ------------------------------------------------------------------------------------------------------ the slow truths
def plus_plus(activations: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Grad-CAM++ of one image by loops: activations (C, h, w), the score of activations (1, C, h, w)."""
    leaf = activations[None].double().requires_grad_()
    gradients = torch.autograd.grad(score(leaf), leaf)[0][0].tolist()
    result = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for gradient, channel in zip(gradients, activations.double(), strict=True):
        weight = 0.0
        for g in [g for row in gradient for g in row]:
            denominator = 2 * g**2 + g**3 * float(channel.sum())
            weight += g**2 / (denominator if denominator else 1.0) * max(g, 0.0)
        result += weight * channel
    return result


def scored(
    photos: tuple[Tensor, ...],
    activations: Tensor,
    score: Callable[..., Tensor],
    weighting: str,
    hidden: tuple[Tensor, ...],
) -> Tensor:
    """Score-CAM of one image by loops: each photo (C, H, W), activations (C, h, w), what a mask of 0 shows."""
    scores: list[float | None] = []
    for channel in activations:
        seen = []
        for photo, behind in zip(photos, hidden, strict=True):
            large = F.interpolate(channel[None, None], photo.shape[1:], mode="bilinear", align_corners=False)[0, 0]
            mask = (large - large.min()) / (large.max() - large.min())
            seen.append((mask * photo + (1 - mask) * behind)[None])
        scores.append(None if channel.max() == channel.min() else float(score(*seen).detach()))
    if weighting == "increase":
        baseline = float(score(*[behind[None] for behind in hidden]).detach())
        weights = [0.0 if s is None else s - baseline for s in scores]
    else:
        total = sum(math.exp(s) for s in scores if s is not None)
        weights = [0.0 if s is None else math.exp(s) / total for s in scores]
    return sum((w * channel.double() for w, channel in zip(weights, activations, strict=True)), torch.zeros(1))


def slow(method: type, net: Net, x: Tensor, targets: list[Any], **arguments: Any) -> Tensor:
    """The maps (N, 1, h, w) of a whole batch, image by image."""
    double = Net().double()
    double.load_state_dict(net.state_dict())
    rows = []
    for photo, target in zip(x.double(), targets, strict=True):
        activations = double.relu(double.conv(photo[None])).detach()[0]
        if method is LayerGradCamPlusPlus:
            rows.append(plus_plus(activations, lambda a, t=target: double.upper(a, **arguments)[0, t]))
        else:
            score = lambda p, t=target: double(p, **arguments)[0, t]  # noqa: E731
            rows.append(scored((photo,), activations, score, "increase", (torch.zeros_like(photo),)))
    return torch.stack(rows)[:, None].detach()


def same(actual: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    assert expected.abs().max() > 1e-3, "the case must not be empty"
    assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------- every target kind
@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize(
    ("target", "each"),
    [
        (2, [2, 2, 2]),
        (-1, [3, 3, 3]),
        (torch.tensor(1), [1, 1, 1]),
        (torch.tensor([1]), [1, 1, 1]),
        (torch.tensor([3, 0, 1]), [3, 0, 1]),
        ([3, 0, 1], [3, 0, 1]),
        ((2,), [2, 2, 2]),
        ([(3,), (0,), (1,)], [3, 0, 1]),
    ],
    ids=repr,
)
def test_targets(method: type, net: Net, x: Tensor, target: Any, each: list[int]) -> None:
    same(method(net, net.relu).attribute(x, target), slow(method, net, x, each))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_targets_of_a_grid_and_of_single_scores(method: type, net: Net, x: Tensor) -> None:
    grid = method(Grid(net), net.relu)
    same(grid.attribute(x, target=(1, 0)), slow(method, net, x, [2, 2, 2]))
    same(grid.attribute(x, target=[(1, 1), (0, 0), (0, 1)]), slow(method, net, x, [3, 0, 1]))
    for single in (lambda p: net(p)[:, 2], lambda p: net(p)[:, 2:3]):
        same(method(single, net.relu).attribute(x), slow(method, net, x, [2, 2, 2]))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_additional_arguments(method: type, net: Net, x: Tensor) -> None:
    scale = torch.tensor([0.5, 2.0, 3.0])
    result = method(net, net.relu).attribute(x, 1, (scale, 2))
    for row in range(3):
        expected = slow(method, net, x[row : row + 1], [1], scale=float(scale[row]), power=2)
        same(result[row : row + 1], expected)
    same(method(net, net.relu).attribute(x, 1, 2.0), slow(method, net, x, [1, 1, 1], scale=2.0))


@pytest.mark.parametrize("method", METHODS)
def test_images_do_not_know_each_other(method: type, net: Net, x: Tensor) -> None:
    target = torch.tensor([3, 0, 1])
    scale = torch.tensor([0.5, 2.0, 3.0])
    together = method(net, net.relu).attribute(x, target, scale)
    order = torch.tensor([2, 0, 1])
    assert_close(method(net, net.relu).attribute(x[order], target[order], scale[order]), together[order])
    for row in range(3):
        alone = method(net, net.relu).attribute(x[row : row + 1], int(target[row]), scale[row : row + 1])
        assert_close(alone, together[row : row + 1], atol=1e-6, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ the CAM options
@pytest.mark.parametrize("method", LAYER_METHODS)
def test_options_act_on_the_same_map(method: type, net: Net, x: Tensor) -> None:
    net.head.weight.data[1] -= 0.1  # so that the map has both signs
    cam = method(net, net.conv)
    plain = cam.attribute(x, 1)
    assert plain.min() < 0 < plain.max()
    assert_close(cam.attribute(x, 1, relu_attributions=True), plain.clamp(min=0))
    channels = cam.attribute(x, 1, attr_dim_summation=False)
    assert channels.shape == (3, 5, 6, 5)
    assert_close(channels.sum(1, keepdim=True), plain)
    assert_close(cam.attribute(x, 1, None, False, True, False), channels.clamp(min=0))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_the_input_of_a_layer_is_the_output_of_the_one_before(method: type, net: Net, x: Tensor) -> None:
    result = method(net, net.relu).attribute(x, 1, attribute_to_layer_input=True)
    assert_close(result, method(net, net.conv).attribute(x, 1))
    same(method(net, net.pool).attribute(x, 1, attribute_to_layer_input=True), slow(method, net, x, [1, 1, 1]))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_layers_with_two_tensors(method: type, x: Tensor) -> None:
    net = TupleNet().eval()
    first, second = method(net, net.layer).attribute(x, 1)
    assert first.shape == second.shape == (3, 1, 6, 5)
    for row, photo in enumerate(x):
        a, b = (part.detach()[0] for part in net.layer(photo[None]))
        if method is LayerGradCamPlusPlus:
            net.double()
            same(first[row, 0], plus_plus(a, lambda p, b=b: net.upper(p, b[None].double())[0, 1]))
            same(second[row, 0], plus_plus(b, lambda p, a=a: net.upper(a[None].double(), p)[0, 1]), atol=1e-4)
            net.float()
        else:
            for part, channels in ((first, a), (second, b)):
                score = lambda p: net(p)[0, 1]  # noqa: E731
                same(part[row, 0], scored((photo,), channels, score, "increase", (0 * photo,)), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_wrappers_of_the_package_and_of_captum(method: type, net: Net, x: Tensor) -> None:
    confidence = ClassConfidence(net, link="log_odds")
    wrapped = method(confidence, net.relu).attribute(x, 1)
    assert wrapped.abs().max() > 0
    same(wrapped, method(nn.DataParallel(confidence), net.relu, device_ids=[0]).attribute(x, 1))
    noisy = NoiseTunnel(method(confidence, net.relu)).attribute(
        x, target=torch.tensor([1, 1, 1]), nt_samples=2, stdevs=1e-9
    )
    assert_close(noisy, wrapped, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_device_ids_reach_captum(method: type, net: Net, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    module, name = {
        LayerGradCamPlusPlus: (grad_cam_plus_plus, "_GradientsAndActivations"),
        LayerScoreCam: (score_cam, "LayerActivation"),
    }[method]
    base = getattr(module, name)

    class Spy(base):
        def __init__(self, *args: Any) -> None:
            given.extend(args[2])
            super().__init__(*args)

    monkeypatch.setattr(module, name, Spy)
    method(net, net.relu, device_ids=[1, 0]).attribute(x, 1)
    assert given == [1, 0]


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types(method: type, net: Net, x: Tensor, dtype: torch.dtype) -> None:
    result = method(net.to(dtype), net.relu).attribute(x.to(dtype), 1)
    assert result.dtype == torch.promote_types(dtype, torch.float32)
    exact = method(net.double(), net.relu).attribute(x.to(dtype).double(), 1)
    assert F.cosine_similarity(result.double().flatten(1), exact.flatten(1)).min() > 0.99


# ------------------------------------------------------------------------------------------------- Grad-CAM++ by itself
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


# -------------------------------------------------------------------------------------------------- Score-CAM by itself
@given(
    images=st.integers(1, 3),
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    stride=st.integers(1, 3),
    per_eval=st.sampled_from([None, 1, 2, 50]),
    weighting=st.sampled_from(WEIGHTINGS),
    fill=st.sampled_from([None, 0.3, "tensor", "per image"]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_score_cam_is_the_loop(
    images: int,
    channels: int,
    size: tuple[int, int],
    stride: int,
    per_eval: int | None,
    weighting: str,
    fill: Any,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, channels, 2, stride).double()
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3)).double()
    x = torch.randn(images, 3, *size, dtype=torch.float64)
    fill = {"tensor": torch.rand(3, *size).double(), "per image": torch.rand(x.shape).double()}.get(fill, fill)
    hidden = torch.zeros_like(x) + (0 if fill is None else fill)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = LayerScoreCam(net.eval(), net[1]).attribute(
            x, 1, baselines=fill, weighting=weighting, perturbations_per_eval=per_eval
        )
    for row in range(images):
        activations = net[:2](x[row : row + 1]).detach()[0]
        if all(channel.max() == channel.min() for channel in activations):
            expected = torch.zeros(activations.shape[1:]).double()
        else:
            expected = scored((x[row],), activations, lambda p: net(p)[0, 1], weighting, (hidden[row],))
        assert_close(result[row, 0], expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_several_inputs_are_masked_together(weighting: str) -> None:
    pair, photos = Pair().eval(), (torch.randn(2, 3, 11, 9), torch.randn(2, 3, 11, 9), torch.randn(2, 2))
    cam = LayerScoreCam(pair, pair.both)
    result = cam.attribute(photos, 1, weighting=weighting)
    fixed = cam.attribute(photos, 1, weighting=weighting, baselines=(0.2, photos[1], 0))
    assert result.shape == (2, 1, 5, 4)
    for row in range(2):
        x, y, data = (part[row] for part in photos)
        activations = pair.both(torch.cat([x, y])[None]).detach()[0]
        score = lambda p, q, d=data: pair(p, q, d[None])[0, 1]  # noqa: E731
        same(result[row, 0], scored((x, y), activations, score, weighting, (0 * x, 0 * y)))
        same(fixed[row, 0], scored((x, y), activations, score, weighting, (0 * x + 0.2, y)))


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


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_constant_channels_make_no_mask(net: Net, x: Tensor, weighting: str) -> None:
    """Dead, constant, and constant up to rounding: no NaN, no weight; as if the channel were not there."""

    class Dull(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            noise = 1 + 1e-7 * (torch.arange(a[:, :1].numel()).reshape_as(a[:, :1]) % 2)
            return torch.cat([a, torch.zeros_like(a[:, :1]), torch.full_like(a[:, :1], 7.0), 3 * noise], 1)

    dull = Dull()
    channels = LayerScoreCam(lambda p: net.upper(dull(net.relu(net.conv(p)))[:, :5]), dull).attribute(
        x, 1, weighting=weighting, attr_dim_summation=False
    )
    plain = LayerScoreCam(net, net.relu).attribute(x, 1, weighting=weighting, attr_dim_summation=False)
    same(channels[:, :5], plain)
    assert not channels[:, 5:].any()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_map_that_vanishes_when_it_is_made_smaller(weighting: str) -> None:
    """A single spot in a 3 x 3 map is spread evenly over a 2 x 2 input: its mask is 0, not 0 / 0."""
    spot = torch.zeros(1, 1, 3, 3)
    spot[0, 0, 1, 1] = 1.0
    layer = nn.Identity()
    cam = LayerScoreCam(lambda p: layer(spot).sum() + p.sum((1, 2, 3)), layer)
    result = cam.attribute(torch.ones(1, 1, 2, 2), weighting=weighting)
    assert_close(result, spot * (0.0 if weighting == "increase" else 1.0))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_an_image_of_constant_channels_gets_zeros_and_a_warning(net: Net, x: Tensor, weighting: str) -> None:
    x[1] = -1e6
    net.conv.weight.data.abs_()
    net.conv.padding = (0, 0)
    net.head = nn.Linear(5 * 2 * 2, 4).eval()
    with pytest.warns(UserWarning, match=r"constant in images \[1\]") as seen:
        result = LayerScoreCam(net, net.relu).attribute(x, 1, weighting=weighting)
    assert seen[0].filename == __file__
    assert not result[1].any()
    assert result[0].any()
    assert result[2].any()


def test_weights_of_a_constant_network(net: Net, x: Tensor) -> None:
    """Nothing increases, and the soft-max is even."""
    cam = LayerScoreCam(lambda p: 0 * net(p) + 5, net.relu)
    assert not cam.attribute(x, 1).any()
    assert_close(
        cam.attribute(x, 1, weighting="softmax"),
        net.relu(net.conv(x)).detach().mean(1, keepdim=True),
        atol=1e-6,
        rtol=0,
    )


def test_the_softmax_of_one_channel_is_its_activation(x: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(63, 4)).eval()
    result = LayerScoreCam(net, net[0]).attribute(x, 1, weighting="softmax")
    assert_close(result, net[0](x).detach())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_order_of_the_channels_and_the_split_do_not_matter(net: Net, x: Tensor, weighting: str) -> None:
    target = torch.tensor([3, 0, 1])
    expected = LayerScoreCam(net, net.relu).attribute(x, target, weighting=weighting)
    for per_eval in (1, 2, 5, 1000):
        split = LayerScoreCam(net, net.relu).attribute(x, target, weighting=weighting, perturbations_per_eval=per_eval)
        assert_close(split, expected, atol=1e-6, rtol=1e-5)
    order = torch.tensor([4, 2, 0, 1, 3])
    net.conv.weight.data, net.conv.bias.data = net.conv.weight.data[order], net.conv.bias.data[order]
    net.head.weight.data = net.head.weight.data.reshape(4, 5, 6)[:, order].flatten(1)
    assert_close(LayerScoreCam(net, net.relu).attribute(x, target, weighting=weighting), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("weighting", "passes"), [("increase", [3, 3, 6, 6, 3]), ("softmax", [3, 6, 6, 3])])
def test_forward_passes_and_progress(net: Net, x: Tensor, weighting: str, passes: list[int]) -> None:
    """One for the activations, one for the baseline, 15 masked images in parts of two channels for each image."""
    calls: list[int] = []
    with redirect_stderr(io.StringIO()) as shown:
        LayerScoreCam(lambda p: (calls.append(len(p)), net(p))[1], net.relu).attribute(
            x, 1, weighting=weighting, perturbations_per_eval=2, show_progress=True
        )
    assert calls == passes
    assert "Layer Score Cam attribution" in shown.getvalue()
    assert f"{len(passes) - 1}/{len(passes) - 1}" in shown.getvalue()


@pytest.mark.parametrize(("conv", "size"), [(nn.Conv1d, (12,)), (nn.Conv3d, (6, 5, 4))])
@pytest.mark.parametrize("method", METHODS)
def test_layers_of_other_dimensions(method: type, conv: Any, size: tuple[int, ...]) -> None:
    net = nn.Sequential(conv(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).eval()
    x = torch.randn(2, 2, *size)
    net(x)
    result = method(net, net[1]).attribute(x, 1)
    inside = tuple(length - 2 for length in size)
    assert result.shape == ((2, 1, *inside) if method is not GuidedGradCamPlusPlus else x.shape)
    assert result.isfinite().all()
    assert result.any()


# --------------------------------------------------------------------------------------------------- Guided Grad-CAM++
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


# ----------------------------------------------------------------------------------------------- nothing is left behind
def hooks(net: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)


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


# -------------------------------------------------------------------------------------------------------------- errors
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


# ----------------------------------------------------------------------------------------------- on the canonical face
@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(40)


@pytest.mark.parametrize("method", METHODS)
def test_inside_the_projector(method: type, face: CanonicalFace) -> None:
    """The canonical map is the projected map, whatever wraps what; a second input without a face is left out."""
    pair = Pair().eval()
    pair.head = nn.LazyLinear(4).eval()
    vertices = torch.stack([rolled(face.vertices, 10, 0.9, (24.0, 26.0)), rolled(face.vertices, -5, 1.0, (22.0, 30.0))])
    faces = FaceMesh(vertices, image_size=(56, 48), topology=face.topology)
    inputs = (torch.rand(2, 3, 56, 48), torch.rand(2, 3, 56, 48), torch.rand(2, 2))
    pair(*inputs)
    cam = method(pair, pair.both)
    projector = CanonicalProjector(cam, (faces, None, None), face)
    (result,) = projector.attribute(inputs, target=torch.tensor([1, 3]))
    maps = cam.attribute(inputs, torch.tensor([1, 3]))
    expected = CanonicalProjector(None, faces, face).project(maps if isinstance(maps, Tensor) else maps[0])
    assert result.shape == (2, 1, 40, 40)
    assert result.any()
    assert_close(result, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_cue_on_the_face_is_found_there(method: type, face: CanonicalFace) -> None:
    """A network that looks for red, faces with one red spot on the left side of the image: the map peaks there."""
    size, spot = (56, 48), 61  # a vertex at a corner of the mouth
    net = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 14 * 12, 2))
    net[0].weight.data.zero_()
    net[0].weight.data[0, 0] = 1.0
    net[0].weight.data[1, 1] = 1.0
    net[3].weight.data[:] = torch.cat([torch.full((168,), 0.1), torch.full((168,), -0.1)])
    vertices = torch.stack([rolled(face.vertices, 0, 1.1, (24.0, 27.0)), rolled(face.vertices, 25, 0.9, (20.0, 33.0))])
    x = torch.zeros(2, 3, *size)
    x[:, 1] = 0.2
    for photo, corners in zip(x, vertices, strict=True):
        column, row = (int(value) for value in corners[spot, :2])
        photo[0, row - 2 : row + 3, column - 2 : column + 3] = 1.0
    faces = FaceMesh(vertices, image_size=size, topology=face.topology)
    maps = CanonicalProjector(method(net.eval(), net[1]), faces, face).attribute(x, target=0)
    for row in maps[:, 0]:
        y, column = divmod(int(row.argmax()), 40)
        place = face.vertices[spot, :2]
        assert math.hypot(column + 0.5 - float(place[0]), y + 0.5 - float(place[1])) < 5


def test_upsampling_as_captum_does_it(net: Net, x: Tensor) -> None:
    """What stands in the example of the class."""
    maps = LayerGradCamPlusPlus(net, net.relu).attribute(x, 1)
    assert LayerAttribution.interpolate(maps, (11, 9), "bilinear").shape == (3, 1, 11, 9)
