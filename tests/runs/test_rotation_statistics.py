"""What the mean of rotating points is worth, on simulated drops whose true mean is known."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faces.point_sets import point_sets
from captum_canonical.faces.splat import footprints, splat
from captum_canonical.saliency.moments import moments_of

SIDE, PATCH = 56, 3.75
SETS, PHOTOS = 6, 60
FACE = cc.CanonicalFace.default(SIDE)
PLACES = FACE.points(FACE.vertices)[:, :2].double()
BOXES = footprints(PLACES[None], PATCH, FACE.size)


def smooth(generator: torch.Generator, fields: int) -> Tensor:
    """(fields, P) random waves over the face, of unit variance; points 4 pixels apart are alike."""
    frequency = torch.randn(fields, 40, 2, generator=generator, dtype=torch.float64) / 6
    phase = torch.rand(fields, 40, 1, generator=generator, dtype=torch.float64) * 6.3
    return torch.cos(frequency @ PLACES.T + phase).sum(1) / 20**0.5


def drops(generator: torch.Generator, mean: Tensor, photos: int = PHOTOS) -> Tensor:
    """(photos, P): the mean, a level and a pattern of each photograph's own, and noise."""
    level = torch.randn(photos, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(photos, len(PLACES), generator=generator, dtype=torch.float64)
    return mean + 0.5 * level + smooth(generator, photos) + 0.5 * noise


def rotating_maps(generator: torch.Generator, values: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(values), generator=generator)
    sets = point_sets(PLACES, SETS, seed)
    return splat(BOXES, values, sets[None] == (order % SETS)[:, None], FACE.size)


@pytest.fixture(scope="module")
def truth() -> tuple[Tensor, Tensor]:
    """The mean drop of each point, and the mean of complete maps."""
    mean = 2 * smooth(torch.Generator().manual_seed(100), 1)[0]
    return mean, splat(BOXES, mean[None], torch.ones(1, len(PLACES), dtype=torch.bool), FACE.size)[0][0, 0]


@pytest.mark.parametrize(
    ("draws", "tolerance", "bias"), [(50, 0.03, 0.06), pytest.param(500, 0.015, 0.02, marks=pytest.mark.slow)]
)
def test_unbiased_and_its_intervals_hold_95_percent(
    truth: tuple[Tensor, Tensor], draws: int, tolerance: float, bias: float
) -> None:
    mean, expected = truth
    generator = torch.Generator().manual_seed(1)
    inside, errors = [], torch.zeros_like(expected)
    for draw in range(draws):
        maps, hits = rotating_maps(generator, drops(generator, mean), draw % 10)
        count, found, squares = moments_of(maps[:, 0], hits[:, 0] > 0)
        tested = (count >= PHOTOS / 4) & FACE.raster.covered
        error = (squares / (count - 1).clamp(min=1) / count.clamp(min=1)).sqrt()
        limit = torch.from_numpy(stats.t.ppf(0.975, (count - 1).clamp(min=1).numpy()))
        inside.append(((found - expected).abs() <= limit * error)[tested].double().mean())
        errors += torch.where(tested, found - expected, 0.0)
    assert abs(float(torch.stack(inside).mean()) - 0.95) <= tolerance
    assert float((errors / draws)[FACE.raster.covered].square().mean().sqrt()) < bias  # the true map's spread is 2


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is() -> None:
    generator = torch.Generator().manual_seed(2)
    found = 0
    for draw in range(100):
        maps, hits = rotating_maps(generator, drops(generator, torch.zeros(len(PLACES)), 30), draw % 10)
        result = cc.ModelSaliency.from_maps(maps, hits, FACE)
        found += bool(result.significance(permutations=199, share=0.2, seed=draw).mask.any())
    assert found <= stats.binom.ppf(0.999, 100, 0.05)


@pytest.mark.slow
def test_two_halves_of_the_same_population_do_not_differ() -> None:
    generator = torch.Generator().manual_seed(3)
    found = 0
    for draw in range(60):
        mean = smooth(generator, 1)[0]
        sides = [rotating_maps(generator, drops(generator, mean, 24), draw) for _ in range(2)]
        one, other = (cc.ModelSaliency.from_maps(*side, FACE) for side in sides)
        result = cc.compare_groups(one, other, permutations=199, share=0.2, seed=draw)
        found += bool(result.significance.mask.any())
    assert found <= stats.binom.ppf(0.999, 60, 0.05)


def test_the_same_points_for_all_photographs_leave_an_error_that_more_photographs_do_not_lower(
    truth: tuple[Tensor, Tensor],
) -> None:
    """Why points rotate: one set sees some places never."""
    mean = truth[0]
    generator = torch.Generator().manual_seed(4)
    sets = point_sets(PLACES, SETS, 0)
    for number in range(SETS):
        _, hits = splat(BOXES, drops(generator, mean), (sets == number).expand(PHOTOS, -1), FACE.size)
        assert bool((hits[:, :, FACE.raster.covered] == 0).any(0).any())
    _, hits = rotating_maps(generator, drops(generator, mean), 0)
    assert bool((hits > 0).any(0)[0, FACE.raster.covered].all())
