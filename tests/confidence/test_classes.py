"""Probabilities and log-odds by hand and against slow formulas, and Captum's methods on them."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch.testing import assert_close

from captum_canonical.confidence import (
    ClassConfidence,
)
from captum_canonical.errors import CanonicalError
from confidence_tools import network, photos


def test_probability_is_the_softmax() -> None:
    model, x = network(), photos()
    assert_close(ClassConfidence(model)(x), model(x).softmax(1))


@pytest.mark.parametrize("classes", [2, 3, 50])
def test_log_odds_equal_the_slow_formula(classes: int) -> None:
    logits = torch.randn(6, classes, dtype=torch.float64) * 10
    logits[0] = 0.0  # all tied
    logits[1, :2] = 30.0  # two tied at the top
    got = ClassConfidence(lambda x: x, link="log_odds")(logits)
    for row in range(6):
        for target in range(classes):
            others = [logits[row, k] for k in range(classes) if k != target]
            assert_close(got[row, target], logits[row, target] - torch.logsumexp(torch.stack(others), 0))
    p = logits.softmax(1)
    certain = (p > 1 - 1e-6) | (p < 1e-6)
    assert_close(got[~certain], (p / (1 - p)).log()[~certain], rtol=1e-6, atol=1e-6)


def test_log_odds_do_not_saturate_in_single_precision() -> None:
    logits = torch.tensor([[200.0, 0.0, -3.0]], requires_grad=True)
    odds = ClassConfidence(lambda x: x, link="log_odds")(logits)
    assert_close(odds[0, 0], torch.tensor(200 - math.log(1 + math.exp(-3))))
    assert_close(odds[0, 1:], torch.tensor([-200.0, -203.0]))
    odds[0, 0].backward()
    other = 1 / (1 + math.exp(-3))
    assert_close(logits.grad, torch.tensor([[1.0, -other, other - 1]]))  # the probability's gradient would be 0


def test_log_odds_have_the_right_gradient_everywhere() -> None:
    tied = torch.zeros(1, 3, dtype=torch.float64)
    for logits in (torch.randn(3, 4, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)):
        assert torch.autograd.gradcheck(ClassConfidence(lambda x: x, link="log_odds"), logits.requires_grad_())
    gradient = torch.autograd.functional.jacobian(ClassConfidence(lambda x: x, link="log_odds"), tied)
    assert_close(gradient[0, :, 0], 1.5 * torch.eye(3, dtype=torch.float64) - 0.5)  # 1 and -1/2 each


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_a_single_logit_tells_two_classes_apart(shape: tuple[int, ...]) -> None:
    logit = torch.tensor([-50.0, -1.0, 0.0, 2.0, 120.0])
    model = lambda x: logit.reshape(shape)  # noqa: E731
    assert_close(ClassConfidence(model)(None), torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)], 1))
    assert_close(ClassConfidence(model, link="log_odds")(None), torch.stack([-logit, logit], 1))


def test_the_target_picks_the_side_of_a_single_logit() -> None:
    confidence, x = ClassConfidence(network(1)), photos()
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 3, 3)}
    positive, negative = (Occlusion(confidence).attribute(x, target=side, **windows) for side in (1, 0))
    assert_close(positive, -negative)
    assert positive.abs().max() > 1e-4


def test_captum_methods_work_through_class_confidence() -> None:
    model, x = network(), photos()
    for link in ("probability", "log_odds"):
        confidence = ClassConfidence(model, link)
        plain = (lambda x: model(x).softmax(1)) if link == "probability" else (lambda x: model(x).softmax(1).logit())
        for method in (Saliency, IntegratedGradients):
            got = method(confidence).attribute(x, target=2)
            assert_close(got, method(plain).attribute(x, target=2), rtol=1e-3, atol=1e-5)
        got = LayerGradCam(confidence, model[0]).attribute(x, target=2)
        activation = model[0](x).detach().requires_grad_()
        output = model[1:](activation)
        confidence_there = ClassConfidence(lambda _, z=output: z, link)(None)
        gradient = torch.autograd.grad(confidence_there[:, 2].sum(), activation)[0]
        want = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True)
        assert_close(got.detach(), want.detach())
    assert not any(module._forward_hooks for module in model.modules())


def test_unknown_link_is_refused() -> None:
    with pytest.raises(CanonicalError, match=r"link: expected .* got 'logit'"):
        ClassConfidence(network(), link="logit")
