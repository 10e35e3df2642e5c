"""What holds of every confidence; probabilities and log-odds of classes by hand and against slow formulas."""

from __future__ import annotations

import copy
import io
import math
import warnings

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch.testing import assert_close

from captum_canonical.confidence import (
    BinnedConfidence,
    ClassConfidence,
    RegressionConfidence,
    VerificationConfidence,
    ZeroShotConfidence,
)
from captum_canonical.errors import CanonicalError
from confidence_tools import network, photos

CONFIDENCES = [
    lambda model: ClassConfidence(model),
    lambda model: ZeroShotConfidence(model, torch.rand(2, 4), [0, 1]),
    lambda model: VerificationConfidence(model),
    lambda model: BinnedConfidence(model, bins=[(0, 1, 2)] * 4),
    lambda model: RegressionConfidence(model),
]


@pytest.mark.parametrize("wrap", CONFIDENCES)
def test_confidence_has_the_mode_of_its_network(wrap) -> None:
    model = network().train()
    wrapped = wrap(model)
    assert wrapped.training and model.training
    model.eval()
    assert not any(module.training for module in wrapped.modules())
    wrapped.train()
    assert model.training and wrapped.training
    assert not wrapped.eval().training and not model.training
    assert not wrap(lambda x: x).training
    assert not wrap(lambda x: x).train().training


@pytest.mark.parametrize("wrap", CONFIDENCES)
def test_confidence_shares_the_weights_and_can_be_copied(wrap) -> None:
    model = network()
    wrapped = wrap(model)
    assert [id(p) for p in wrapped.parameters()] == [id(p) for p in model.parameters()]
    assert set(wrapped.state_dict()) == {f"model.{name}" for name in model.state_dict()}
    twin = copy.deepcopy(wrapped)
    assert not twin.training and twin.train().training and not model.training
    file = io.BytesIO()
    torch.save(wrapped.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("wrap", CONFIDENCES)
def test_what_is_no_network_is_refused(wrap) -> None:
    with pytest.raises(CanonicalError, match="expected a network or a callable"):
        wrap(torch.rand(3))


@pytest.mark.parametrize(
    "output", [torch.rand(3, 4, 2), torch.tensor(1.0), [[1.0]], (torch.rand(3, 4), torch.rand(3, 4))]
)
def test_outputs_of_other_shapes_are_refused(output: object) -> None:
    with pytest.raises(CanonicalError, match=r"expected logits of shape \(N, K\) or \(N,\) from the network"):
        ClassConfidence(lambda x: output)(photos())


def test_maps_of_one_pixel_are_flattened() -> None:
    logits = torch.randn(3, 4)
    assert_close(ClassConfidence(lambda x: logits[..., None, None])(None), logits.softmax(1))
    assert ClassConfidence(lambda x: logits[:0])(None).shape == (0, 4)


def test_additional_arguments_reach_the_network() -> None:
    confidence = ClassConfidence(lambda x, age: torch.stack([x.mean((1, 2, 3)), age], 1))
    x, age = photos(), torch.tensor([1.0, 2.0, 3.0])
    assert_close(confidence(x, age), torch.stack([x.mean((1, 2, 3)), age], 1).softmax(1))


def test_arguments_may_be_given_by_name() -> None:
    x, y, same = photos(), photos(), torch.tensor([True, False, True])
    confidence = VerificationConfidence(network())
    assert_close(confidence(x, photo_b=y, same=same), confidence(x, y, same))


def test_nothing_is_kept_between_calls() -> None:
    model, x = network(6), photos()
    confidence = ZeroShotConfidence(model, model(photos(4)).detach(), [0, 0, 1, 1])
    before = {name: copy.copy(value) for name, value in vars(confidence).items()}
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, target = confidence(x), confidence.target(x, [0, 1, 0])
        confidence(photos(1))
    random_after = torch.get_rng_state()
    assert_close(confidence(x), first)
    assert confidence.target(x, [0, 1, 0]).tolist() == target.tolist()
    assert vars(confidence).keys() == before.keys() and not target.requires_grad
    assert_close(dict(model.state_dict()), dict(state))
    assert not torch.equal(random, random_after)  # photos() draws; the calls alone do not:
    confidence.target(x, [0, 1, 0])
    assert torch.equal(torch.get_rng_state(), random_after)


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
