"""Bootstrap intervals against a loop over the same draws; ratios against the jackknife, differences against Welch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from captum_canonical.statistics.bootstrap import (
    bootstrap_interval,
    difference,
    effective_number,
    interval_of_mean,
    ratios,
    variance_of_mean,
)


def test_bootstrap_is_the_loop() -> None:
    values = torch.tensor([1.0, 5.0, math.nan, 2.0, 9.0, 4.0], dtype=torch.float64)
    units = torch.tensor([0, 1, 1, 2, 2, 2])
    draws = torch.randint(3, (40, 3), generator=torch.Generator().manual_seed(4)).tolist()
    means = []
    for draw in draws:
        taken = [v for unit in draw for v, u in zip(values.tolist(), units.tolist(), strict=True) if u == unit]
        means.append(np.nanmean(taken))
    expected = np.quantile(means, [0.05, 0.95])
    np.testing.assert_allclose(bootstrap_interval(values, units, resamples=40, level=0.9, seed=4), expected)


def test_intervals_by_identity_ignore_copies() -> None:
    values = torch.randn(30, dtype=torch.float64)
    units = torch.arange(30)
    once = bootstrap_interval(values, units)
    twice = bootstrap_interval(values.repeat(4), units.repeat(4))
    np.testing.assert_allclose(twice, once)
    naive = bootstrap_interval(values.repeat(4), torch.arange(120))
    assert naive[1] - naive[0] < 0.7 * (once[1] - once[0])
    assert all(math.isnan(end) for end in bootstrap_interval(values, torch.zeros(30, dtype=torch.int64)))


def test_the_influence_is_that_of_leaving_one_out() -> None:
    """The infinitesimal jackknife against the jackknife, on many units."""
    generator = torch.Generator().manual_seed(3)
    below = torch.rand(400, 1, generator=generator, dtype=torch.float64) + 0.5
    above = below * 0.3 + 0.1 * torch.rand(400, 1, generator=generator, dtype=torch.float64)
    without = (above.sum() - above) / (below.sum() - below)
    error = ((399 / 400) * (without - without.mean()).square().sum()).sqrt()
    assert float(ratios(above, below).standard_error) == pytest.approx(float(error), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_differences_of_means_are_welchs(first: int, second: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.normal(0, 1, first), generator.normal(1, 3, second)
    sides = [ratios(torch.from_numpy(each)[:, None], torch.ones(len(each), 1).double()) for each in (one, other)]
    found = difference(*sides)
    parts = [each.var(ddof=1) / len(each) for each in (one, other)]  # Welch 1947
    freedom = sum(parts) ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (one, other), strict=True))
    margin = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    middle = one.mean() - other.mean()
    assert (float(found.low), float(found.high)) == pytest.approx((middle - margin, middle + margin), rel=1e-6)


# ------------------------------------------------------------------------------- people with unequal numbers
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.integers(0, 1000), st.floats(0, 3))
def test_the_variance_of_a_mean_over_photographs_is_the_loop(sizes: list[int], seed: int, noise: float) -> None:
    generator = np.random.default_rng(seed)
    people = [generator.normal() + noise * generator.normal(size=size) for size in sizes]
    units = np.repeat(np.arange(len(sizes)), sizes)
    order = generator.permutation(len(units))
    found = variance_of_mean(torch.from_numpy(np.concatenate(people)[order, None]), torch.from_numpy(units[order]))
    total, between = sum(sizes), np.var([person.mean() for person in people], ddof=1)
    together = sum((size / total) ** 2 for size in sizes)
    once = sum(1 / size for size in sizes) / len(sizes)
    want = between * together
    if total > len(sizes):
        within = sum(((person - person.mean()) ** 2).sum() for person in people) / (total - len(sizes))
        want -= (together * once - 1 / total) * min(within, between / 2 / once)
    assert float(found) == pytest.approx(want, rel=1e-9)
    assert float(found) > 0


def test_people_with_equally_many_photographs_count_by_their_means() -> None:
    values = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    units = torch.arange(8).repeat(5)
    means = values.reshape(5, 8, 3).mean(0)
    ones = torch.ones(40, 1).double()
    for found, want in zip(ratios(values, ones, units=units), ratios(means, ones[:8]), strict=True):
        torch.testing.assert_close(found, want)


SIZES = {
    "10 people with 1 photograph, one with 40": [1] * 10 + [40],
    "20 people with 1 photograph, one with 20": [1] * 20 + [20],
    "100 people as in LFW": [1] * 70 + [2] * 14 + [3] * 5 + [4] * 3 + [5] * 2 + [7, 9, 14, 25, 60, 530],
    "40 people with 5": [5] * 40,
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_hold_the_truth_however_unequal_people_are(sizes: list[int], skewed: bool) -> None:
    """1,000 data sets; the larger part of the spread is between people."""
    units = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    generator = torch.Generator().manual_seed(1)
    effects = torch.randn(len(sizes), 1000, dtype=torch.float64, generator=generator)
    if skewed:
        effects = effects.exponential_(generator=generator) - 1
    noise = torch.randn(len(units), 1000, dtype=torch.float64, generator=generator)
    found = ratios(effects[units] + 0.8 * noise, torch.ones(len(units), 1).double(), units=units)
    held = float(((found.low <= 0) & (0 <= found.high)).double().mean())
    assert (0.91 if skewed else 0.93) <= held <= 0.985, held


def test_units_that_say_nothing_are_no_evidence() -> None:
    """Two of eight people cover a region: as if there were no others; one of them: no interval."""
    values = torch.tensor([[3.0, 0.0], [5.0, 0.0]] + 6 * [[4.0, 0.0]], dtype=torch.float64)
    # Those who do not cover count as the mean; the deviations of those who do are multiplied by 8 / 2.
    values[:2, 0] = 4 + 4 * (values[:2, 0] - 4)
    found = ratios(values, torch.ones(8, 1).double(), covering=torch.tensor([2.0, 1.0]))
    alone = ratios(torch.tensor([[3.0], [5.0]]).double(), torch.ones(2, 1).double())
    assert [float(each[0]) for each in found] == pytest.approx([float(each) for each in alone])
    assert math.isnan(found.low[1]) and math.isnan(found.high[1])


def test_the_effective_number_of_people() -> None:
    assert effective_number(torch.ones(7, 1)).tolist() == [7.0]
    assert effective_number(torch.tensor([[1.0], [1.0], [0.0]])).tolist() == [2.0]
    assert effective_number(torch.zeros(3, 1)).tolist() == [0.0]


def test_the_bootstrap_is_used_where_it_holds() -> None:
    values = torch.randn(120, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for units in (torch.arange(120), torch.arange(120) // 5):
        assert interval_of_mean(values, units) == bootstrap_interval(values, units)
    few = torch.arange(120) // 10  # 12 people with 10
    means = values.reshape(12, 10).mean(1).numpy()
    want = stats.t.interval(0.95, 11, means.mean(), stats.sem(means))
    assert interval_of_mean(values, few) == pytest.approx(want)
    unequal = torch.arange(120).clamp(max=30)
    found = ratios(values[:, None], torch.ones(120, 1).double(), units=unequal)
    assert interval_of_mean(values, unequal) == (float(found.low), float(found.high))
    assert interval_of_mean(torch.cat([values, torch.full((9,), math.nan)]), torch.arange(129)) == pytest.approx(
        bootstrap_interval(values, torch.arange(120)), abs=0.05
    )
    assert all(math.isnan(end) for end in interval_of_mean(values, torch.zeros(120, dtype=torch.int64)))
