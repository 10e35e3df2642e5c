"""Recognition and verification against slow formulas, and the threshold of equal errors against counted pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, LayerGradCam, Occlusion, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.confidence import (
    VerificationConfidence,
    ZeroShotConfidence,
)
from captum_canonical.confidence.recognition import equal_error_threshold
from captum_canonical.errors import CanonicalError
from confidence_tools import network, photos


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


def rates(threshold: float, similarity: Tensor, same: Tensor) -> tuple[float, float]:
    """Shares of different pairs accepted and of same pairs rejected, counted."""
    accepted = [float(s) > threshold for s, t in zip(similarity.double(), same, strict=True) if not t]
    rejected = [float(s) <= threshold for s, t in zip(similarity.double(), same, strict=True) if t]
    return sum(accepted) / len(accepted), sum(rejected) / len(rejected)


def test_equal_error_by_hand() -> None:
    apart = torch.tensor([0.0, 0.25, 0.75, 1.0])
    assert equal_error_threshold(apart, torch.tensor([False, False, True, True])) == (0.5, 0.0)
    # A pair is accepted above the threshold: with all pairs alike none is, and half of the decisions are wrong.
    assert equal_error_threshold(torch.full((4,), 0.5), torch.tensor([False, False, True, True])) == (0.5, 0.5)
    # Of three each, one different pair lies above and one same pair below.
    scores, same = np.array([0.0, 0.25, 0.75, 0.5, 1.0, 1.0]), np.arange(6) >= 3
    threshold, rate = equal_error_threshold(scores, same)
    assert threshold == 0.625 and rate == 1 / 3


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_comes_closer_to_equal_errors(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    same = torch.rand(60, generator=generator) > 0.6
    similarity = torch.randn(60, generator=generator) * 0.3 + 0.4 * same
    similarity = (similarity * 10).round() / 10 if seed % 2 else similarity  # with ties
    threshold, rate = equal_error_threshold(similarity, same)
    accepted, rejected = rates(threshold, similarity, same)
    assert_close(rate, (accepted + rejected) / 2)
    for other in torch.linspace(-1.5, 1.5, 601).tolist():
        there = rates(other, similarity, same)
        assert abs(accepted - rejected) <= abs(there[0] - there[1]) + 1e-12


@pytest.mark.parametrize(
    ("similarity", "same"),
    [
        (torch.rand(3), torch.ones(3, dtype=torch.bool)),
        (torch.rand(3), torch.zeros(3, dtype=torch.bool)),
        (torch.rand(3), torch.tensor([1, 0, 1])),
        (torch.rand(3), torch.tensor([True, False])),
        (torch.tensor([0.1, torch.nan]), torch.tensor([True, False])),
    ],
)
def test_equal_error_bad_input(similarity: Tensor, same: Tensor) -> None:
    with pytest.raises(CanonicalError, match="equal_error_threshold: expected P finite similarities and P bools"):
        equal_error_threshold(similarity, same)
