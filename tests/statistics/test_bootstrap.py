"""Bootstrap intervals, against a loop over the same draws."""

from __future__ import annotations

import math

import numpy as np
import torch

from captum_canonical.statistics.bootstrap import bootstrap_interval


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
