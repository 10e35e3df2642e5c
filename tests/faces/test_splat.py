"""Footprints, splatting and the interpolation of points that were not evaluated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.faces.splat import fill_in, footprints, nonempty, splat
from oracles import footprint, is_empty, splatted

COORDINATES = st.floats(-40, 60, allow_nan=False, width=32)
SIDES = st.one_of(st.integers(1, 45).map(float), st.floats(1, 45, width=32))


def boxed(rows: slice, columns: slice) -> list[int]:
    return [columns.start, rows.start, columns.stop, rows.stop]


# --------------------------------------------------------------------------------------------------------- footprint
@pytest.mark.parametrize(
    ("centre", "side", "box"),
    [
        ((4.5, 5.5), 1.0, [4, 5, 5, 6]),  # the pixel itself
        ((4.5, 5.5), 3.0, [3, 4, 6, 7]),  # and its neighbours
        ((4.0, 5.0), 2.0, [3, 4, 5, 6]),  # an even side at a pixel corner
        ((4.5, 5.5), 3.99, [3, 4, 6, 7]),  # the side is rounded down
        ((0.5, 9.5), 3.0, [0, 8, 2, 10]),  # cut off at the border, not shifted
        ((4.99, 5.01), 3.0, [3, 4, 6, 7]),  # anywhere within the pixel
        ((5.5, 5.5), 100.0, [0, 0, 12, 10]),
    ],
)
def test_footprint_by_hand(centre: tuple[float, float], side: float, box: list[int]) -> None:
    assert footprints(torch.tensor([centre]), side, (10, 12))[0].tolist() == box


@settings(max_examples=200, deadline=None)
@given(COORDINATES, COORDINATES, SIDES, st.integers(1, 30), st.integers(1, 30))
def test_footprint_is_the_loop(x: float, y: float, side: float, height: int, width: int) -> None:
    box = footprints(torch.tensor([x, y], dtype=torch.float64), side, (height, width))
    expected = footprint(x, y, side, (height, width))
    assert bool(nonempty(box)) == (not is_empty(expected))
    if not is_empty(expected):
        assert box.tolist() == boxed(*expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(-10, 30), st.floats(0.01, 0.99), st.integers(1, 12), st.integers(1, 20))
def test_footprint_of_a_flipped_point_is_the_flipped_footprint(cell: int, part: float, side: int, width: int) -> None:
    centre = cell + part + (0.5 if side % 2 == 0 else 0.0)  # not on a tie, where no choice is symmetric
    left, _, right, _ = footprints(torch.tensor([centre, 0.5], dtype=torch.float64), side, (1, width)).tolist()
    flipped = footprints(torch.tensor([width - centre, 0.5], dtype=torch.float64), side, (1, width))
    assert bool(nonempty(flipped)) == (right > left)
    if right > left:
        assert flipped[[0, 2]].tolist() == [width - right, width - left]


def test_sides_may_differ_by_row() -> None:
    centres = torch.full((2, 3, 2), 8.5)
    boxes = footprints(centres, torch.tensor([[3.0], [7.0]]), (17, 17))
    assert (boxes[..., 2] - boxes[..., 0]).tolist() == [[3, 3, 3], [7, 7, 7]]


@pytest.mark.parametrize("far", [-1e6, 1e6, -1e18, 1e18, -1e30, 1e30, -3e38, 3e38])
def test_points_far_outside_are_empty(far: float) -> None:
    """Finite coordinates beyond the range of an integer are outside the image like any others."""
    boxes = footprints(torch.tensor([[far, 5.0], [5.0, far], [far, far]]), 5, (10, 10))
    assert not nonempty(boxes).any()


# ------------------------------------------------------------------------------------------------------------- splat
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 14), st.integers(1, 14), st.integers(1, 3), st.integers(1, 9), SIDES)
def test_splat_is_the_loop(data: st.DataObject, height: int, width: int, rows: int, points: int, side: float) -> None:
    coordinates = st.floats(-8, 22, width=32)
    centres = torch.tensor(data.draw(st.lists(coordinates, min_size=2 * rows * points, max_size=2 * rows * points)))
    centres = centres.reshape(rows, points, 2).double()
    values = torch.tensor(data.draw(st.lists(st.floats(-9, 9), min_size=rows * points, max_size=rows * points)))
    values = values.reshape(rows, points).double()
    counted = torch.tensor(data.draw(st.lists(st.booleans(), min_size=rows * points, max_size=rows * points)))
    counted = counted.reshape(rows, points)

    mean, hits = splat(footprints(centres, side, (height, width)), values, counted, (height, width))

    assert mean.shape == hits.shape == (rows, 1, height, width)
    for row in range(rows):
        drops = [v if c else None for v, c in zip(values[row].tolist(), counted[row].tolist(), strict=True)]
        expected_mean, expected_hits = splatted(drops, centres[row], side, (height, width))
        np.testing.assert_array_equal(hits[row, 0].numpy(), expected_hits)
        np.testing.assert_allclose(mean[row, 0].numpy(), expected_mean, atol=1e-12)


def test_one_set_of_boxes_serves_all_rows() -> None:
    boxes = footprints(torch.rand(1, 7, 2) * 12, 4, (12, 9))
    values, counted = torch.randn(3, 7), torch.rand(3, 7) > 0.3
    shared = splat(boxes, values, counted, (12, 9))
    for row in range(3):
        alone = splat(boxes, values[row : row + 1], counted[row : row + 1], (12, 9))
        for all_rows, single in zip(shared, alone, strict=True):
            assert_close(all_rows[row : row + 1], single)


def test_a_constant_stays_the_constant() -> None:
    """Eq. 5: without the division by the hits the map would grow with the density of the points."""
    boxes = footprints(torch.rand(1, 500, 2) * 40, 9, (40, 40))
    mean, hits = splat(boxes, torch.full((1, 500), 0.7), torch.ones(1, 500, dtype=torch.bool), (40, 40))
    assert hits.max() > 10
    assert_close(mean[hits > 0], torch.full_like(mean[hits > 0], float(torch.tensor(0.7))), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_does_not_count_does_not_spread(value: float) -> None:
    boxes = footprints(torch.tensor([[[2.5, 2.5], [6.5, 2.5], [900.0, 2.5]]]), 3, (5, 9))
    values, counted = torch.tensor([[1.0, value, value]]), torch.tensor([[True, False, True]])
    mean, hits = splat(boxes, values, counted, (5, 9))
    assert mean.isfinite().all()
    assert int(hits.sum()) == 9


def test_values_of_very_different_size_do_not_leak() -> None:
    """Cumulative sums carry every value across the whole map: what is left of a large one must be below float32."""
    boxes = footprints(torch.tensor([[[1.5, 1.5], [40.5, 40.5]]]), 3, (60, 60))
    mean, hits = splat(boxes, torch.tensor([[1e4, 1e-3]]), torch.ones(1, 2, dtype=torch.bool), (60, 60))
    assert_close(mean[0, 0, 40, 40], torch.tensor(1e-3, dtype=torch.float64), rtol=1e-6, atol=0)
    assert mean[hits == 0].abs().max() == 0


def test_arguments_are_left_alone() -> None:
    boxes, values = footprints(torch.rand(2, 5, 2) * 9, 3, (9, 9)), torch.randn(2, 5, dtype=torch.float64)
    counted = torch.tensor([[True, False, True, True, True]]).expand(2, 5)
    before = boxes.clone(), values.clone(), counted.clone()
    splat(boxes, values, counted, (9, 9))
    for left, right in zip(before, (boxes, values, counted), strict=True):
        assert_close(left, right)


# ----------------------------------------------------------------------------------------------------------- fill_in
def interpolated(values: Tensor, known: Tensor, places: Tensor, point: int, neighbours: int) -> float:
    """Shepard's weights, one point at a time."""
    distances = sorted((float((places[point] - places[k]).norm()), k) for k in known.nonzero().flatten().tolist())
    near = distances[:neighbours]
    weights = [1 / d**2 for d, _ in near]
    return sum(w * float(values[k]) for w, (_, k) in zip(weights, near, strict=True)) / sum(weights)


def test_fill_in_is_the_loop() -> None:
    values, places = torch.randn(3, 20, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    seen = torch.rand(3, 20) > 0.2
    evaluated = seen & (torch.rand(3, 20) > 0.5)
    filled, paints = fill_in(values, evaluated, seen, places)
    assert_close(paints, seen)
    for row in range(3):
        for point in seen[row].nonzero().flatten().tolist():
            known = bool(evaluated[row, point])
            expected = values[row, point] if known else interpolated(values[row], evaluated[row], places, point, 4)
            assert float(filled[row, point]) == pytest.approx(float(expected), rel=1e-9)


def test_fill_in_of_rows_without_values_paints_nothing() -> None:
    evaluated = torch.tensor([[True, False, False], [False, False, False]])
    seen = torch.tensor([[True, True, False], [True, True, True]])
    filled, paints = fill_in(torch.tensor([[2.0, 9, 9], [9, 9, 9]]), evaluated, seen, torch.rand(3, 2))
    assert paints.tolist() == [[True, True, False], [False, False, False]]
    assert float(filled[0, 1]) == 2.0, "one known value is everybody's nearest"


def test_fill_in_where_points_coincide() -> None:
    places = torch.zeros(3, 2, dtype=torch.float64)
    values = torch.tensor([[4.0, 6.0, 0.0]], dtype=torch.float64)
    filled, _ = fill_in(values, torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool), places)
    assert filled.isfinite().all()
    assert float(filled[0, 2]) == pytest.approx(5.0)
