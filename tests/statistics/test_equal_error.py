"""The threshold of equal errors, against counted pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.equal_error import equal_error_threshold


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
