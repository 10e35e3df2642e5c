"""Bins and deviations of real values."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from captum.attr import Occlusion, Saliency
from torch import nn
from torch.testing import assert_close

from captum_canonical.confidence import (
    BinnedConfidence,
    RegressionConfidence,
)
from captum_canonical.errors import CanonicalError
from confidence_tools import network, photos


def gaussian(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value * math.pi / math.sqrt(3)))


@pytest.mark.parametrize(("kernel", "distribution"), [("gaussian", gaussian), ("logistic", logistic)])
def test_memberships_equal_the_slow_formula(kernel: str, distribution) -> None:
    edges, bandwidth = (0.0, 10.0, 30.0, 40.0, 90.0), 6.0
    values = torch.tensor([-20.0, 0.0, 9.0, 10.0, 25.0, 40.0, 200.0], dtype=torch.float64)
    got = BinnedConfidence(lambda x: x, edges, bandwidth, kernel)(values)
    for row, value in enumerate(values.tolist()):
        below = [0.0, *(distribution((edge - value) / bandwidth) for edge in edges[1:-1]), 1.0]
        want = torch.tensor([high - low for low, high in pairwise(below)], dtype=torch.float64)
        assert_close(got[row], want, rtol=1e-9, atol=1e-12)
    assert_close(got.sum(1), torch.ones(7, dtype=torch.float64))
    assert_close(BinnedConfidence(lambda x: x[:, None], edges, bandwidth, kernel)(values), got)


def test_far_bins_keep_their_digits_on_both_sides() -> None:
    confidence = BinnedConfidence(lambda x: x, [-10, -1, 1, 10], bandwidth=1.0)
    low, high = confidence(torch.tensor([-6.0, 6.0]))
    assert_close(low, high.flip(0), rtol=1e-6, atol=0)
    assert_close(high[0].item(), gaussian(-7), rtol=1e-4, atol=0)  # 1e-12, in single precision


def test_nine_pose_bins_are_the_product_of_both_angles() -> None:
    yaw, pitch = (-90, -15, 15, 90), (-60, -10, 10, 60)
    both = BinnedConfidence(lambda x: x, [yaw, pitch], bandwidth=(5.0, 4.0))
    angles = torch.tensor([[-30.0, 2.0], [16.0, -11.0]])
    got = both(angles)
    each = [BinnedConfidence(lambda x: x, e, h)(angles[:, i]) for i, (e, h) in enumerate([(yaw, 5.0), (pitch, 4.0)])]
    assert both.num_bins == 9 and got.shape == (2, 9)
    for row in range(2):
        for y in range(3):
            for p in range(3):
                assert_close(got[row, 3 * y + p], each[0][row, y] * each[1][row, p])
    assert both.target(angles).tolist() == [1, 6] == got.argmax(1).tolist()


def test_bins_hold_their_lower_edge_and_the_outermost_are_open() -> None:
    ages = BinnedConfidence(network(1), torch.arange(0.0, 101.0, 10.0))
    assert ages.num_bins == 10 and ages.bandwidth == (2.5,)
    values = torch.tensor([-5.0, 0.0, 9.99, 10.0, 55.0, 99.0, 100.0, 140.0])
    assert ages.bin_of(values).tolist() == [0, 0, 0, 1, 5, 9, 9, 9]
    assert ages.bin_of(values[:, None]).tolist() == ages.bin_of(values).tolist()
    assert ages.bin_of(torch.tensor([10, 55])).tolist() == [1, 5]
    unbounded = BinnedConfidence(network(1), [-torch.inf, -15, 15, torch.inf])
    assert unbounded.bandwidth == (7.5,) and unbounded.num_bins == 3


def test_soft_bins_drop_where_hard_bins_do_not() -> None:
    model, x = nn.Sequential(network(1), nn.Flatten(0)), photos(2)
    middle = float(model(x).mean().detach())
    width = 20 * float(model(x).detach().std())
    confidence = BinnedConfidence(model, [middle - 1.5 * width, middle - width / 2, middle + width / 2, middle + width])
    target = confidence.target(x)
    assert target.tolist() == [1, 1]
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 3, 3)}
    hard = lambda z: nn.functional.one_hot(confidence.target(z), 3).float()  # noqa: E731
    assert Occlusion(hard).attribute(x, target=target, **windows).abs().max() == 0
    assert Occlusion(confidence).attribute(x, target=target, **windows).abs().min() > 0
    gradient = Saliency(confidence).attribute(x, target=target)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_membership_has_the_right_gradient() -> None:
    values = torch.tensor([[-9.0, 3.0], [0.5, -2.0]], dtype=torch.float64, requires_grad=True)
    for kernel in ("gaussian", "logistic"):
        confidence = BinnedConfidence(lambda x: x, [(-5, -1, 1, 5), (-4, 0, 4)], 2.0, kernel)
        assert torch.autograd.gradcheck(confidence, values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": [0, 10]}, "increasing edges of at least two bins"),
        ({"bins": [0, 10, 10]}, "increasing edges"),
        ({"bins": [0, 10, math.nan, 30]}, "increasing edges"),
        ({"bins": [0, 10, 20], "bandwidth": 0.0}, "expected a positive, finite bandwidth"),
        ({"bins": [0, 10, 20], "bandwidth": [1.0, 2.0]}, r"for each of 1 outputs, got \(1.0, 2.0\)"),
        ({"bins": [-math.inf, 0, math.inf]}, "bins with infinite edges only have no width"),
        ({"bins": [0, 10, 20], "kernel": "box"}, "kernel: expected"),
    ],
)
def test_binned_bad_settings(arguments: dict, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        BinnedConfidence(network(1), **arguments)


def test_binned_outputs_must_fit_the_edges() -> None:
    confidence = BinnedConfidence(network(2), [0, 10, 20])
    with pytest.raises(CanonicalError, match=r"edges are given for 1 outputs, the values are of shape \(3, 2\)"):
        confidence(photos())


def test_regression_is_the_negative_deviation() -> None:
    ages = torch.tensor([[20.0], [41.0], [63.0]])
    value = torch.tensor([22.0, 41.0, 60.0])
    absolute, squared = RegressionConfidence(lambda x: ages), RegressionConfidence(lambda x: ages, "squared")
    for given in (value, value[:, None]):
        assert_close(absolute(None, given), torch.tensor([-2.0, 0.0, -3.0]))
        assert_close(squared(None, given), torch.tensor([-4.0, 0.0, -9.0]))
    assert_close(absolute(None, 41), torch.tensor([-21.0, 0.0, -22.0]))
    assert_close(absolute.value(None), ages[:, 0])
    points = RegressionConfidence(lambda x: torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert_close(points(None, torch.zeros(2, 2)), torch.tensor([-5.0, -1.0]))
    assert_close(points.value(None), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))


def test_regression_drop_is_how_far_hiding_moves_the_prediction() -> None:
    model, x = network(1), photos(2)
    confidence = RegressionConfidence(model)
    windows = {"sliding_window_shapes": (3, 12, 10), "perturbations_per_eval": 2}  # one window: all is hidden
    got = Occlusion(confidence).attribute(x, additional_forward_args=confidence.value(x), **windows)
    moved = (model(torch.zeros_like(x)) - model(x)).abs()[:, 0]
    assert_close(got[:, 0, 0, 0], moved.detach())
    # With a true value below both, hiding makes the prediction worse where it makes it larger.
    truth = torch.full((2,), -100.0)
    signed = Occlusion(confidence).attribute(x, additional_forward_args=truth, **windows)
    assert_close(signed[:, 0, 0, 0], (model(torch.zeros_like(x)) - model(x))[:, 0].detach(), rtol=1e-3, atol=1e-4)


def test_regression_gradients_are_finite() -> None:
    model, x = network(1), photos(2)
    confidence = RegressionConfidence(model)
    at_start = Saliency(confidence).attribute(x, additional_forward_args=confidence.value(x))
    assert_close(at_start, torch.zeros_like(at_start))
    towards = Saliency(confidence).attribute(x, additional_forward_args=torch.tensor([50.0, 50.0]))
    assert_close(towards, Saliency(model).attribute(x))


def test_regression_bad_input() -> None:
    with pytest.raises(CanonicalError, match="deviation: expected"):
        RegressionConfidence(network(1), deviation="relative")
    with pytest.raises(CanonicalError, match=r"\(3, 1\) predictions, got \(2,\)"):
        RegressionConfidence(network(1))(photos(), torch.zeros(2))
    with pytest.raises(CanonicalError, match=r"\(3, 3\) predictions, got \(3,\)"):  # would broadcast, wrongly
        RegressionConfidence(network(3))(photos(), torch.zeros(3))
