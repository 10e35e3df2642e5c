"""Average Drop, % Increase, Win % and their kin: by hand, against loops, in batches, without the released errors."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torchmetrics import Metric, MetricCollection

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import explanation_images, score_explanations
from captum_canonical.faithfulness.masks import equal_mass_masks, explanation_masks
from captum_canonical.faithfulness.measures import FaithfulnessScore, average_drop, increase_rate, mean_drop
from captum_canonical.faithfulness.metrics import AverageDrop, IncreaseRate, MeanCurves, MeanDrop, WinRate
from captum_canonical.faithfulness.wins import Wins, win_rates, win_shares


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


# Five images: a drop, a zero map (no change), an increase, a tie of two methods, everything gone.
CLEAN = torch.tensor([0.5, 0.75, 0.25, 1.0, 0.8], dtype=torch.float64)
SCORES = {
    "ours": torch.tensor([0.25, 0.75, 0.5, 0.5, 0.0], dtype=torch.float64),
    "cam": torch.tensor([0.375, 0.375, 0.25, 0.5, 0.4], dtype=torch.float64),
    "noise": torch.tensor([0.5, 0.5625, 0.125, 0.75, 0.8], dtype=torch.float64),
}


# ---------------------------------------------------------------------------------------------------- hand-computed
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


# ------------------------------------------------------------------------------------------------------------ ties
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


# ---------------------------------------------------------------------------------------------------- what is refused
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


# ------------------------------------------------------------------------------------------------ from maps to numbers
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


def test_unlike_logits_probabilities_have_shares(net: Net) -> None:
    """F3: why logits are refused: a constant that changes no decision changes their Average Drop."""
    clean, explained = torch.tensor([4.0, 6.0]), torch.tensor([2.0, 3.0])
    assert average_drop(clean, explained, unbounded=True).value == 50.0
    assert average_drop(clean + 4, explained + 4, unbounded=True).value == 27.5


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


# ------------------------------------------------------------------------------------------------------------ streaming
METRICS: dict[str, tuple[Callable[..., Metric], Callable[..., FaithfulnessScore]]] = {
    "average_drop": (AverageDrop, average_drop),
    "increase_rate": (IncreaseRate, increase_rate),
    "mean_drop": (MeanDrop, mean_drop),
}


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize("explanation", ["negative", "positive"])
def test_metrics_equal_the_functions(name: str, explanation: str) -> None:
    make, function = METRICS[name]
    clean, explained = torch.rand(20, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    clean[3] = 0
    want = function(clean, explained, explanation=explanation)
    for size in (1, 7, 32):
        metric = make(explanation=explanation)
        for part in torch.arange(20).split(size):
            metric.update(clean[part], explained[part])
        got = metric.compute()
        assert got.dtype == torch.float64 and got.ndim == 0
        assert_close(float(got), want.value, rtol=1e-12, atol=0)
        assert (int(metric.images), int(metric.left_out)) == (want.n, want.left_out)
        assert metric.direction == want.direction
        assert metric.higher_is_better == (want.direction == "higher")


def test_metrics_are_torchmetrics() -> None:
    clean, explained = torch.rand(12), torch.rand(12)
    whole = MetricCollection([AverageDrop(), IncreaseRate(), MeanDrop()])
    whole.update(clean, explained)
    results = whole.compute()
    assert_close(float(results["AverageDrop"]), average_drop(clean, explained).value)
    first, second = AverageDrop(), AverageDrop()
    first.update(clean[:5], explained[:5])
    second.update(clean[5:], explained[5:])
    first.merge_state(second)
    assert_close(first.compute(), results["AverageDrop"])
    for copied in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert_close(copied.compute(), first.compute())
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    again = AverageDrop()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert_close(again.total, first.total)
    for cast in (first.float(), first.half(), first.to(torch.float32)):
        assert cast.total.dtype == torch.float64
    batch = AverageDrop()
    assert_close(float(batch(clean[:4], explained[:4])), average_drop(clean[:4], explained[:4]).value)
    first.reset()
    first.update(clean[:1], clean[:1])
    assert first.compute() == 0
    with pytest.raises(CanonicalError, match=r"expected settings \('negative',\), got \('positive',\)"):
        first.merge_state(AverageDrop("positive"))
    with pytest.raises(CanonicalError, match=r"confidences in 0\.\.1"):
        AverageDrop().update(clean * 9, clean)
    AverageDrop(unbounded=True).update(clean * 9, clean)


def test_wins_that_come_in_batches() -> None:
    table = torch.randint(0, 4, (3, 30)).double() / 4
    scores = dict(zip("abc", table, strict=True))
    for explanation in ("negative", "positive"):
        want = win_rates(scores, explanation=explanation)  # type: ignore[arg-type]
        for size in (1, 7, 32):
            metric = WinRate("abc", explanation=explanation)  # type: ignore[arg-type]
            for part in torch.arange(30).split(size):
                metric.update({name: scores[name][part] for name in "cab"})
            same(metric.compute(), want)
        assert metric.higher_is_better and metric.direction == "higher"
    first, second = WinRate("abc"), WinRate("abc")
    first.update({name: values[:4] for name, values in scores.items()})
    second.update({name: values[4:] for name, values in scores.items()})
    first.merge_state(second)
    same(first.compute(), win_rates(scores))
    with pytest.raises(CanonicalError, match=r"expected scores of \('a', 'b', 'c'\), got \('a', 'b'\)"):
        first.update({name: scores[name] for name in "ab"})
    with pytest.raises(CanonicalError, match="expected settings"):
        first.merge_state(WinRate("abd"))


def same(got: Wins, want: Wins) -> None:
    assert_close(got.percent, want.percent)
    assert_close(got.pairwise, want.pairwise)
    exactly(got.pairwise_ties, want.pairwise_ties)
    assert (got.methods, got.ties, got.n, got.explanation) == (want.methods, want.ties, want.n, want.explanation)


def test_mean_curves(net: Net) -> None:
    images, maps, target = rows()
    whole = removal_curves(net, images, maps, target, fill="mean")
    metric = MeanCurves(whole)
    for part in (slice(0, 2), slice(2, 9)):
        metric.update(removal_curves(net, images[part], maps[part], target[part], fill="mean"))
    mean = metric.compute()
    assert sorted(mean) == ["deletion_auc", "gain", "insertion_auc", "lerf", "morf"] and int(metric.images) == 9
    for name, value in mean.items():
        assert_close(value, getattr(whole, name).mean(0), rtol=1e-5, atol=1e-7)
    other = removal_curves(net, images, maps, target, fill="zero")
    with pytest.raises(CanonicalError, match=r"expected fractions, .*'mean', 'image'\), got .*'zero', 'image'"):
        metric.update(other)
    with pytest.raises(CanonicalError, match="expected settings"):
        metric.merge_state(MeanCurves(other))
