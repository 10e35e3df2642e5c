"""Similarities of maps: against other packages, loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from captum_canonical.sanity.randomization import model_randomization
from captum_canonical.sanity.similarity import MEASURES, mass_overlap, spearman, structural_similarity, top_share
from randomization_tools import Net, doubles, exactly


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_is_scipys_with_ties(pairs: list[tuple[int, int]]) -> None:
    first, second = torch.tensor(pairs, dtype=torch.float64).T
    if len(first.unique()) < 2 or len(second.unique()) < 2:
        assert math.isnan(spearman(first, second))
    else:
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_spearman_of_float32_maps() -> None:
    first, second = torch.randn(5000), torch.randn(5000)
    assert spearman(first, first + second) == pytest.approx(spearmanr(first, first + second).statistic, abs=1e-12)
    assert spearman(first, first.double().exp()) == 1 and spearman(first, -first) == -1


def ssim_loop(x: np.ndarray, y: np.ndarray, data_range: float, area: np.ndarray, size: int) -> float:
    half = size // 2
    bell = np.array([math.exp(-((i - half) ** 2) / (2 * 1.5**2)) for i in range(size)])
    weights = np.outer(bell, bell) / np.outer(bell, bell).sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for c, r, s in np.ndindex(x.shape):
        if area[c, r, s] and half <= r < x.shape[1] - half and half <= s < x.shape[2] - half:
            window = (c, slice(r - half, r + half + 1), slice(s - half, s + half + 1))
            mean_x, mean_y = (weights * x[window]).sum(), (weights * y[window]).sum()
            var_x, var_y = (weights * (x[window] - mean_x) ** 2).sum(), (weights * (y[window] - mean_y) ** 2).sum()
            covariance = (weights * (x[window] - mean_x) * (y[window] - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
            structure = (2 * covariance + c2) / (var_x + var_y + c2)
            values.append(-abs(luminance * structure) if min(luminance, structure) < 0 else luminance * structure)
    return float(np.mean(values)) if values else math.nan


@pytest.mark.parametrize(("shape", "size"), [((2, 16, 13), 11), ((1, 11, 30), 11), ((3, 8, 9), 7), ((1, 1, 4), 1)])
def test_ssim_is_a_loop_over_windows(shape: tuple[int, ...], size: int) -> None:
    x, y, area = torch.randn(shape), torch.randn(shape), torch.rand(shape) < 0.7
    y = x + 0.5 * y
    got = structural_similarity(x, y, 3.0, area)
    assert got == pytest.approx(ssim_loop(x.double().numpy(), y.double().numpy(), 3.0, area.numpy(), size), abs=1e-9)
    everywhere = structural_similarity(x, y, 3.0)
    assert everywhere == structural_similarity(x, y, 3.0, torch.ones(shape, dtype=torch.bool))
    assert structural_similarity(x, x, 3.0) == 1


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = torch.rand(30, 40).double(), torch.rand(30, 40).double()
    y = 0.7 * x + y
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 4.0}
    want = metrics.structural_similarity(x.numpy(), y.numpy(), **options)
    assert structural_similarity(x[None], y[None], 4.0) == pytest.approx(want, abs=1e-9)


def test_ssim_without_a_range_or_a_window_is_not_defined() -> None:
    x = torch.randn(1, 12, 12)
    rim = torch.zeros(1, 12, 12, dtype=torch.bool)
    rim[:, 0] = True
    assert math.isnan(structural_similarity(x, x, 0.0)) and math.isnan(structural_similarity(x, x, 1.0, rim))


def test_top_share_by_hand() -> None:
    first = torch.arange(20.0)  # the highest two are 18 and 19
    second = first.clone()
    assert top_share(first, second) == 1
    second[19] = 0
    assert top_share(first, second) == 0.5  # 18 and 17
    assert top_share(first, -first) == 0
    # Four values tie for two places, with half a place each; one of the places that ``first`` has is among them.
    ties = doubles(*[0] * 16, 0, 5, 5, 5)
    ties[0] = 5
    assert top_share(first, ties) == 0.5
    assert top_share(ties, ties) == 1
    assert top_share(first[:3], first[:3].flip(0)) == 0  # at least one value
    assert math.isnan(top_share(first, torch.ones(20))) and math.isnan(top_share(torch.zeros(20), first))


def test_mass_overlap_by_hand() -> None:
    assert mass_overlap(doubles(3, 1, 0, -5), doubles(1, 1, 2, -9)) == 0.5  # min(3/4, 1/4) + min(1/4, 1/4)
    assert mass_overlap(doubles(3, 1), doubles(30, 10)) == 1
    assert mass_overlap(doubles(3, -1), doubles(-3, 1)) == 0
    assert math.isnan(mass_overlap(doubles(3, 1), doubles(-3, 0))) and math.isnan(mass_overlap(doubles(0), doubles(1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(4, 15), st.integers(4, 15))
def test_bounds_symmetry_and_identity(seed: int, channels: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, channels, height, width, generator=generator).round(decimals=1)
    for measure, low in ((spearman, -1), (top_share, 0), (mass_overlap, 0)):
        value = measure(x.flatten(), y.flatten())
        assert low <= value <= 1
        assert value == pytest.approx(measure(y.flatten(), x.flatten()), abs=1e-12)
        assert measure(x.flatten(), x.flatten()) == pytest.approx(1)
        assert measure(x.flatten(), 7 * y.flatten()) == pytest.approx(value, abs=1e-6)
    assert -1 <= structural_similarity(x, y, 2.0) <= 1


def test_a_change_of_sign_is_seen_by_all_measures(net: Net, images: Tensor) -> None:
    signs = iter([1, 1, -1])
    test = model_randomization(
        lambda x: next(signs) * (x - 0.5), images, model=net, layers=["head"], seeds=[0], keep_maps=True
    )
    got = {measure: test.similarity[measure].flatten() for measure in MEASURES}
    exactly(got["spearman"], doubles(-1, -1))
    assert (got["ssim"] < -0.1).all() and (got["top_share"] == 0).all() and (got["mass_overlap"] == 0).all()
    exactly(test.maps[0, 0], -test.original)
    exactly(test.magnitude, torch.ones(1, 1, 2, dtype=torch.float64))


def test_ssim_of_a_map_and_its_negative_is_negative() -> None:
    x = 0.5 + 0.1 * torch.randn(1, 20, 20)  # Wang's product of two negative factors would be near 1
    assert structural_similarity(x, -x, 1.0) < -0.5
