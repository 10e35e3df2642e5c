"""Bootstrap intervals against a loop over the same draws; ratios against the jackknife, differences against Welch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from captum_canonical.statistics.bootstrap import bootstrap_interval, difference, ratios


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
    found = difference(*sides, (first - 1, second - 1))
    want = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (float(found.low), float(found.high)) == pytest.approx((want.low, want.high), rel=1e-6)
