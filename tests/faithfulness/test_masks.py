"""Explanation images and masks of equal mass against definitions and by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.masks import ExplanationMasks, equal_mass_masks, explanation_masks, removal_order


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("values", "budget", "want", "flag"),
    [
        ((4, 1, 1, -7), 0.5, (1, 0.5, 0.5, 0), ""),  # a = 1/2: the first would be 2
        ((3, 1, 0, 0), 0.25, (0.75, 0.25, 0, 0), ""),  # a = 1/4, nothing reaches 1
        ((1, 1, 1, 1), 0.25, (0.25, 0.25, 0.25, 0.25), "constant"),
        ((-1, -1, -1, -1), 0.25, (0, 0, 0, 0), "negative"),
        ((-1, 0, -2, -1), 0.25, (0, 0, 0, 0), "negative"),
        ((0, 0, 0, 0), 0.25, (0, 0, 0, 0), "zero"),
        ((0, 7, 0, 0), 0.5, (1 / 3, 1, 1 / 3, 1 / 3), "spread"),
        ((5, 7, 0, 0), 0.5, (1, 1, 0, 0), ""),
        ((5, 0.5, 0, 0), 1.0, (1, 1, 1, 1), "spread"),
        ((5, 1e-13, 0, 0), 0.25, (1, 0, 0, 0), ""),  # rounding
    ],
)
def test_budget_by_hand(values: tuple[float, ...], budget: float, want: tuple[float, ...], flag: str) -> None:
    masks = explanation_masks(row(*values), budget=budget)
    assert_close(masks.values, row(*want), rtol=1e-12, atol=0)
    assert masks.flags == (flag,) and masks.s is None
    assert_close(masks.mass, torch.tensor([float(sum(want))], dtype=torch.float64))
    assert masks.empty.tolist() == [sum(want) == 0]


def bisected(values: list[float], total: float) -> list[float]:
    """clip(a v, 0, 1) with that sum, a found by retry an interval."""
    low, high = 0.0, 1.0
    while sum(min(1.0, high * v) for v in values) < total:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(min(1.0, middle * v) for v in values) < total else (low, middle)
    return [min(1.0, high * v) for v in values]


heights = st.floats(-100, 100, allow_subnormal=False).map(lambda v: round(v, 3))


@settings(max_examples=200, deadline=None)
@given(st.lists(heights, min_size=1, max_size=30), st.floats(0.01, 1.0))
def test_budget_is_met_exactly(values: list[float], budget: float) -> None:
    masks = explanation_masks(row(*values), budget=budget)
    got, count = masks.values.flatten().tolist(), budget * len(values)
    assert min(got) >= 0 and max(got) <= 1
    positive = [max(0.0, v) for v in values]
    if not any(positive):
        assert got == [0.0] * len(values) and masks.flags[0] in ("zero", "negative")
        return
    assert math.isclose(sum(got), count, rel_tol=1e-12)
    order = sorted(range(len(values)), key=positive.__getitem__)
    assert all(got[i] <= got[j] for i, j in itertools.pairwise(order))
    enough = sum(v > 0 for v in values) >= count
    assert (masks.flags[0] == "spread") == (not enough and masks.flags[0] != "constant")
    if enough:
        np.testing.assert_allclose(got, bisected(positive, count), rtol=1e-9, atol=1e-12)
        assert all(g == 0 for g, v in zip(got, values, strict=True) if v <= 0)
    # Neither the map's scale nor the place of its pixels matters.
    scaled = explanation_masks(1e-4 * row(*values), budget=budget)
    np.testing.assert_allclose(scaled.values.flatten().tolist(), got, rtol=1e-9)
    exactly(explanation_masks(row(*values).flip(3), budget=budget).values.flip(3), masks.values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 6), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_top_takes_the_highest(values: list[int], budget: float) -> None:
    got = explanation_masks(row(*values), budget=budget, mass="top").values.flatten().tolist()
    positive, count = [max(0, v) for v in values], budget * len(values)
    if not any(positive):
        assert got == [0.0] * len(values)
        return
    for v, g in zip(positive, got, strict=True):
        higher, level = sum(w > v for w in positive), positive.count(v)
        assert math.isclose(g, min(1.0, max(0.0, (count - higher) / level)), abs_tol=1e-12)
    assert math.isclose(sum(got), count, rel_tol=1e-12)


def test_removal_order_is_a_count() -> None:
    values = torch.randint(0, 5, (40,)).float()
    first, last = removal_order(values)
    for v, a, b in zip(values.tolist(), first.tolist(), last.tolist(), strict=True):
        assert a == sum(w > v for w in values.tolist()) and b == sum(w >= v for w in values.tolist())


def test_rounding_is_no_order() -> None:
    noise = torch.tensor([1.0, 1.0 - 6e-8, 1.0, 1.0 - 6e-8, 0.5, 0.5 + 3e-8])  # what float32 leaves of two constants
    first, last = removal_order(noise)
    assert first.tolist() == [0, 0, 0, 0, 4, 4] and last.tolist() == [4, 4, 4, 4, 6, 6]
    masks = explanation_masks(noise[:4].view(1, 1, 1, 4), budget=0.5, mass="top")
    exactly(masks.values, row(0.5, 0.5, 0.5, 0.5))
    assert masks.flags == ("constant",)
    assert removal_order(torch.tensor([1.0, 1.0 - 4e-6]))[0].tolist() == [0, 1]
    assert removal_order(torch.zeros(3))[1].tolist() == [3, 3, 3]
    assert removal_order(torch.zeros(0))[0].tolist() == []


def test_sign() -> None:
    values = row(3, -6, 0, 1)
    assert_close(explanation_masks(values, budget=0.25, sign="abs").values, row(0.3, 0.6, 0, 0.1))
    assert_close(explanation_masks(values, budget=0.25, sign="raw").values, row(9, 0, 6, 7) / 22)
    assert_close(explanation_masks(values, budget=0.25).values, row(0.75, 0, 0, 0.25))
    inside = row(1, 1, 0, 1) > 0
    raw = explanation_masks(row(3, 1, -9e9, 2), inside, budget=0.25, sign="raw")  # the minimum is that of the area
    assert_close(raw.values, row(0.5, 0, 0, 0.25))
    flat = row(-2, -2)
    assert explanation_masks(flat, sign="raw").flags == ("constant",) and explanation_masks(flat, sign="raw").mass == 0
    assert explanation_masks(row(0.3, 0.3 + 3e-8), sign="raw").empty.all()  # rounding
    assert explanation_masks(flat, sign="abs").flags == ("constant",)
    assert_close(explanation_masks(flat, sign="abs").values, row(0.1, 0.1))


def test_area() -> None:
    maps = torch.cat([row(9, 1, 3, 2, 0), row(1, 1, 1, 1, 1), row(0, -1, -1, 2, 2)])
    area = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]]).bool().view(3, 1, 1, 5)
    masks = explanation_masks(maps, area, budget=1 / 3)
    assert_close(masks.values, torch.cat([row(9, 1, 3, 0, 0) / 13, row(0, 0, 0, 0, 0), row(0, 0, 0, 0, 0)]))
    assert masks.flags == ("", "no area", "negative")
    assert_close(masks.inside, torch.tensor([13 / 15, 0.0, 0.0], dtype=torch.float64))
    # What lies outside does not matter.
    other = torch.where(area, maps, 1e6)
    exactly(explanation_masks(other, area, budget=1 / 3).values, masks.values)
    shared = explanation_masks(maps[[0, 2]], area[:1], budget=1 / 3)
    exactly(shared.values, masks.values[[0, 2]])
    assert explanation_masks(row(0, 0)).inside.isnan().all()


def test_a_map_is_masked_alone() -> None:
    maps, area = torch.randn(7, 1, 9, 8), torch.rand(7, 1, 9, 8) < 0.6
    for mass in ("budget", "top"):
        together = explanation_masks(maps, area, mass=mass)  # type: ignore[arg-type]
        for n in range(7):
            alone = explanation_masks(maps[n : n + 1], area[n : n + 1], mass=mass)  # type: ignore[arg-type]
            exactly(alone.values, together.values[n : n + 1])
        assert_close(together.mass, 0.1 * area.sum((1, 2, 3)).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explanation_masks(torch.zeros(3, 4)), r"shape \(N, 1, H, W\), got \(3, 4\)"),
        (lambda: explanation_masks(torch.zeros(0, 1, 3, 4)), r"got \(0, 1, 3, 4\)"),
        (lambda: explanation_masks([1.0]), "got list"),
        (lambda: explanation_masks(row(1, math.nan)), r"NaN or infinity in rows \[0\]"),
        (lambda: explanation_masks(torch.cat([row(1, 1), row(1, math.inf)])), r"in rows \[1\]"),
        (lambda: explanation_masks(row(1, 1), row(1, 1)), "area: expected bool .* got torch.float64"),
        (lambda: explanation_masks(row(1, 1), row(1, 1, 1) > 0), r"of shape \(1, 1, 1, 3\)"),
        (lambda: explanation_masks(row(1, 1), budget=0), "budget above 0 and at most 1, got 'budget' and 0"),
        (lambda: explanation_masks(row(1, 1), budget=1.1), "and 1.1"),
        (lambda: explanation_masks(row(1, 1), mass="all"), "got 'all'"),
        (lambda: explanation_masks(row(1, 1), sign="both"), "sign: .* got 'both'"),
        (lambda: equal_mass_masks({}), "one or more maps of one shape, got {}"),
        (lambda: equal_mass_masks({"a": row(1), "b": row(1, 2)}), r"'b': \(1, 1, 1, 2\)"),
    ],
)
def test_bad_maps(call: Callable[[], object], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        call()


def test_equal_mass_by_hand() -> None:
    # H' = (1, 1/2, 1/2, 0), (0, 0, 1/4, 1): sums 2 and 5/4, so s = 5/4 and the first is scaled by 5/8.
    masks = equal_mass_masks({"a": row(4, 2, 2, -9), "b": row(0, 0, 0.5, 2)})
    assert_close(masks["a"].values, row(5 / 8, 5 / 16, 5 / 16, 0))
    assert_close(masks["b"].values, row(0, 0, 1 / 4, 1))
    assert_close(masks["a"].s, torch.tensor([1.25], dtype=torch.float64))
    # A map without relevance neither has a mass nor takes that of the others.
    with_zero = equal_mass_masks({"a": row(4, 2, 2, -9), "b": row(0, 0, 0.5, 2), "z": row(0, 0, 0, 0)})
    exactly(with_zero["a"].values, masks["a"].values)
    assert with_zero["z"].flags == ("zero",) and with_zero["z"].empty.all() and with_zero["z"].s == 1.25
    nothing = equal_mass_masks({"n": row(-1, -2)})["n"]
    assert nothing.flags == ("negative",) and nothing.empty.all() and nothing.s == 0
    exactly(equal_mass_masks({"c": row(3, 3)})["c"].values, row(1, 1))


def test_equal_mass_of_raw_maps_is_eq_10_literally() -> None:
    maps = {name: torch.randn(4, 1, 5, 6, dtype=torch.float64) for name in "abc"}
    masks = equal_mass_masks(maps, sign="raw")
    for n in range(4):
        scaled = {}
        for name, h in maps.items():
            scaled[name] = (h[n, 0] - h[n, 0].min()) / (h[n, 0].max() - h[n, 0].min())
        s = min(float(part.sum()) for part in scaled.values())
        for name, part in scaled.items():
            assert_close(masks[name].values[n, 0], s / part.sum() * part)
            assert_close(float(masks[name].s[n]), s)


def test_equal_mass_of_narrow_and_broad_maps_stays_in_range() -> None:
    # F21: with s from the map of width 40, that of width 20 would reach 3.95.
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    square = (y - 112) ** 2 + (x - 112) ** 2
    maps = {str(w): torch.exp(-square / (2 * w**2))[None, None] for w in (20, 40, 80)}
    masks = equal_mass_masks(maps)
    assert max(float(m.values.max()) for m in masks.values()) <= 1
    for m in masks.values():
        assert_close(m.mass, masks["20"].s)
    # Not so with a fixed budget: there no map depends on another.
    assert masks["40"].s != equal_mass_masks({"40": maps["40"]})["40"].s


def test_negative_values_do_not_lend_relevance_to_the_rest() -> None:
    h = row(2, -1, 0, 0)  # F20: min-max without clipping would give the zeros 1/3
    exactly(equal_mass_masks({"a": h})["a"].values, row(1, 0, 0, 0))


def test_masks_describe_themselves() -> None:
    masks = ExplanationMasks(torch.zeros(2, 1, 3, 3).double(), ("zero", "zero"), torch.zeros(2))
    assert masks.empty.tolist() == [True, True] and masks.mass.tolist() == [0.0, 0.0]
