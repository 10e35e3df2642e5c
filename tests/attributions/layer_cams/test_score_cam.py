"""Score-CAM by itself."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.attributions.score_cam import LayerScoreCam
from layer_cam_tools import WEIGHTINGS, Net, Pair, same, scored

pytestmark = pytest.mark.filterwarnings("ignore:(Setting backward hooks on ReLU|Input Tensor 0 did not already)")


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
