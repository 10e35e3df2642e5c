"""CanonicalOcclusion equals a slow loop written from the paper's equations, point for point."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
from occlusion_tools import PATCH, SIZE, Net, correlation, same, score_of
from oracles import (
    canonical_map,
    drops_of,
    footprint,
    is_empty,
    occlusion_points,
    splatted,
)


@pytest.mark.parametrize("row", range(4))
def test_equals_algorithm_1(net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor, row: int) -> None:
    method = CanonicalOcclusion(net, faces[row], face)
    result, coverage = method.attribute(photos[row : row + 1], target=2, patch_size=PATCH, return_coverage=True)
    expected, hits = canonical_map(score_of(net, 2), photos[row], faces[row], face, PATCH)
    assert result.shape == coverage.shape == (1, 1, 48, 48)
    assert torch.equal(coverage[0], hits)
    same(result[0], expected)
    if row == 2:
        assert 0.1 < (~face.points_seen(faces[row].visible)).float().mean() < 0.5, "the turned face hides something"


def test_equals_algorithm_1_as_a_batch(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    targets, fill = [0, 3, 1, 2], torch.rand(4, 3, *SIZE)
    result = CanonicalOcclusion(net, faces, few).attribute(
        photos, target=targets, baselines=fill, patch_size=8, perturbations_per_eval=3
    )
    for row, target in enumerate(targets):
        expected, _ = canonical_map(score_of(net, target), photos[row], faces[row], few, 8, fill=fill[row])
        same(result[row], expected)


@pytest.mark.parametrize("patch", [1, 2, 7, 7.9, 30, 500])
def test_patch_sizes(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, patch: float) -> None:
    result = CanonicalOcclusion(net, faces[1], few).attribute(photos[1:2], target=0, patch_size=patch)
    expected, _ = canonical_map(score_of(net, 0), photos[1], faces[1], few, patch)
    same(result[0], expected)


@pytest.mark.parametrize(("height", "side"), [(224, 15), (112, 7), (64, 5), (448, 31), (16, 1), (8, 1)])
def test_the_default_patch_is_the_papers(few: CanonicalFace, height: int, side: int) -> None:
    """15 at 224, scaled to the input's height and made odd."""
    assert side % 2 == 1
    assert abs(side - 15 * height / 224) <= 1
    mesh = FaceMesh(few.resized((height, height)).vertices[None], image_size=(height, height))
    method = CanonicalOcclusion(lambda z: z.flatten(1).sum(1), mesh, few)
    x = torch.ones(1, 1, height, height, dtype=torch.float64)
    assert torch.equal(method.attribute(x), method.attribute(x, patch_size=side))
    assert float(method.attribute(x).max()) == pytest.approx(side**2)


@pytest.mark.parametrize("side", [None, 9, 5.7, "mesh"])
def test_canonical_patch_sizes(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, side: float | str | None
) -> None:
    result = CanonicalOcclusion(net, faces, few).attribute(
        photos, target=1, patch_size=PATCH, canonical_patch_size=side
    )
    for row in range(4):
        if side == "mesh":  # by the ratio of the two faces' root mean square radius
            own, canonical = (v - v.mean(0) for v in (faces.vertices[row], few.vertices))
            expected_side = PATCH * math.sqrt(float(canonical.square().sum() / own.square().sum()))
        else:
            expected_side = side
        expected, _ = canonical_map(score_of(net, 1), photos[row], faces[row], few, PATCH, expected_side)
        same(result[row], expected)


def test_sizes_may_be_numbers_of_numpy(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    plain = method.attribute(photos, target=1, patch_size=9, canonical_patch_size=5, num_points=20)
    for integer, real in ((np.int64, np.float32), (np.int32, np.float64)):
        result = method.attribute(
            photos, target=1, patch_size=integer(9), canonical_patch_size=real(5), num_points=integer(20)
        )
        same(result, plain)


def test_image_space(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    result, coverage = CanonicalOcclusion(net, faces, few).attribute(
        photos, target=1, patch_size=PATCH, space="image", return_coverage=True
    )
    assert result.shape == coverage.shape == (4, 1, *SIZE)
    for row in range(4):
        points, seen = occlusion_points(few, faces[row])
        drops = drops_of(score_of(net, 1), photos[row], points[:, :2], seen, PATCH, 0.0)
        expected, hits = splatted(drops, points[:, :2], PATCH, SIZE)
        same(result[row, 0], torch.from_numpy(expected))
        assert torch.equal(coverage[row, 0], torch.from_numpy(hits))


def test_fewer_points_are_interpolated(net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    faces, photos, calls = faces[1:3], photos[1:3], []
    method = CanonicalOcclusion(lambda z: calls.append(len(z)) or net(z), faces, face)
    arguments = {"target": 0, "patch_size": PATCH, "return_coverage": True}
    full, coverage = method.attribute(photos, **arguments)
    calls.clear()
    part, part_coverage = method.attribute(photos, num_points=256, **arguments)
    assert sum(calls) <= 2 + 2 * 256
    assert torch.equal(part_coverage, coverage), "no holes: points that were not evaluated paint too"
    for row in range(2):
        assert correlation(part[row], full[row]) > 0.97
    same(method.attribute(photos, num_points=face.num_points, **arguments)[0], full)


def test_the_first_points_are_those_of_the_order(net: Net, face: CanonicalFace, photos: Tensor) -> None:
    """A face whose points are stored in another order evaluates the same ones."""
    shuffle = torch.randperm(face.num_points)
    other = replace(
        face,
        point_vertices=face.point_vertices[shuffle],
        point_weights=face.point_weights[shuffle],
        progressive=False,
    )
    mesh = FaceMesh(face.vertices[None], image_size=(48, 48))
    evaluated = set()

    def spy(z: Tensor) -> Tensor:
        evaluated.update(tuple((image[0] == 0).nonzero().float().mean(0).tolist()) for image in z)
        return z.mean((1, 2, 3))

    x = torch.ones(1, 3, 48, 48)
    CanonicalOcclusion(spy, mesh, other).attribute(x, num_points=40, patch_size=3)
    centres = torch.tensor([place for place in evaluated if not math.isnan(place[0])]) + 0.5
    points = other.points(other.vertices)[other.point_order[:40], :2].flip(1)
    assert torch.cdist(centres.double(), points).amin(0).max() < 1.0


def test_coverage_counts_hits(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    _, coverage = CanonicalOcclusion(lambda z: z.mean((1, 2, 3)), faces, few).attribute(
        photos, return_coverage=True, canonical_patch_size=1
    )
    seen = few.points_seen(faces.visible)
    inside = torch.tensor(
        [[not is_empty(footprint(x, y, 7, SIZE)) for x, y in few.points(v)[:, :2].tolist()] for v in faces.vertices]
    )
    assert coverage.flatten(1).sum(1).tolist() == (seen & inside).sum(1).tolist()
    assert int(inside[3].sum()) < 60, "the fourth face is partly outside"


def test_hidden_points_are_not_evaluated(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    calls = []
    method = CanonicalOcclusion(lambda z: calls.append(len(z)) or net(z), faces[2], few)
    method.attribute(photos[2:3], target=0)
    seen = int(few.points_seen(faces[2].visible).sum())
    assert seen < 55
    assert sum(calls) == 1 + seen


def test_missing_faces_keep_their_row(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    found = replace(faces, found=torch.tensor([True, False, True, True]))
    result, coverage = CanonicalOcclusion(net, found, few).attribute(photos, target=1, return_coverage=True)
    assert result[1].abs().max() == 0
    assert coverage[1].max() == 0
    others = [0, 2, 3]
    same(result[others], CanonicalOcclusion(net, faces[others], few).attribute(photos[others], target=1))


@pytest.mark.parametrize("space", ["canonical", "image"])
@pytest.mark.parametrize("num_points", [None, 5])
@pytest.mark.parametrize("side", [None, "mesh"])
def test_nothing_seen_at_all(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, space: str, num_points: int | None, side: str | None
) -> None:
    arguments = {"target": 1, "space": space, "num_points": num_points, "canonical_patch_size": side}
    outside = replace(faces, vertices=faces.vertices + 1000)
    hidden = replace(faces, visible=torch.zeros_like(faces.visible))
    absent = replace(faces, vertices=torch.zeros_like(faces.vertices), found=torch.zeros(4, dtype=torch.bool))
    for mesh in (outside, hidden, absent):
        result, coverage = CanonicalOcclusion(net, mesh, few).attribute(photos, return_coverage=True, **arguments)
        assert torch.equal(result, torch.zeros_like(result))
        assert torch.equal(coverage, torch.zeros_like(result))


@pytest.mark.parametrize("far", [1e9, -1e9, 1e20, -1e20])
def test_a_vertex_far_away_is_outside(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, far: float
) -> None:
    """Aligners extrapolate; a wild vertex counts nowhere and breaks nothing."""
    vertices = faces.vertices.clone()
    vertices[:, few.point_vertices[0]] = far
    visible = faces.visible.clone()
    visible[:, few.point_vertices[0]] = False
    wild, hidden = replace(faces, vertices=vertices), replace(faces, visible=visible)
    same(
        CanonicalOcclusion(net, wild, few).attribute(photos, target=1),
        CanonicalOcclusion(net, hidden, few).attribute(photos, target=1),
    )
