"""Point-in-triangle joins, the raster, the depth test and the warp."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import CanonicalFace
from captum_canonical.faces.warp import (
    HIDDEN_BEHIND,
    Raster,
    pixel_centres,
    points_in_triangles,
    rasterize,
    visible_vertices,
    warp,
)
from oracles import barycentric, bilinear, frontmost, hidden_vertices, turned, warped

NOSE_TIP = 1  # MediaPipe's numbers; left and right are the person's own
RIGHT_CHEEK_BESIDE_THE_NOSE = [36, 100, 101, 120, 121, 126, 129, 142, 209]


def grid_mesh(rows: int, columns: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A flat mesh that covers an image exactly: vertices (rows * columns, 3) and triangles."""
    y, x = torch.meshgrid(
        torch.linspace(0, size[0], rows, dtype=torch.float64),
        torch.linspace(0, size[1], columns, dtype=torch.float64),
        indexing="ij",
    )
    vertices = torch.stack([x.flatten(), y.flatten(), torch.zeros(rows * columns, dtype=torch.float64)], 1)
    corner = [r * columns + c for r in range(rows - 1) for c in range(columns - 1)]
    triangles = [t for a in corner for t in ((a, a + 1, a + columns), (a + 1, a + columns + 1, a + columns))]
    return vertices, torch.tensor(triangles)


def distinct_triangles(vertices: int, count: int, generator: torch.Generator) -> Tensor:
    """Random triangles of three different vertices, no two of them on the same ones."""
    choices = torch.combinations(torch.arange(vertices), 3)
    return choices[torch.randperm(len(choices), generator=generator)[:count]]


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(48)


# ----------------------------------------------------------------------------------------------- points in triangles
coordinate = st.floats(-20, 20, allow_nan=False, width=32)
point = st.tuples(coordinate, coordinate)


@settings(max_examples=40, deadline=None)
@given(st.lists(point, min_size=1, max_size=20), st.lists(st.tuples(point, point, point), max_size=6))
def test_join_finds_each_pair_once(points: list, triangles: list) -> None:
    places = torch.tensor(points, dtype=torch.float64)
    corners = torch.tensor(triangles, dtype=torch.float64).reshape(-1, 3, 2)
    which, triangle, weights = points_in_triangles(places, corners)

    pairs = list(zip(which.tolist(), triangle.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for p in range(len(points)):
        for t in range(len(triangles)):
            shape = corners[t].numpy()
            margin = border_distance(places[p].numpy(), shape)
            if margin > 1e-6:  # on the border itself, either answer is right
                assert ((p, t) in pairs) == (barycentric(*points[p], shape) is not None), (points[p], triangles[t])
    located = (weights[..., None] * corners[triangle]).sum(1)
    thick = [abs(np.linalg.det(np.vstack([corners[t].T.numpy(), np.ones(3)]))) > 1e-6 for t in triangle.tolist()]
    assert_close(located[thick], places[which][thick], atol=1e-6, rtol=0)
    assert_close(weights[thick].sum(1), torch.ones(sum(thick), dtype=torch.float64), atol=1e-9, rtol=0)


def border_distance(place: np.ndarray, corners: np.ndarray) -> float:
    """The distance of a point from the outline of a triangle, 0 for triangles without area."""
    if abs(np.linalg.det(np.vstack([corners.T, np.ones(3)]))) < 1e-6:
        return 0.0
    distances = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        side = corners[b] - corners[a]
        share = np.clip((place - corners[a]) @ side / (side @ side), 0, 1)
        distances.append(float(np.linalg.norm(place - corners[a] - share * side)))
    return min(distances)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-6, 6), st.integers(-6, 6)), min_size=3, max_size=40), st.integers(0, 99))
def test_join_on_a_coarse_lattice(places: list, seed: int) -> None:
    """Many ties: points on the edges of cells and triangles, coincident points, triangles without area."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.tensor(places, dtype=torch.float64)
    corners = points[torch.randint(len(points), (12, 3), generator=generator)]
    which, triangle, _ = points_in_triangles(points, corners)
    expected = {
        (p, t)
        for p, place in enumerate(points.tolist())
        for t in range(12)
        if barycentric(*place, corners[t].numpy()) is not None
    }
    assert set(zip(which.tolist(), triangle.tolist(), strict=True)) == expected
    assert len(which) == len(expected)


def test_no_triangles_contain_nothing() -> None:
    assert [len(part) for part in points_in_triangles(torch.rand(5, 2), torch.zeros(0, 3, 2))] == [0, 0, 0]


def test_pixel_centres() -> None:
    assert pixel_centres((2, 3)).tolist() == [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]


# ------------------------------------------------------------------------------------------------------------ raster
@pytest.mark.parametrize("seed", range(4))
def test_raster_is_the_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(14, 3, generator=generator, dtype=torch.float64) * torch.tensor([22.0, 18.0, 9.0]) - 2
    triangles = distinct_triangles(14, 10, generator)
    raster = rasterize(vertices, triangles, (13, 17))
    assert raster.triangle.shape == (13, 17)
    assert raster.weights.shape == (13, 17, 3)
    for r in range(13):
        for c in range(17):
            hit = frontmost(c + 0.5, r + 0.5, vertices.numpy(), triangles.numpy())
            assert int(raster.triangle[r, c]) == (-1 if hit is None else hit[0])
            expected = np.zeros(3) if hit is None else hit[1]
            np.testing.assert_allclose(raster.weights[r, c].numpy(), expected, atol=1e-9)


def test_raster_shows_the_nearer_of_two_sheets() -> None:
    """z grows towards the camera."""
    sheet = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]], dtype=torch.float64)
    vertices = torch.cat([sheet, sheet + torch.tensor([0.0, 0.0, 1.0])])
    for triangles, front in (([[0, 1, 2], [3, 4, 5]], 1), ([[3, 4, 5], [0, 1, 2]], 0)):
        raster = rasterize(vertices, torch.tensor(triangles), (4, 4))
        assert raster.triangle.unique().tolist() == [front]


def test_raster_has_no_seams_and_no_overlap() -> None:
    vertices, triangles = grid_mesh(5, 6, (20, 25))
    raster = rasterize(vertices, triangles, (20, 25))
    assert raster.covered.all()
    place = (raster.weights[..., None] * vertices[triangles[raster.triangle]]).sum(2)[..., :2]
    assert_close(place.reshape(-1, 2), pixel_centres((20, 25)))


# --------------------------------------------------------------------------------------------------------- depth test
@pytest.mark.parametrize("seed", range(3))
def test_visibility_is_the_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(2, 25, 3, generator=generator, dtype=torch.float64) * 10
    triangles = distinct_triangles(25, 20, generator)
    visible = visible_vertices(vertices, triangles)
    for row in range(2):
        centred = vertices[row] - vertices[row].mean(0)
        tolerance = HIDDEN_BEHIND * math.sqrt(float(centred.square().sum(1).mean()))
        expected = ~hidden_vertices(vertices[row].numpy(), triangles.numpy(), tolerance)
        np.testing.assert_array_equal(visible[row].numpy(), expected)
    assert 0.2 < visible.float().mean() < 0.98, "the case must hold vertices of both kinds"


@pytest.mark.parametrize("degrees", [45, -45])
def test_a_head_turned_by_45_degrees_hides_its_far_cheek(face: CanonicalFace, degrees: float) -> None:
    """At +45 degrees the nose goes to smaller x, in front of the person's right cheek."""
    head = turned(face.vertices, degrees)
    assert (head[NOSE_TIP, 0] < head[:, 0].mean()) == (degrees > 0)
    seen = visible_vertices(head[None], face.triangles)[0]
    beside, near = torch.tensor(RIGHT_CHEEK_BESIDE_THE_NOSE), "left"
    if degrees < 0:
        beside, near = face.permutation[beside], "right"
    assert not seen[beside].any(), "the far cheek, behind the nose, is hidden"
    assert seen[face.permutation[beside]].all(), "the near cheek is seen"
    assert seen[NOSE_TIP]
    for region in (f"cheek_{near}", f"eye_{near}", f"nose_wing_{near}", f"jaw_{near}"):
        assert seen[face.triangles[face.regions[region]]].all(), f"all of the near {region} is seen"


def test_the_wrong_sign_of_depth_hides_the_near_side(face: CanonicalFace) -> None:
    """The share of hidden vertices hardly tells; that the nose disappears into the head does."""
    head = turned(face.vertices, 45) * torch.tensor([1.0, 1.0, -1.0])
    seen = visible_vertices(head[None], face.triangles)[0]
    assert not seen[NOSE_TIP]
    assert not seen[face.triangles[face.regions["nose_wing_left"]]].all()


def test_a_frontal_face_is_seen_and_turning_hides_more_and_more(face: CanonicalFace) -> None:
    hidden = [
        float((~visible_vertices(turned(face.vertices, angle)[None], face.triangles)).float().mean())
        for angle in (0, 15, 30, 45, 60, 75)
    ]
    assert hidden[0] < 0.06
    assert hidden == sorted(hidden)
    assert hidden[-1] > 0.3


def test_visibility_does_not_depend_on_size_place_or_mirror(face: CanonicalFace) -> None:
    head = turned(face.vertices, 35)
    seen = visible_vertices(head[None], face.triangles)[0]
    moved = head * 7.3 + torch.tensor([100.0, -40.0, 900.0])
    assert torch.equal(visible_vertices(moved[None], face.triangles)[0], seen)
    mirrored = (head * torch.tensor([-1.0, 1.0, 1.0]))[face.permutation]
    assert torch.equal(visible_vertices(mirrored[None], face.triangles)[0], seen[face.permutation])


# --------------------------------------------------------------------------------------------------------------- warp
def test_warp_is_the_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    triangles = distinct_triangles(12, 9, generator)
    target = torch.rand(12, 3, generator=generator, dtype=torch.float64) * torch.tensor([14.0, 12.0, 5.0])
    source = torch.rand(2, 12, 3, generator=generator, dtype=torch.float64) * torch.tensor([26.0, 20.0, 5.0]) - 3
    visible = torch.rand(2, 12, generator=generator) > 0.15
    maps = torch.randn(2, 1, 14, 19, generator=generator, dtype=torch.float64)
    values, covered = warp(maps, rasterize(target, triangles, (12, 14)), triangles, source, visible)
    for row in range(2):
        expected, expected_covered = warped(
            maps[row, 0].numpy(), source[row].numpy(), visible[row].numpy(), target.numpy(), triangles.numpy(), (12, 14)
        )
        np.testing.assert_array_equal(covered[row, 0].numpy(), expected_covered)
        np.testing.assert_allclose(values[row, 0].numpy(), expected, atol=1e-9)
        assert 0 < expected_covered.mean() < 1


def test_warp_by_the_identity_changes_nothing() -> None:
    """The test of align_corners: any other convention moves or stretches the map by half a pixel."""
    maps = torch.randn(1, 2, 11, 8)
    vertices, triangles = grid_mesh(2, 2, (11, 8))
    values, covered = warp(
        maps, rasterize(vertices, triangles, (11, 8)), triangles, vertices[None], torch.ones(1, 4, dtype=torch.bool)
    )
    assert covered.all()
    assert_close(values, maps, atol=1e-6, rtol=0)


def test_warp_to_twice_the_size_interpolates_between_centres() -> None:
    maps = torch.arange(6.0, dtype=torch.float64).reshape(1, 1, 2, 3)
    source, triangles = grid_mesh(2, 2, (2, 3))
    raster = rasterize(source * 2, triangles, (4, 6))
    values, _ = warp(maps, raster, triangles, source[None], torch.ones(1, 4, dtype=torch.bool))
    for r in range(4):
        for c in range(6):
            expected = bilinear(maps[0, 0].numpy(), (c + 0.5) / 2, (r + 0.5) / 2)
            assert float(values[0, 0, r, c]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_warp_keeps_constants_and_types(face: CanonicalFace, dtype: torch.dtype) -> None:
    source = turned(face.vertices, 20)[None] + torch.tensor([9.0, 0.0, 0.0])  # partly outside
    maps = torch.full((1, 3, 48, 48), 0.7, dtype=dtype)
    values, covered = warp(maps, face.raster, face.triangles, source, torch.ones(1, 468, dtype=torch.bool))
    assert values.dtype == dtype
    assert 0 < covered.float().mean() < 0.6
    mask = covered.expand_as(values)
    assert_close(values[mask], torch.full_like(values[mask], 0.7))
    assert values[~mask].abs().max() == 0


def test_hidden_corners_are_not_read(face: CanonicalFace) -> None:
    visible = torch.ones(1, 468, dtype=torch.bool)
    visible[0, NOSE_TIP] = False
    _, covered = warp(torch.ones(1, 1, 48, 48), face.raster, face.triangles, face.vertices[None], visible)
    at_the_nose = torch.isin(face.raster.triangle, torch.nonzero((face.triangles == NOSE_TIP).any(1)).flatten())
    assert at_the_nose.any()
    assert torch.equal(covered[0, 0], face.raster.covered & ~at_the_nose)


def test_an_empty_raster_is_no_error() -> None:
    """A mesh wholly outside the image: nothing is shown."""
    vertices, triangles = grid_mesh(2, 2, (4, 4))
    raster = rasterize(vertices + 100, triangles, (4, 4))
    assert isinstance(raster, Raster)
    assert not raster.covered.any()
    values, covered = warp(
        torch.ones(1, 1, 4, 4), raster, triangles, vertices[None], torch.ones(1, 4, dtype=torch.bool)
    )
    assert not covered.any()
    assert values.abs().max() == 0
