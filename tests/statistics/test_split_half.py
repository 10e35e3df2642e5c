"""Split-half correlations, against cases worked out by hand and slow loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.split_half import SplitHalfCorrelation, split_half_correlation


def test_two_maps_have_one_split() -> None:
    # Deviations from the mean: (-1, 0, 1) and (-4/3, -1/3, 5/3); r = 3 / sqrt(2 * 42 / 9).
    result = split_half_correlation(torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 3.0]]), splits=7)
    assert_close(result.mean, 3 / math.sqrt(2 * 42 / 9))
    assert_close(result.standard_deviation, 0.0)
    assert result.splits == 7
    assert_close(result.spearman_brown, 2 * result.mean / (1 + result.mean))


def test_many_random_splits_approach_all_possible_ones() -> None:
    maps = torch.randn(6, 1, 4, 5, dtype=torch.float64) + torch.randn(1, 4, 5)
    rows = maps.flatten(1).numpy()
    correlations = []
    for half in itertools.combinations(range(6), 3):
        rest = [i for i in range(6) if i not in half]
        correlations.append(np.corrcoef(rows[list(half)].mean(0), rows[rest].mean(0))[0, 1])
    result = split_half_correlation(maps, splits=1000)
    assert_close(result.mean, float(np.mean(correlations)), rtol=0, atol=5 * np.std(correlations) / 1000**0.5)
    assert_close(result.standard_deviation, float(np.std(correlations)), rtol=0.1, atol=0)


def test_many_random_splits_of_people_approach_all_possible_ones() -> None:
    """Six people with unequal numbers of images; one image of an unknown person is the sixth."""
    maps = torch.randn(9, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    names = ["a", 1, "b", "1.0", "c", "d", None, "c", "c"]
    people = [[0], [1, 3], [2], [4, 7, 8], [5], [6]]
    correlations = []
    for half in itertools.combinations(range(6), 3):
        rows = [[row for each in side for row in people[each]] for side in (half, {*range(6)} - {*half})]
        correlations.append(np.corrcoef(*(maps[side].mean(0).numpy() for side in rows))[0, 1])
    result = split_half_correlation(maps, splits=2000, identities=names)
    assert_close(result.mean, float(np.mean(correlations)), rtol=0, atol=5 * np.std(correlations) / 2000**0.5)
    assert_close(result.standard_deviation, float(np.std(correlations)), rtol=0.1, atol=0)


def test_a_person_in_both_halves_would_look_like_reliability() -> None:
    """Maps without any pattern in common, two photographs of each person: nothing but people could be recognised."""
    maps = torch.randn(30, 4000, generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 0)
    names = [f"person {number // 2}" for number in range(60)]
    assert split_half_correlation(maps).mean > 0.3
    assert abs(split_half_correlation(maps, identities=names).mean) < 0.05
    unknown = split_half_correlation(maps, identities=[float("nan"), None] * 30)
    assert unknown == split_half_correlation(maps)  # each of an unknown person is a person of its own


def test_means_are_over_covered_images_and_pixels_over_both_halves() -> None:
    # Every pixel has its own value, the same in all images: whatever is covered, the means agree exactly.
    maps = torch.tensor([1.0, 2.0, 5.0, 3.0, 9.0, 4.0]).expand(8, 6).clone()
    coverage = torch.randint(0, 3, (8, 6))
    coverage[:, 0] = 1
    coverage[:, 1] = 2
    coverage[:, 4] = 0
    maps[coverage == 0] = torch.nan
    result = split_half_correlation(maps, coverage, splits=50)
    assert_close(result.mean, 1.0)
    assert_close(result.standard_deviation, 0.0, rtol=0, atol=1e-7)
    assert result.splits == 50
    # The same from arrays, with zeros read as values where no coverage says otherwise.
    assert split_half_correlation(maps.numpy(), coverage.numpy(), splits=50) == result
    assert split_half_correlation(maps.nan_to_num(), splits=50).mean < 0.999


def test_covered_means_equal_a_slow_loop() -> None:
    maps, coverage = torch.randn(2, 9), torch.ones(2, 9)
    coverage[0, 0] = coverage[1, 4] = 0
    both = (coverage > 0).all(0)
    want = np.corrcoef(maps[:, both].numpy())[0, 1]
    assert_close(split_half_correlation(maps, coverage, splits=1).mean, float(want), rtol=1e-6, atol=0)
    # One image more in a half must not dilute a pixel that it does not cover.
    seen = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 0]])
    values = torch.tensor([[0.0, 1, 7], [0, 1, 99], [0, 1, 7], [0, 1, 99]])
    for seed in range(5):
        result = split_half_correlation(values, seen, splits=10, seed=seed)
        assert_close(result.mean, 1.0)


def test_one_image_is_left_out_of_an_odd_number() -> None:
    # Two opposite patterns and a neutral one: the halves are single images, never a mean of two.
    pattern = torch.tensor([1.0, 2.0, 4.0])
    result = split_half_correlation(torch.stack([pattern, -pattern, 2 * pattern]), splits=400)
    assert_close(result.mean, -1 / 3, rtol=0, atol=0.15)
    assert 0.9 < result.standard_deviation < 1.0  # every split is 1 or -1


def test_splits_without_a_correlation_are_left_out() -> None:
    constant = split_half_correlation(torch.ones(4, 5), splits=9)
    assert constant.splits == 0 and math.isnan(constant.mean) and math.isnan(constant.standard_deviation)
    assert math.isnan(constant.spearman_brown)
    tenths = split_half_correlation(torch.full((4, 7), 0.1), splits=9)  # its mean is not exactly its values
    assert tenths.splits == 0
    unseen = split_half_correlation(torch.randn(4, 5), torch.zeros(4, 5), splits=9)
    assert unseen.splits == 0
    # Pixels 1 and 2 are covered in images 0 and 1 only: a split has a correlation only if it parts these two.
    coverage = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 0, 0]])
    values = torch.tensor([[0.0, 1, 2]]).expand(4, 3)
    some = split_half_correlation(values, coverage, splits=300)
    assert_close(some.mean, 1.0)
    assert 150 < some.splits < 250  # two thirds of them


def test_it_depends_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(10, 30)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = split_half_correlation(maps, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(2)
    assert split_half_correlation(maps, seed=3) == first
    assert split_half_correlation(maps, seed=4) != first
    monkeypatch.setattr("captum_canonical.statistics.split_half.SPLITS_AT_ONCE", 7)
    assert_close(split_half_correlation(maps, seed=3).mean, first.mean)


def test_signal_and_noise_give_the_expected_reliability() -> None:
    # Equal variance of signal and of a half's mean noise: r = 1/2, and 2/3 for all images by Spearman and Brown.
    signal = torch.randn(10_000)
    maps = signal + torch.randn(8, 10_000) * 2  # the mean of 4 has noise of variance 4 / 4
    result = split_half_correlation(maps, splits=10)
    assert_close(result.mean, 0.5, rtol=0, atol=0.05)
    assert_close(result.spearman_brown, 2 / 3, rtol=0, atol=0.05)


def test_spearman_brown_at_its_end() -> None:
    assert math.isnan(SplitHalfCorrelation(-1.0, 0.0, 3).spearman_brown)
    assert SplitHalfCorrelation(0.0, 0.0, 3).spearman_brown == 0


@pytest.mark.parametrize(
    ("maps", "coverage", "splits", "message"),
    [
        (torch.zeros(1, 4), None, 3, r"at least two maps .* got \(1, 4\)"),
        (torch.zeros(4), None, 3, r"got \(4,\)"),
        (torch.zeros(3, 4), torch.zeros(4), 3, r"got \(3, 4\) and \(4,\)"),
        (torch.full((3, 4), torch.nan), None, 3, "got NaN or inf"),
        (torch.zeros(3, 4), None, 0, "at least one split, got 0"),
    ],
)
def test_split_half_bad_input(maps: Tensor, coverage: Tensor | None, splits: int, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        split_half_correlation(maps, coverage, splits)


@pytest.mark.parametrize(
    ("identities", "message"),
    [
        (["Ann"], "identities: expected one entry for each of the 3 photographs, got 1"),
        (["Ann"] * 3, "expected maps of at least two people, got one person's"),
    ],
)
def test_identities_that_do_not_fit(identities: list[str], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        split_half_correlation(torch.randn(3, 4), identities=identities)
