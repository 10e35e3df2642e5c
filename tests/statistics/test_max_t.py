"""Max-T and cluster tests against loops over patterns, in numpy and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.statistics.max_t import OneSample, TwoSamples, max_t, p_values_of, squared_deviate
from captum_canonical.statistics.permutation import group_patterns, sign_patterns


def case(units: int, pixels: int, seed: int = 0, holes: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(units, pixels, generator=generator, dtype=torch.float64) + torch.linspace(-1, 2, pixels)
    covered = torch.rand(units, pixels, generator=generator) > (0.2 if holes else -1)
    return torch.where(covered, values, 0.0), covered


def t_of(values: np.ndarray) -> float:
    return float(stats.ttest_1samp(values, 0).statistic)


def welch(first: np.ndarray, second: np.ndarray) -> float:
    """Welch's t as a normal deviate, as Wallace approximates it."""
    t, df = stats.ttest_ind(first, second, equal_var=False).statistic, freedom(first, second)
    return float(np.sign(t) * math.sqrt(df * math.log1p(t * t / df)) * (8 * df + 1) / (8 * df + 3))


def freedom(first: np.ndarray, second: np.ndarray) -> float:
    """Welch's and Satterthwaite's."""
    errors = [side.var(ddof=1) / len(side) for side in (first, second)]
    return sum(errors) ** 2 / sum(e**2 / (len(side) - 1) for e, side in zip(errors, (first, second), strict=True))


def test_students_t_equals_scipy() -> None:
    values, covered = case(12, 7)
    signs = sign_patterns(12, 50, seed=3).rows
    got = OneSample(values, covered, share=0.0).of(signs)
    for row, sign in zip(got, signs.numpy(), strict=True):
        want = [t_of((sign * values[:, p].numpy())[covered[:, p].numpy()]) for p in range(7)]
        assert_close(row, torch.tensor(want, dtype=torch.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("df", [3, 8, 30, 200])
def test_the_deviate_is_as_unlikely_as_t(df: int) -> None:
    t = np.linspace(0.2, 6, 30)
    got = squared_deviate(torch.from_numpy(t) ** 2, torch.full((30,), float(df)).double()).sqrt()
    assert_close(got, torch.from_numpy(stats.norm.isf(stats.t.sf(t, df))), rtol=0.0, atol=0.05 if df < 8 else 0.015)


def test_welchs_t_equals_scipy() -> None:
    values, covered = case(13, 7)
    for seen in (covered, torch.ones_like(covered)):
        patterns = group_patterns(6, 7, 50, seed=3).rows
        got = TwoSamples(values, seen, share=0.0).of(patterns)
        for row, member in zip(got, patterns.numpy() > 0, strict=True):
            for p in range(7):
                column, known = values[:, p].numpy(), seen[:, p].numpy()
                one, other = column[member & known], column[~member & known]
                want = welch(one, other) if min(len(one), len(other)) > 1 else 0.0
                assert float(row[p]) == pytest.approx(want, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_large_common_offset_does_not_spoil_the_difference_of_groups(kind: torch.dtype) -> None:
    values, covered = case(40, 5, holes=False)
    moved = (values + 1000).to(kind)
    member = group_patterns(20, 20, 10, seed=0).rows
    want = TwoSamples(values, covered, 0.5).of(member)
    assert_close(TwoSamples(moved, covered, 0.5).of(member).double(), want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("holes", [False, True])
def test_the_largest_is_the_largest(holes: bool) -> None:
    values, covered = case(14, 9, holes=holes)
    for statistic, rows in (
        (OneSample, sign_patterns(14, 40, 0).rows),
        (TwoSamples, group_patterns(7, 7, 40, 0).rows),
    ):
        made = statistic(values, covered, 0.5)
        assert_close(made.largest(rows), made.of(rows).abs().amax(1))


def test_pixels_that_too_few_cover_are_not_tested() -> None:
    values, covered = case(10, 4, holes=False)
    covered[:6, 0] = False  # 4 of 10
    covered[:, 1] = False
    values = torch.where(covered, values, 0.0)
    t = OneSample(values, covered, share=0.5).of(torch.ones(1, 10, dtype=torch.int8))[0]
    assert t[0] == 0 and t[1] == 0 and (t[2:] != 0).all() and t.isfinite().all()


def test_constant_values_give_a_large_but_finite_t() -> None:
    same = torch.full((8, 1), 3.0, dtype=torch.float64)
    seen = torch.ones(8, 1, dtype=torch.bool)
    t = OneSample(same, seen, 0.5).of(sign_patterns(8, 1000, 0).rows)
    assert t.isfinite().all() and t[0] > 1000 and t[0] == t.max()
    zero = OneSample(same * 0, seen, 0.5).of(sign_patterns(8, 1000, 0).rows)
    assert not zero.any()
    groups = TwoSamples(torch.cat([same, same + 1]), torch.ones(16, 1, dtype=torch.bool), 0.5)
    t = groups.of(group_patterns(8, 8, 100, 0).rows)
    assert t.isfinite().all() and t[0] < -8 and t[0] == t.min()
    assert not TwoSamples(same * 0, seen, 0.5).of(group_patterns(4, 4, 100, 0).rows).any()


def test_exhaustive_sign_flips_equal_a_loop() -> None:
    values, covered = case(7, 5)
    found = max_t(
        [(values[:, :2], covered[:, :2]), (values[:, 2:], covered[:, 2:])], sign_patterns(7, 100, 0), OneSample
    )
    enough = covered.sum(0).numpy() >= 3.5

    def row(sign: np.ndarray) -> list[float]:
        return [t_of((sign * values[:, p].numpy())[covered[:, p].numpy()]) if enough[p] else 0.0 for p in range(5)]

    every = [np.abs(row(np.array(sign))) for sign in itertools.product((1, -1), repeat=7)]
    observed, maxima = np.abs(row(np.ones(7))), np.array([each.max() for each in every])
    want = [float((maxima >= t * (1 - 1e-9)).mean()) if enough[p] else 1.0 for p, t in enumerate(observed)]
    assert_close(found.p_values, torch.tensor(want, dtype=torch.float64))
    assert found.exhaustive and float(found.p_values.min()) >= 2 / 2**7


def test_exhaustive_groups_equal_a_loop() -> None:
    values, covered = case(8, 5, holes=False)
    found = max_t([(values, covered)], group_patterns(3, 5, 100, 0), TwoSamples)
    every = []
    for chosen in itertools.combinations(range(8), 3):
        member = np.isin(np.arange(8), chosen)
        every.append([abs(welch(values[member, p].numpy(), values[~member, p].numpy())) for p in range(5)])
    maxima = np.array(every).max(1)
    want = [(maxima >= t * (1 - 1e-9)).mean() for t in every[0]]
    assert_close(found.p_values, torch.tensor(want, dtype=torch.float64))


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 30), st.integers(1, 40), st.integers(0, 1000), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_critical_value_says_the_same_as_the_p_values(units: int, pixels: int, seed: int, alpha: float) -> None:
    values, covered = case(units, pixels, seed)
    found = max_t([(values, covered)], sign_patterns(units, 199, seed), OneSample)
    significant = found.p_values <= alpha
    limit = found.critical_value(alpha)
    beyond = found.t.abs() > limit
    near = (found.t.abs() - limit).abs() < 1e-4 * limit  # equal up to rounding may fall on either side
    assert torch.equal(significant[~near], beyond[~near])
    assert float(found.p_values.min()) >= 1 / 200


def test_a_pixel_that_nobody_covers_does_not_spoil_the_others() -> None:
    values, covered = case(20, 6, holes=False)
    patterns = sign_patterns(20, 199, 0)
    want = max_t([(values, covered)], patterns, OneSample)
    padded, seen = torch.cat([values, torch.zeros(20, 1)], 1), torch.cat([covered, torch.zeros(20, 1) > 0], 1)
    got = max_t([(padded, seen)], patterns, OneSample)
    assert_close(got.p_values[:6], want.p_values)
    assert got.p_values[6] == 1 and got.t[6] == 0


@pytest.mark.parametrize("unit", [1e-12, 0.1, 1e9])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_equal_values_do_not_differ_between_groups(unit: float, kind: torch.dtype) -> None:
    """What rounding leaves of them is no spread to measure a difference by, whatever the unit."""
    values, covered = case(40, 6)
    values[:, :3] = torch.where(covered[:, :3], torch.tensor([0.1, 1 / 3, 0.7]).double(), 0.0)
    values[:20, 4] += 3
    found = max_t([((values * unit).to(kind), covered)], group_patterns(20, 20, 199, seed=0), TwoSamples)
    assert (found.t[:3].abs() < 1e-3).all() and (found.p_values[:3] == 1).all() and found.p_values[4] <= 2 / 200


def test_no_p_value_is_zero_however_the_observed_statistic_was_rounded() -> None:
    patterns = sign_patterns(40, 99, 0)
    maxima = torch.linspace(5, 1, len(patterns), dtype=torch.float64)
    assert p_values_of(torch.tensor([5.1, 5.0, 0.0]).double(), maxima, patterns).tolist() == [0.01, 0.01, 1.0]


def test_more_pixels_make_p_values_larger_never_smaller() -> None:
    values, covered = case(20, 40, holes=False)
    patterns = sign_patterns(20, 499, 0)
    few = max_t([(values[:, :10], covered[:, :10])], patterns, OneSample)
    many = max_t([(values, covered)], patterns, OneSample)
    assert (many.p_values[:10] >= few.p_values).all() and (many.p_values[:10] > few.p_values).any()
