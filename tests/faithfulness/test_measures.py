"""Average Drop, % Increase, Win % and their kin: by hand, against loops, in batches, without the released errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import FaithfulnessScore, average_drop, increase_rate, mean_drop
from captum_canonical.faithfulness.wins import win_rates, win_shares


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


# Five images: a drop, a zero map (no change), an increase, a tie of two methods, everything gone.
CLEAN = torch.tensor([0.5, 0.75, 0.25, 1.0, 0.8], dtype=torch.float64)

SCORES = {
    "ours": torch.tensor([0.25, 0.75, 0.5, 0.5, 0.0], dtype=torch.float64),
    "cam": torch.tensor([0.375, 0.375, 0.25, 0.5, 0.4], dtype=torch.float64),
    "noise": torch.tensor([0.5, 0.5625, 0.125, 0.75, 0.8], dtype=torch.float64),
}


def test_average_drop_of_five_images() -> None:
    score = average_drop(CLEAN, SCORES["ours"])
    exactly(score.per_image, torch.tensor([50.0, 0.0, 0.0, 50.0, 100.0], dtype=torch.float64))
    assert score.value == 40.0 and score.n == 5 and score.left_out == 0
    assert average_drop(CLEAN, SCORES["cam"]).value == (25 + 50 + 0 + 50 + 50) / 5
    assert str(score) == "Average Drop %, negative images: 40 (higher is better, n = 5)"


def test_increase_of_five_images() -> None:
    score = increase_rate(CLEAN, SCORES["ours"])
    exactly(score.per_image, torch.tensor([0.0, 0.0, 100.0, 0.0, 0.0], dtype=torch.float64))
    assert score.value == 20.0
    assert increase_rate(CLEAN, SCORES["noise"]).value == 0.0


def test_mean_drop_of_five_images() -> None:
    score = mean_drop(CLEAN, SCORES["ours"])
    assert_close(score.per_image, torch.tensor([0.25, 0.0, -0.25, 0.5, 0.8], dtype=torch.float64))
    assert math.isclose(score.value, 0.26)
    # Neither an offset nor the sign of the scores matters: logits are welcome.
    assert math.isclose(mean_drop(CLEAN - 7, SCORES["ours"] - 7).value, 0.26)


def test_wins_of_five_images() -> None:
    # Lowest: ours, cam, noise, ours and cam, ours.
    wins = win_rates(SCORES)
    assert wins.methods == ("ours", "cam", "noise") and wins.n == 5 and wins.ties == 1
    exactly(wins.percent, torch.tensor([50.0, 30.0, 20.0], dtype=torch.float64))
    want = torch.tensor([[50.0, 50.0, 60.0], [50.0, 50.0, 80.0], [40.0, 20.0, 50.0]], dtype=torch.float64)
    exactly(wins.pairwise, want)
    assert wins.pairwise_ties.tolist() == [[5, 1, 0], [1, 5, 0], [0, 0, 5]]
    assert wins.direction == "higher" and wins.explanation == "negative"
    shares = win_shares(SCORES)
    want = torch.tensor([[1, 0, 0, 0.5, 1], [0, 1, 0, 0.5, 0], [0, 0, 1, 0, 0]], dtype=torch.float64)
    exactly(shares, want)
    # With positive images the highest confidence wins: noise, ours, ours, noise, noise.
    positive = win_rates(SCORES, explanation="positive")
    exactly(positive.percent, torch.tensor([40.0, 0.0, 60.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("measure", "negative", "positive"),
    [(average_drop, "higher", "lower"), (increase_rate, "lower", "higher"), (mean_drop, "higher", "lower")],
)
def test_direction(measure: Callable[..., FaithfulnessScore], negative: str, positive: str) -> None:
    for explanation, direction in (("negative", negative), ("positive", positive)):
        score = measure(CLEAN, SCORES["ours"], explanation=explanation)
        assert (score.direction, score.explanation) == (direction, explanation)
        exactly(score.per_image, measure(CLEAN, SCORES["ours"]).per_image)
    with pytest.raises(CanonicalError, match="explanation: expected 'negative' or 'positive', got 'both'"):
        measure(CLEAN, CLEAN, explanation="both")


def test_ties_are_shared_by_all_who_tie() -> None:
    same = torch.tensor([0.5, 0.25], dtype=torch.float64)
    wins = win_rates({"a": same, "b": same.clone(), "c": same.clone()})
    assert_close(wins.percent, torch.full((3,), 100 / 3, dtype=torch.float64))
    assert wins.ties == 2
    exactly(wins.pairwise, torch.full((3, 3), 50.0, dtype=torch.float64))


def test_rounding_is_a_tie() -> None:
    almost = {"a": CLEAN / 2, "b": CLEAN / 2 * (1 + 1e-7), "c": CLEAN / 2 * (1 + 1e-4)}
    wins = win_rates(almost)
    assert wins.percent.tolist() == [50.0, 50.0, 0.0] and wins.ties == 5
    assert wins.pairwise.tolist() == [[50.0, 50.0, 100.0], [50.0, 50.0, 100.0], [0.0, 0.0, 50.0]]
    assert win_rates(almost, tolerance=0.0).percent.tolist() == [100.0, 0.0, 0.0]
    assert increase_rate(CLEAN, CLEAN * (1 - 1e-7)).value == 0.0
    assert increase_rate(CLEAN * (1 - 1e-7), CLEAN).value == 0.0
    assert increase_rate(CLEAN * (1 - 1e-7), CLEAN, tolerance=0.0).value == 100.0
    # Relative to the scores: small confidences are compared as finely as large ones.
    assert increase_rate(CLEAN * 1e-9, CLEAN * 1.1e-9).value == 100.0
    assert win_rates({"a": CLEAN * 1e-9, "b": CLEAN * 1.1e-9}).percent.tolist() == [100.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_wins_equal_a_loop_and_sum_to_100(methods: int, images: int, levels: int, seed: int, positive: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randint(0, levels, (methods, images), generator=generator).double() / 8
    names = [f"method {m}" for m in range(methods)]
    wins = win_rates(dict(zip(names, table, strict=True)), explanation="positive" if positive else "negative")
    sign = -1 if positive else 1
    credit, ties = [0.0] * methods, 0
    for n in range(images):
        column = [sign * float(table[m, n]) for m in range(methods)]
        winners = [m for m in range(methods) if column[m] == min(column)]
        ties += len(winners) > 1
        for m in winners:
            credit[m] += 100 / len(winners) / images
    assert_close(wins.percent, torch.tensor(credit, dtype=torch.float64))
    assert math.isclose(float(wins.percent.sum()), 100.0) and wins.ties == ties
    for i in range(methods):
        for j in range(methods):
            won = sum(sign * float(table[i, n] - table[j, n]) < 0 for n in range(images))
            tied = sum(float(table[i, n]) == float(table[j, n]) for n in range(images))
            assert math.isclose(float(wins.pairwise[i, j]), 100 * (won + tied / 2) / images)
            assert int(wins.pairwise_ties[i, j]) == tied
    assert_close(wins.pairwise + wins.pairwise.T, torch.full_like(wins.pairwise, 100.0))


def test_another_method_changes_no_duel() -> None:
    two = win_rates({name: SCORES[name] for name in ("ours", "cam")})
    exactly(win_rates(SCORES).pairwise[:2, :2], two.pairwise)


@pytest.mark.parametrize("call", [average_drop, increase_rate, lambda f, e, **k: win_rates({"a": f, "b": e}, **k)])
def test_logits_are_refused(call: Callable[..., object]) -> None:
    for clean, explained in ((CLEAN * 3, CLEAN), (CLEAN, CLEAN - 0.5), (CLEAN, CLEAN + 0.3)):
        with pytest.raises(CanonicalError, match=r"expected confidences in 0\.\.1, got scores from .* unbounded=True"):
            call(clean, explained)
        call(clean, explained, unbounded=True)
    call(CLEAN.float() * (1 + 1e-7), CLEAN)  # the rounding of a softmax is no logit


def test_average_drop_of_logits_leaves_out_what_has_no_share() -> None:
    clean = torch.tensor([2.0, -1.0, 0.0, 4.0])
    score = average_drop(clean, torch.tensor([1.0, -2.0, -1.0, 8.0]), unbounded=True)
    assert_close(score.per_image[[0, 3]], torch.tensor([50.0, 0.0], dtype=torch.float64))
    assert score.per_image[1:3].isnan().all()
    assert (score.value, score.n, score.left_out) == (25.0, 2, 2)


def test_zero_clean_confidence_is_finite_or_said() -> None:
    score = average_drop(torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.25]))
    assert (score.value, score.n, score.left_out) == (50.0, 1, 1)
    nothing = average_drop(torch.zeros(2), torch.zeros(2))
    assert math.isnan(nothing.value) and nothing.n == 0 and nothing.left_out == 2
    assert increase_rate(torch.zeros(2), torch.zeros(2)).value == 0.0


@pytest.mark.parametrize(
    ("clean", "explained"),
    [
        (CLEAN, CLEAN[:4]),
        (CLEAN[:, None], CLEAN[:, None]),
        (CLEAN[:0], CLEAN[:0]),
        (CLEAN, CLEAN * math.nan),
        (CLEAN * math.inf, CLEAN),
    ],
)
def test_scores_must_belong_together(clean: Tensor, explained: Tensor) -> None:
    for call in (average_drop, increase_rate, mean_drop, lambda f, e: win_rates({"a": f, "b": e})):
        with pytest.raises(CanonicalError, match="two times N finite scores of the same images"):
            call(clean, explained)  # type: ignore[operator]
    with pytest.raises(CanonicalError, match="at least one method, got none"):
        win_rates({})


def test_unlike_logits_probabilities_have_shares() -> None:
    """F3: why logits are refused: a constant that changes no decision changes their Average Drop."""
    clean, explained = torch.tensor([4.0, 6.0]), torch.tensor([2.0, 3.0])
    assert average_drop(clean, explained, unbounded=True).value == 50.0
    assert average_drop(clean + 4, explained + 4, unbounded=True).value == 27.5
