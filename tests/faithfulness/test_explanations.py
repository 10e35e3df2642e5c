"""Explanation images: what is hidden in them, and their scores, each its own whatever the batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import explanation_images, score_explanations
from captum_canonical.faithfulness.fills import fill_pixels
from captum_canonical.faithfulness.masks import equal_mass_masks, explanation_masks
from captum_canonical.faithfulness.measures import average_drop, increase_rate, mean_drop


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


def test_eq_9_by_hand() -> None:
    images = torch.tensor([[[[0.5, 1.0]], [[0.25, 0.75]]]])
    hide = torch.tensor([[[[0.5, 0.25]]]])
    assert_close(explanation_images(images, hide), torch.tensor([[[[0.25, 0.75]], [[0.125, 0.5625]]]]))
    assert_close(explanation_images(images, hide, "positive"), torch.tensor([[[[0.25, 0.25]], [[0.125, 0.1875]]]]))
    # With a fill F: (1 - H) I + H F, and the other way round.
    assert_close(explanation_images(images, hide, fill=1.0)[0, 0], torch.tensor([[0.75, 1.0]]))
    assert_close(explanation_images(images, hide, "positive", 1.0)[0, 1], torch.tensor([[0.625, 0.9375]]))


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "imputed", 7.0])
def test_a_zero_map_changes_no_bit(fill: str | float) -> None:
    images = torch.randn(2, 3, 8, 8) * 50
    masks = explanation_masks(torch.zeros(2, 1, 8, 8))
    exactly(explanation_images(images, masks, fill=fill), images)
    ones = torch.ones(2, 1, 8, 8)
    exactly(explanation_images(images, ones, "positive", fill), images)
    hidden = explanation_images(images, ones, "negative", fill)
    exactly(hidden, fill_pixels(images, ones > 0, fill))
    exactly(explanation_images(images, masks, "positive", fill), hidden)


def test_only_hidden_pixels_are_replaced() -> None:
    asked = []

    def fill(images: Tensor, hidden: Tensor) -> Tensor:
        asked.append(hidden)
        return torch.zeros_like(images)

    images, maps = torch.rand(2, 3, 6, 6) + 1, torch.randn(2, 1, 6, 6)
    masks = explanation_masks(maps, budget=0.3)
    made = explanation_images(images, masks, fill=fill)
    exactly(asked[0], masks.values > 0)
    exactly((made != images).any(1, keepdim=True), masks.values > 0)
    explanation_images(images, masks, "positive", fill)
    exactly(asked[1], masks.values < 1)


def test_images_keep_their_type() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        images = torch.rand(1, 3, 6, 6).to(dtype).requires_grad_()
        made = explanation_images(images, explanation_masks(torch.rand(1, 1, 6, 6)), fill="blur")
        assert made.dtype == dtype and not made.requires_grad


@pytest.mark.parametrize(
    ("images", "masks", "arguments", "message"),
    [
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2), {}, "floating point .* got torch.uint8"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), {}, r"and \(1, 3, 2, 2\)"),
        (torch.zeros(2, 3, 2, 2), torch.zeros(1, 1, 2, 2), {}, r"\(2, 3, 2, 2\) and \(1, 1, 2, 2\)"),
        (torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), 1.5), {}, "in 0..1, got .* 1.5"),
        (torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), math.nan), {}, "in 0..1, got "),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2), {"explanation": "both"}, "explanation: .* got 'both'"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2), {"fill": "inpaint"}, "got 'inpaint'"),
    ],
)
def test_bad_images(images: Tensor, masks: Tensor, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        explanation_images(images, masks, **arguments)  # type: ignore[arg-type]


class Net(nn.Module):
    """Probabilities of two classes whose last bits depend on the size of the batch, as in real life."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.linear(x.flatten(1)).softmax(1)
        return scores * (1 + 1e-7 * (len(x) % 3))


@pytest.fixture
def net() -> Net:
    return Net().eval()


def rows(count: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Images, maps of which the second is zero, and targets."""
    images, maps = torch.rand(count, 3, 8, 8), torch.randn(count, 1, 8, 8)
    maps[1] = 0
    return images, maps, torch.arange(count) % 2


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "imputed"])
@pytest.mark.parametrize("explanation", ["negative", "positive"])
def test_each_image_has_its_own_score(net: Net, fill: str, explanation: str) -> None:
    """F1: in the released code all images of a batch get the score of its last one; F10: a batch of one breaks it."""
    images, maps, target = rows()
    masks = explanation_masks(maps, budget=0.2)
    want = []
    for n in range(9):
        single = explanation_images(images[n : n + 1], masks.values[n : n + 1], explanation, fill)  # type: ignore[arg-type]
        want.append(net(single)[0, target[n]].item())
    assert len({round(score, 6) for score in want}) == 9
    for size in (1, 2, 4, 7, 32):
        got = score_explanations(
            net,
            images,
            masks,
            target,
            explanation=explanation,
            fill=fill,
            batch_size=size,  # type: ignore[arg-type]
        )
        assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1, 2, 4, 32])
def test_a_fill_may_have_an_entry_for_each_image(net: Net, size: int) -> None:
    """Whatever the batches, and although an image in which nothing is hidden is not run."""
    images, maps, target = rows()
    fill, masks = torch.rand(9, 3, 8, 8), explanation_masks(maps, budget=0.2)
    clean = net(images)[range(9), target].detach()
    got = score_explanations(net, images, masks, target, fill=fill, clean_scores=clean, batch_size=size)
    curves = removal_curves(net, images, maps, target, fill=fill, fractions=[0, 1], batch_size=size)
    for n in range(9):
        single = images[n] + masks.values[n].float() * (fill[n] - images[n])
        assert_close(float(got[n]), net(single[None])[0, target[n]].item(), rtol=1e-5, atol=0)
        assert_close(float(curves.morf[n, 1]), net(fill[n : n + 1])[0, target[n]].item(), rtol=1e-5, atol=0)
    with pytest.raises(CanonicalError, match="does not broadcast"):
        score_explanations(net, images, masks, target, fill=fill[:4], batch_size=4)


def test_a_zero_map_has_no_drop_and_no_increase(net: Net) -> None:
    images, maps, target = rows()
    clean = score_explanations(net, images, explanation_masks(maps * 0), target, batch_size=9)
    exactly(clean.float(), net(images)[range(9), target].detach())
    masks = explanation_masks(maps)
    for size in (1, 7, 32):
        scores = score_explanations(net, images, masks, target, clean_scores=clean, batch_size=size)
        assert float(average_drop(clean, scores).per_image[1]) == 0
        assert float(mean_drop(clean, scores).per_image[1]) == 0
        assert float(increase_rate(clean, scores, tolerance=0.0).per_image[1]) == 0
        assert_close(scores, score_explanations(net, images, masks, target), rtol=1e-6, atol=0)  # the others are run
    # A positive image of the same map shows nothing at all, and is scored.
    shown = score_explanations(net, images, masks, target, clean_scores=clean, explanation="positive")
    assert_close(float(shown[1]), net(images[1:2] * 0)[0, 1].item(), rtol=1e-6, atol=0)


def test_a_method_more_changes_no_other_row(net: Net) -> None:
    images, maps, target = rows()
    methods = {"a": maps, "b": maps.flip(3), "c": maps.abs()}
    alone = score_explanations(net, images, explanation_masks(methods["a"]), target)
    masks = {name: explanation_masks(values) for name, values in methods.items()}
    exactly(score_explanations(net, images, masks["a"], target), alone)
    # Eq. 10 is different, and says so: its s is that of all methods.
    pair = equal_mass_masks({name: methods[name] for name in "ab"})
    assert (equal_mass_masks(methods)["a"].s >= 0).all() and (equal_mass_masks(methods)["a"].s <= pair["a"].s).all()


def test_the_inputs_stay_as_they_are(net: Net) -> None:
    images, maps, target = rows()
    before = images.clone()

    def vandal(x: Tensor) -> Tensor:
        scores = net(x)
        x.zero_()
        return scores

    masks = explanation_masks(maps)
    spoilt = score_explanations(vandal, images, masks, target, batch_size=4)
    exactly(images, before)
    assert_close(spoilt, score_explanations(net, images, masks, target, batch_size=4))


def test_arguments_follow_their_image(net: Net) -> None:
    images, maps, target = rows()
    masks, weight = explanation_masks(maps), torch.arange(1.0, 10.0)
    got = score_explanations(
        lambda x, w: net(x) * w[:, None], images, masks, target, additional_forward_args=weight, batch_size=4
    )
    assert_close(got, score_explanations(net, images, masks, target) * weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clean_scores": torch.zeros(3)}, r"expected 9 finite scores, got shape \(3,\)"),
        ({"clean_scores": torch.full((9,), math.nan)}, "finite scores"),
        ({"batch_size": 0}, "batch_size: expected an integer from 1 on, got 0"),
        ({"batch_size": True}, "batch_size: expected an integer from 1 on, got True"),
        ({"target": None}, "say which one to explain"),
        ({"explanation": "both"}, "explanation: .* got 'both'"),
    ],
)
def test_bad_arguments(net: Net, arguments: dict[str, object], message: str) -> None:
    images, maps, target = rows()
    with pytest.raises(CanonicalError, match=message):
        score_explanations(net, images, explanation_masks(maps), **{"target": target, **arguments})  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="got 8 masks of 9 inputs"):
        score_explanations(net, images, explanation_masks(maps[:8]), target)
