"""Means of units equal a loop."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from captum_canonical.statistics.units import unit_means


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 7), st.integers(1, 5), st.integers(0, 99))
def test_means_of_units_equal_a_loop(count: int, pixels: int, people: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    covered = torch.rand(count, pixels, generator=generator) > 0.4
    values = torch.where(covered, torch.randn(count, pixels, generator=generator), 0.0)
    names = torch.randint(people, (count,), generator=generator)
    units = names.unique(return_inverse=True)[1]
    means, seen = unit_means(values, covered, units)
    assert means.shape == seen.shape == (len(units.unique()), pixels)
    for unit in range(len(means)):
        for pixel in range(pixels):
            own = [float(values[n, pixel]) for n in range(count) if units[n] == unit and covered[n, pixel]]
            assert bool(seen[unit, pixel]) == bool(own)
            assert_close(float(means[unit, pixel]), sum(own) / len(own) if own else 0.0, rtol=1e-5, atol=1e-6)
