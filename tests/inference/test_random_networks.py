"""Incremental inference equals dense inference on random networks; planted faults are noticed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.operators import Slide
from captum_canonical.inference.plan import Plan
from captum_canonical.inference.regions import Store
from captum_canonical.inference.scorer import Scorer
from captum_canonical.inference.windows import Reach, Span, Windows
from random_networks import Task, task

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the largest score
COUNT: Counter[str] = Counter()


def run(case: Task) -> tuple[float, bool]:
    """(largest difference, in units of the largest score; whether the last convolution or pooling saw windows)."""
    scorer = Scorer(case.net, 1, (), len(case.inputs))
    engine = IncrementalInference(scorer, (case.inputs,), (case.fill,), case.rows)
    scores, expected = engine.occluded_scores(case.patches), case.dense()
    clean = case.net(case.inputs).double()
    largest = max(float(expected.abs().max()), float(clean.abs().max()))
    difference = max(float((scores - expected).abs().max()), float((engine.clean_scores() - clean[:, 1]).abs().max()))
    slides = [s.node for s in engine.network.steps.values() if isinstance(s.operator, Slide)]
    full = engine.plan(case.patches).full
    return difference / largest, not slides or not bool(full[slides[-1]].all())


def check(random: Random) -> None:
    case = task(random)
    difference, windowed = run(case)
    COUNT.update(("windowed" if windowed else "full",))
    assert difference <= TOLERANCE[case.inputs.dtype], f"{difference}: {case}"


def report() -> None:
    share = COUNT["windowed"] / COUNT.total()
    print(f"{COUNT.total()} networks, {share:.0%} windowed up to their last convolution or pooling")
    assert share >= 0.6
    COUNT.clear()


@pytest.mark.parametrize("examples", [250, pytest.param(5000, marks=pytest.mark.slow)])
def test_random_networks(examples: int) -> None:
    everything = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    everything(given(st.randoms(use_true_random=True))(check))()
    report()


def _shifted(*_: object) -> Callable[[Reach, Tensor, Tensor], tuple[Tensor, Tensor]]:
    right = Reach.needed
    return lambda self, starts, sizes: (right(self, starts, sizes)[0] + 1, right(self, starts, sizes)[1])


def _row_short(self: Reach, span: Span, size: tuple[int, int], right: Callable = Reach.changed) -> Span:
    span = right(self, span, size)
    high = span.high.clone()
    high[:, 0] = torch.maximum(high[:, 0] - 1, span.low[:, 0] + 1)
    return replace(span, high=high)


def _first_image(self: Plan, *args: object, right: Callable = Plan.__init__) -> None:
    right(self, *args)
    self.image = torch.zeros_like(self.image)


def _no_padding(self: Store, *args: object, right: Callable = Store.__init__) -> None:
    right(self, *args)
    self.rows[:2] = 0.5


FAULTS = {
    "halo off by one": (Reach, "needed", _shifted()),
    "window one row short": (Reach, "changed", _row_short),
    "union forgets one": (Span, "union", lambda self, other: self),
    "stale windows": (Store, "room_for", lambda self, first, count, size: torch.empty(count, self.channels, *size)),
    "another image's cache": (Plan, "__init__", _first_image),
    "padding is not zero": (Store, "__init__", _no_padding),
    "scaled wrongly": (Span, "scaled", lambda self, factor: self),
    "shift forgotten": (Span, "shifted", lambda self, by: self),
    "windows not clamped": (
        Windows,
        "around",
        classmethod(lambda cls, span, *args, right=Windows.around: cls(span.low, right(span, *args).sizes)),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    for seed in range(150):
        case = task(Random(seed))
        try:
            if run(case)[0] > TOLERANCE[case.inputs.dtype]:
                return
        except (RuntimeError, IndexError, ValueError):  # it fell over, or found infinities
            return
    pytest.fail("the tests did not notice")
