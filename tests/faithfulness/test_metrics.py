"""Measures of faithfulness of images that come in batches, as torchmetrics."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import Metric, MetricCollection

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.measures import FaithfulnessScore, average_drop, increase_rate, mean_drop
from captum_canonical.faithfulness.metrics import AverageDrop, IncreaseRate, MeanCurves, MeanDrop, WinRate
from captum_canonical.faithfulness.wins import Wins, win_rates
from small_networks import SmallNet


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


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


def test_mean_curves() -> None:
    net, images, maps = SmallNet(8, kernel=3), torch.rand(9, 3, 8, 8), torch.randn(9, 1, 8, 8)
    target = torch.arange(9) % 2
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
