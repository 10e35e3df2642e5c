"""What all confidences have in common."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
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


@pytest.mark.parametrize("output", [torch.rand(3, 4, 2), torch.tensor(1.0), [1.0], (torch.rand(3, 4),)])
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
