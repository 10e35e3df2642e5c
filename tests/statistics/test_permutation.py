"""Patterns of signs and groups, paired tests by sign flips, and Holm's correction."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from captum_canonical.statistics.permutation import group_patterns, holm, sign_flip_p_values, sign_patterns


def test_all_signs_and_all_groups_where_they_are_few() -> None:
    signs = sign_patterns(4, 8, seed=0)
    assert signs.exhaustive and signs.smallest == 1 / 8  # of 16 patterns a pattern and its negative are one
    assert {tuple(row) for row in signs.rows.tolist()} == {(1, *rest) for rest in itertools.product((1, -1), repeat=3)}
    groups = group_patterns(2, 3, 10, seed=0)
    assert groups.exhaustive and len(groups) == 10 and groups.smallest == 1 / 10
    assert groups.rows[0].tolist() == [1, 1, 0, 0, 0] and (groups.rows.sum(1) == 2).all()
    assert group_patterns(3, 3, 20, seed=0).smallest == 2 / 20  # the same groups the other way round


def test_random_patterns_begin_with_the_observed_one_and_depend_on_the_seed_only() -> None:
    before = torch.get_rng_state()
    signs, groups = sign_patterns(30, 500, seed=5), group_patterns(12, 18, 500, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(signs) == 501 and not signs.exhaustive and (signs.rows[0] == 1).all()
    assert len(groups) == 501 and (groups.rows.sum(1) == 12).all() and (groups.rows[0, :12] == 1).all()
    assert torch.equal(signs.rows, sign_patterns(30, 500, seed=5).rows)
    assert not torch.equal(groups.rows, group_patterns(12, 18, 500, seed=6).rows)
    assert float(signs.rows[1:].double().mean()) == pytest.approx(0, abs=0.05)
    assert float(groups.rows[1:].double().mean(0).std()) < 0.04


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7))
@settings(deadline=None, max_examples=30)
def test_sign_flips_are_the_enumeration(values: list[float]) -> None:
    observed = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(p, values, strict=True))) for p in itertools.product((1, -1), repeat=len(values))
    ]
    margin = 1e-11 * sum(map(abs, values))
    counts = [sum(total >= observed + side * margin for total in sums) / len(sums) for side in (1, -1)]
    p_value = float(sign_flip_p_values(torch.tensor([values], dtype=torch.float64)))
    assert counts[0] <= p_value <= counts[1] and p_value >= 1 / len(sums)


def test_random_sign_flips_approach_the_enumeration() -> None:
    totals = torch.randn(3, 12, dtype=torch.float64) + torch.tensor([[0.0], [0.4], [3.0]])
    exact = sign_flip_p_values(totals, permutations=2**12)
    drawn = sign_flip_p_values(totals, permutations=4000, seed=3)
    assert_close(drawn, exact, atol=0.03, rtol=0)
    assert float(sign_flip_p_values(torch.ones(1, 40, dtype=torch.float64), permutations=99)) == 1 / 100


def test_holm_by_hand() -> None:
    p_values = torch.tensor([0.01, 0.04, 0.03, 0.005], dtype=torch.float64)
    assert_close(holm(p_values), torch.tensor([0.03, 0.06, 0.06, 0.02], dtype=torch.float64))
    assert holm(torch.tensor([0.7, 0.6])).tolist() == [1.0, 1.0]
