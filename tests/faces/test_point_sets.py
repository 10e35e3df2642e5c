"""Points dealt out to sets: all of them once, evenly, the same ones again for the same seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.point_sets import point_sets


@given(st.integers(1, 70), st.integers(1, 70), st.integers(2, 3), st.integers(0, 5))
def test_equal_parts_of_any_points(points: int, count: int, dimensions: int, seed: int) -> None:
    count = min(points, count)
    places = torch.randn(points, dimensions, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    sets = point_sets(places, count, seed)
    sizes = sets.bincount(minlength=count)
    assert sizes.sum() == points and len(sizes) == count
    assert sizes.max() - sizes.min() <= 1
    assert torch.equal(sets, point_sets(places, count, seed))


def nearest_in_set(places: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """For each point the distance to the nearest other one of its set."""
    found = torch.empty(len(places), dtype=torch.float64)
    for number in range(int(sets.max()) + 1):
        members = torch.nonzero(sets == number).flatten()
        found[members] = torch.cdist(places[members], places[members]).sort(1).values[:, 1]
    return found


@pytest.mark.parametrize("count", [4, 16])
def test_sets_keep_their_points_apart(count: int) -> None:
    face = CanonicalFace.default()
    places = face.points(face.vertices)[:, :2].double()
    even = nearest_in_set(places, point_sets(places, count, 0))
    shuffled = torch.randperm(len(places), generator=torch.Generator().manual_seed(0)) % count
    random = nearest_in_set(places, shuffled)
    assert even.quantile(0.05) > 1.5 * random.quantile(0.05)
    assert even.mean() > 1.3 * random.mean()


def test_another_seed_makes_other_sets() -> None:
    places = torch.rand(100, 2, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(point_sets(places, 5, 0), point_sets(places, 5, 1))
