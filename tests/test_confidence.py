"""Confidence: the numbers by hand and against slow formulas, and Captum's methods through the wrappers."""

from __future__ import annotations

import copy
import io
import math
import warnings
from itertools import pairwise

import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.confidence import ClassConfidence, VerificationConfidence, ZeroShotConfidence
from captum_canonical.errors import CanonicalError
from captum_canonical.regression_confidence import BinnedConfidence, RegressionConfidence


def network(outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, outputs)
    ).eval()


def photos(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 12, 10)


# -------------------------------------------------------------------------------------------- wrappers in common
WRAPPERS = [
    lambda model: ClassConfidence(model),
    lambda model: ZeroShotConfidence(model, torch.rand(2, 4), [0, 1]),
    lambda model: VerificationConfidence(model),
    lambda model: BinnedConfidence(model, bins=[(0, 1, 2)] * 4),
    lambda model: RegressionConfidence(model),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapper_has_the_mode_of_its_network(wrap) -> None:
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


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapper_shares_the_weights_and_can_be_copied(wrap) -> None:
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


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_no_network_is_refused(wrap) -> None:
    with pytest.raises(CanonicalError, match="expected a network or a callable"):
        wrap(torch.rand(3))


@pytest.mark.parametrize("output", [torch.rand(3, 4, 2), torch.tensor(1.0), [1.0], (torch.rand(3, 4),)])
def test_outputs_of_other_shapes_are_refused(output: object) -> None:
    with pytest.raises(CanonicalError, match=r"expected logits of shape \(N, K\) or \(N,\) from the network"):
        ClassConfidence(lambda x: output)(photos())


def test_maps_of_one_pixel_are_flattened() -> None:
    logits = torch.randn(3, 4)
    assert_close(ClassConfidence(lambda x: logits[..., None, None])(None), logits.softmax(1))
    assert ClassConfidence(lambda x: logits[:0])(None).shape == (0, 4)


# ------------------------------------------------------------------------------------------------------- classes
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


def test_additional_arguments_reach_the_network() -> None:
    confidence = ClassConfidence(lambda x, age: torch.stack([x.mean((1, 2, 3)), age], 1))
    x, age = photos(), torch.tensor([1.0, 2.0, 3.0])
    assert_close(confidence(x, age), torch.stack([x.mean((1, 2, 3)), age], 1).softmax(1))


def test_unknown_link_is_refused() -> None:
    with pytest.raises(CanonicalError, match=r"expected link .* got 'logit'"):
        ClassConfidence(network(), link="logit")


# ----------------------------------------------------------------------------------------------------- zero shot
def gallery() -> tuple[nn.Module, Tensor, Tensor]:
    encoder = network(6)
    images = photos(5)
    return encoder, images, encoder(images).detach()


def test_zero_shot_is_the_cosine_to_each_gallery_image() -> None:
    encoder, _, features = gallery()
    confidence, x = ZeroShotConfidence(encoder, features, [0, 1, 1, 2, 2]), photos()
    got = confidence(x)
    assert got.shape == (3, 5)
    for row, query in enumerate(encoder(x)):
        for column, entry in enumerate(features):
            assert_close(got[row, column], query @ entry / (query.norm() * entry.norm()))


def test_target_is_the_nearest_of_its_own_label_and_never_the_query() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.7]])
    confidence = ZeroShotConfidence(nn.Identity(), directions, ["ada", "ada", "bob", "bob"])
    query = torch.tensor([[2.0, 0.1], [1.0, 0.2]])
    assert confidence.target(query, ["ada", "bob"]).tolist() == [0, 3]
    # The photographs are gallery images 0 and 2 themselves: left alone they would be compared with themselves.
    own = directions[[0, 2]]
    assert confidence.target(own, ["ada", "bob"], exclude=torch.tensor([0, 2])).tolist() == [1, 3]
    assert confidence.target(query, ["ada", "bob"], exclude=[0, -1]).tolist() == [1, 3]
    with pytest.warns(UserWarning, match=r"photographs \[0, 1\] have a cosine similarity of 1"):
        assert confidence.target(own, ["ada", "bob"]).tolist() == [0, 2]


@pytest.mark.parametrize("labels", [torch.tensor([7, 7, 8]), [7, 7, 8], [torch.tensor(v) for v in (7, 7, 8)]])
def test_labels_may_be_tensors(labels) -> None:
    confidence = ZeroShotConfidence(nn.Identity(), torch.eye(3), labels)
    assert confidence.target(torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([7])).tolist() == [1]


def test_a_label_without_another_gallery_image_is_named() -> None:
    confidence = ZeroShotConfidence(nn.Identity(), torch.eye(3), ["ada", "ada", "bob"])
    query = torch.tensor([[1.0, 0.5, 0.1], [0.1, 0.5, 1.0]])
    with pytest.raises(CanonicalError, match=r"no image of label 'eve' \(photograph 1\)"):
        confidence.target(query, ["ada", "eve"])
    with pytest.raises(CanonicalError, match=r"no other image of label 'bob' \(photograph 1\)"):
        confidence.target(query, ["ada", "bob"], exclude=[0, 2])


def test_zero_shot_bad_input() -> None:
    with pytest.raises(CanonicalError, match=r"G gallery_labels, got \(3, 3\) and 2"):
        ZeroShotConfidence(nn.Identity(), torch.eye(3), [0, 1])
    with pytest.raises(CanonicalError, match="finite gallery_features"):
        ZeroShotConfidence(nn.Identity(), torch.full((1, 3), torch.nan), [0])
    confidence = ZeroShotConfidence(nn.Identity(), torch.eye(3), [0, 1, 2])
    with pytest.raises(CanonicalError, match="the encoder gave 2 features, the gallery has 3"):
        confidence(torch.rand(1, 2))
    with pytest.raises(CanonicalError, match="expected 1 labels"):
        confidence.target(torch.rand(1, 3), [0, 1])
    with pytest.raises(CanonicalError, match=r"got 1 and \[3\]"):
        confidence.target(torch.rand(1, 3), [0], exclude=[3])


def test_captum_explains_one_fixed_gallery_image() -> None:
    encoder, images, features = gallery()
    confidence = ZeroShotConfidence(encoder, features, [0, 0, 1, 1, 1])
    target = confidence.target(images[:2], [0, 0], exclude=[0, 1])
    assert target.tolist() == [1, 0]
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 3, 3)}
    got = Occlusion(confidence).attribute(images[:2], target=target, perturbations_per_eval=3, **windows)
    for row, other in enumerate((1, 0)):
        cosine = lambda x, entry=features[other]: torch.cosine_similarity(encoder(x), entry[None])  # noqa: E731
        assert_close(got[row : row + 1], Occlusion(cosine).attribute(images[row : row + 1], **windows))
    assert LayerGradCam(confidence, encoder[0]).attribute(images[:2], target=target).shape == (2, 1, 12, 10)


# -------------------------------------------------------------------------------------------------- verification
def test_verification_rises_as_the_truth_becomes_clearer() -> None:
    a, b = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    confidence = VerificationConfidence(nn.Identity(), threshold=0.3)
    assert_close(confidence(a, b, torch.ones(3)), torch.tensor([0.7, 0.3, -1.3]))
    assert_close(confidence(a, b, torch.zeros(3, dtype=torch.bool)), torch.tensor([-0.7, -0.3, 1.3]))
    mixed = torch.tensor([1, -1, -1])
    assert_close(confidence(a, b, mixed), torch.tensor([0.7, -0.3, 1.3]))
    assert_close(confidence(a, b, mixed), confidence(b, a, mixed == 1))
    assert_close(confidence(a, b, True), confidence(a, b, torch.ones(3)))


def test_hiding_what_makes_a_genuine_pair_alike_is_a_positive_drop() -> None:
    # The encoder reads two pixels: the left one is shared by both photographs, the right one is not.
    encoder = lambda x: x[:, 0, 0, :2]  # noqa: E731
    a = torch.tensor([1.0, 0.5]).reshape(1, 1, 1, 2)
    b = torch.tensor([1.0, -0.5]).reshape(1, 1, 1, 2)
    mask = torch.tensor([[[[0, 1]]]])

    def drops(same: bool, threshold: float) -> tuple[Tensor, ...]:
        method = FeatureAblation(VerificationConfidence(encoder, threshold))
        arguments = {"additional_forward_args": torch.tensor([same]), "feature_mask": (mask, mask)}
        return method.attribute((a, b), **arguments)  # the same pixel of both photographs at once

    genuine, impostor = drops(True, 0.0), drops(False, 0.0)
    assert_close(genuine[0].flatten(), torch.tensor([1.6, -0.4]))  # cos 0.6 falls to -1, and rises to 1
    assert_close(genuine[0], genuine[1])
    assert_close(impostor[0], -genuine[0])
    assert_close(drops(True, 0.4)[0], genuine[0])  # the threshold cancels


def test_gradients_and_cams_of_a_pair() -> None:
    encoder, a, b = network(6), photos(), photos()
    confidence, same = VerificationConfidence(encoder), torch.tensor([True, False, True])
    gradient_a, gradient_b = Saliency(confidence).attribute((a, b), additional_forward_args=same)
    assert gradient_a.abs().max() > 0 and gradient_b.abs().max() > 0
    # A layer runs once for each photograph, and is seen in the run on the second.
    second = LayerGradCam(confidence, encoder[0]).attribute((a, b), additional_forward_args=same)
    first = LayerGradCam(confidence, encoder[0]).attribute((b, a), additional_forward_args=same)
    for photo, other, got in ((b, a, second), (a, b, first)):
        reference = encoder(other).detach()
        sign = 2.0 * same - 1
        alone = lambda x, r=reference, s=sign: s * torch.cosine_similarity(encoder(x), r)  # noqa: E731
        assert_close(got, LayerGradCam(alone, encoder[0]).attribute(photo))


@pytest.mark.parametrize("same", [torch.tensor([0, 1, 1]), torch.ones(2), torch.ones(3, 1), torch.tensor(0.5)])
def test_verification_refuses_an_unclear_truth(same: Tensor) -> None:
    with pytest.raises(CanonicalError, match=r"expected same as bool or \+1 / -1 of shape \(3,\)"):
        VerificationConfidence(network(6))(photos(), photos(), same)


def test_verification_bad_input() -> None:
    with pytest.raises(CanonicalError, match=r"expected a cosine -1\.\.1 as threshold, got 1\.5"):
        VerificationConfidence(network(), threshold=1.5)
    with pytest.raises(CanonicalError, match=r"got features of shape \(2, 4\) and \(3, 4\)"):
        VerificationConfidence(network())(photos(2), photos(3), True)


# --------------------------------------------------------------------------------------------------------- binned
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
        ({"bins": [0, 10, 20], "kernel": "box"}, "expected kernel"),
    ],
)
def test_binned_bad_settings(arguments: dict, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        BinnedConfidence(network(1), **arguments)


def test_binned_outputs_must_fit_the_edges() -> None:
    confidence = BinnedConfidence(network(2), [0, 10, 20])
    with pytest.raises(CanonicalError, match=r"edges are given for 1 outputs, the values are of shape \(3, 2\)"):
        confidence(photos())


# ----------------------------------------------------------------------------------------------------- regression
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
    with pytest.raises(CanonicalError, match="expected deviation"):
        RegressionConfidence(network(1), deviation="relative")
    with pytest.raises(CanonicalError, match=r"\(3, 1\) predictions, got \(2,\)"):
        RegressionConfidence(network(1))(photos(), torch.zeros(2))
    with pytest.raises(CanonicalError, match=r"\(3, 3\) predictions, got \(3,\)"):  # would broadcast, wrongly
        RegressionConfidence(network(3))(photos(), torch.zeros(3))


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
