"""Accuracy with held-out thresholds and rates of acceptance, against slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.verification import acceptance_at, best_threshold, held_out_accuracy

scores = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(scores)
def test_no_threshold_answers_more_pairs_right(pairs: list[tuple[float, bool]]) -> None:
    values, same = np.array([value for value, _ in pairs]), np.array([kind for _, kind in pairs])
    if len(set(values.tolist())) < 2:
        return
    halves = [(low + high) / 2 for low, high in zip(sorted(set(values))[:-1], sorted(set(values))[1:], strict=True)]
    right = [sum((value > half) == kind for value, kind in pairs) for half in halves]  # slow
    assert best_threshold(values, same) == halves[right.index(max(right))]


def test_each_fold_has_the_threshold_of_the_others_and_nan_is_wrong() -> None:
    random = np.random.default_rng(3)
    same, fold = random.random(60) < 0.5, np.repeat([2, 5, 7], 20)
    values = same + random.normal(0, 0.6, 60)
    values[[1, 25]] = np.nan
    found = held_out_accuracy(values, same, fold)
    for row, number in enumerate((2, 5, 7)):
        others = (fold != number) & ~np.isnan(values)
        threshold = best_threshold(values[others], same[others])
        right = [
            not math.isnan(value) and (value > threshold) == kind
            for value, kind, place in zip(values, same, fold, strict=True)
            if place == number
        ]
        assert found.accuracy[row] == sum(right) / 20 and found.threshold[row] == threshold
    assert found.folds.tolist() == [2, 5, 7]
    spread = math.sqrt(sum((share - found.mean) ** 2 for share in found.accuracy) / 2)
    assert found.standard_error == pytest.approx(spread / math.sqrt(3))


@settings(max_examples=60, deadline=None)
@given(scores, st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_at_most_this_share_of_impostors_is_accepted(pairs: list[tuple[float, bool]], rate: float) -> None:
    values, same = np.array([value for value, _ in pairs]), np.array([kind for _, kind in pairs])
    accepted, threshold = acceptance_at(values, same, rate)
    impostors, genuine = values[~same], values[same]
    if not len(genuine) or len(impostors) * rate < 1 - 1e-9:
        assert math.isnan(accepted)
        return
    assert np.mean(impostors > threshold) <= rate + 1e-9
    assert accepted == np.mean(genuine > threshold)
    lower = values[values < threshold]  # accepting from anything lower on breaks the rate
    if len(lower):
        assert np.mean(impostors >= max(threshold, lower.max())) > rate - 1e-9 or rate == 1.0


def test_a_known_rate() -> None:
    impostors, genuine = np.arange(1000) / 1000, np.array([0.5, 0.9895, 0.9905, 2.0])
    values, same = np.concatenate([impostors, genuine]), np.arange(1004) >= 1000
    assert acceptance_at(values, same, 0.01) == (0.75, 0.989)  # ten of a thousand: 0.990 to 0.999
    assert acceptance_at(np.append(values, np.nan), np.append(same, True), 0.01)[0] == 0.75


def test_what_cannot_be_measured_is_refused() -> None:
    same = np.array([True, False])
    with pytest.raises(CanonicalError, match="at least two folds, got 1"):
        held_out_accuracy(np.array([0.1, 0.2]), same, np.array([0, 0]))
    with pytest.raises(CanonicalError, match="at least two pairs"):
        best_threshold(np.array([0.1, np.nan]), same)
    with pytest.raises(CanonicalError, match="P similarities and P bools"):
        best_threshold(np.array([0.1, 0.2]), np.array([1, 0]))
