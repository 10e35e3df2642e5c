"""CanonicalOcclusion equals a slow loop written from the paper's equations, and keeps its promises on real meshes."""

from __future__ import annotations

import copy
import logging
import math
import random
import re
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, CanonicalOcclusion, FaceMesh
from captum_canonical.faces.warp import visible_vertices
from oracles import (
    canonical_map,
    drops_of,
    footprint,
    is_empty,
    occlusion_points,
    rolled,
    splatted,
    turned,
)

SIZE = (112, 96)
PATCH = 11


class Net(nn.Module):
    """Any (N, 3, H, W) -> 4 log-probabilities, in float64; what it notices depends on the place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        self.head = nn.Linear(4 * 5 * 5, 4)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.conv(x).tanh(), 5).flatten(1)).log_softmax(1)


@pytest.fixture(scope="module")
def net() -> Net:
    return Net()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(48)


@pytest.fixture(scope="module")
def few(face: CanonicalFace) -> CanonicalFace:
    """The same face with 60 points, for what does not depend on their number."""
    return replace(face, point_vertices=face.point_vertices[:60], point_weights=face.point_weights[:60])


@pytest.fixture(scope="module")
def photos() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(4, 3, 14, 12, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, SIZE, mode="bilinear")


def placed(face: CanonicalFace, yaw: float, roll: float, scale: float, centre: tuple[float, float]) -> Tensor:
    return rolled(turned(face.vertices, yaw), roll, scale, centre)


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    """Four faces in (112, 96) images: frontal, rolled and larger, turned with a hidden side, half outside."""
    vertices = torch.stack(
        [
            placed(face, 0, 0, 1.7, (48.3, 55.1)),
            placed(face, 0, 25, 2.0, (50.2, 60.4)),
            placed(face, 50, -10, 1.6, (44.9, 52.7)),
            placed(face, -20, 5, 2.3, (80.6, 20.2)),
        ]
    )
    return FaceMesh(vertices, visible_vertices(vertices, face.triangles), SIZE, face.topology)


def score_of(net: Callable[[Tensor], Tensor], target: int) -> Callable[[Tensor], float]:
    return lambda image: float(net(image)[0, target])


def same(actual: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0, "the case must not be empty"
    assert_close(actual, expected, atol=1e-10 * float(expected.abs().max()) + 1e-300, rtol=1e-9, check_dtype=False)


# --------------------------------------------------------------------------------------------- the loop of Algorithm 1
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


# ----------------------------------------------------------------------------------------- arguments as Captum's own
@pytest.mark.parametrize(
    "target",
    [2, (2,), torch.tensor(2), torch.tensor([2]), [2, 2, 2, 2], torch.tensor([2, 2, 2, 2]), [(2,)] * 4, -2],
    ids=str,
)
def test_ways_to_name_one_target(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, target: object) -> None:
    method = CanonicalOcclusion(net, faces, few)
    one_score = CanonicalOcclusion(lambda z: net(z)[:, 2], faces, few)
    same(method.attribute(photos, target=target), one_score.attribute(photos))


def test_each_photo_has_its_own_target(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    for targets in ([0, 3, 1, 2], torch.tensor([0, 3, 1, 2]), [(0,), (3,), (1,), (2,)]):
        result = method.attribute(photos, target=targets)
        for row, target in enumerate((0, 3, 1, 2)):
            alone = CanonicalOcclusion(net, faces[row], few).attribute(photos[row : row + 1], target=target)
            same(result[row : row + 1], alone)


def test_targets_in_a_table(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(lambda z: net(z).reshape(-1, 2, 2), faces, few)
    plain = CanonicalOcclusion(net, faces, few)
    same(method.attribute(photos, target=(1, 0)), plain.attribute(photos, target=2))
    same(
        method.attribute(photos, target=[(0, 0), (1, 1), (0, 1), (1, 0)]),
        plain.attribute(photos, target=[0, 3, 1, 2]),
    )


@pytest.mark.parametrize("kind", ["number", "bool", "one", "each", "no batch", "channel", "tuple", "blurred", "row"])
def test_baselines(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, kind: str) -> None:
    blurred = F.avg_pool2d(photos, 9, stride=1, padding=4)
    baselines = {
        "number": 0.25,
        "bool": True,
        "one": blurred[:1],
        "each": blurred,
        "no batch": blurred[0],
        "channel": torch.rand(1, 3, 1, 1),
        "tuple": (blurred,),
        "blurred": blurred.float(),
        "row": torch.rand(96),
    }[kind]
    result = CanonicalOcclusion(net, faces, few).attribute(photos, target=1, baselines=baselines, patch_size=PATCH)
    fill = baselines[0] if isinstance(baselines, tuple) else baselines
    for row in range(4):
        own = fill.double().expand(4, 3, *SIZE)[row] if isinstance(fill, Tensor) else float(fill)
        expected, _ = canonical_map(score_of(net, 1), photos[row], faces[row], few, PATCH, fill=own)
        same(result[row], expected)


def test_additional_forward_args(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    """A tensor of one entry per photo follows its photo; everything else is passed on as it is."""
    weights, shared, words = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64), torch.rand(7, 2), ["any"]
    got = []

    def forward(z: Tensor, weight: Tensor, table: Tensor, factor: float, names: list) -> Tensor:
        got.append((len(z), weight, table, factor, names))
        return net(z)[:, 0] * weight * factor

    result = CanonicalOcclusion(forward, faces, few).attribute(
        photos, additional_forward_args=(weights, shared, 2.0, words), perturbations_per_eval=5
    )
    plain = CanonicalOcclusion(lambda z: net(z)[:, 0], faces, few).attribute(photos)
    same(result, plain * 2 * weights[:, None, None, None])
    for rows, weight, table, factor, names in got:
        assert weight.shape == (rows,)
        assert table is shared
        assert factor == 2.0
        assert names is words


def test_one_additional_argument_needs_no_tuple(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(lambda z, factor: net(z)[:, 0] * factor, faces, few)
    plain = CanonicalOcclusion(lambda z: net(z)[:, 0], faces, few)
    same(method.attribute(photos, additional_forward_args=-1.5), plain.attribute(photos) * -1.5)


def test_scores_need_no_gradient_and_no_network(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    """A black box: numpy in, numpy out."""

    def black_box(z: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(z).astype(np.float64)[:, :, 40:60, 30:60].mean((1, 2, 3)))

    result = CanonicalOcclusion(black_box, faces, few).attribute(photos)
    same(result, CanonicalOcclusion(lambda z: z[:, :, 40:60, 30:60].mean((1, 2, 3)), faces, few).attribute(photos))


def test_positive_means_evidence_for_the_target(face: CanonicalFace) -> None:
    """Brightness at the mouth is the score: hiding the mouth with black lowers it, with white raises it."""
    mesh = FaceMesh(face.vertices[None], image_size=(48, 48), topology=face.topology)
    x, y = face.vertices[13, :2].long().tolist()
    at_the_mouth = CanonicalOcclusion(lambda z: z[:, 0, y - 1 : y + 2, x - 3 : x + 4].mean((1, 2)), mesh, face)
    grey = torch.full((1, 1, 48, 48), 0.5)
    black, white = at_the_mouth.attribute(grey, baselines=0), at_the_mouth.attribute(grey, baselines=1)
    assert black[0, 0, y, x] > 0.1
    assert black.min() >= 0
    assert_close(white, -black)
    mouth = face.region_mask("upper_lip") | face.region_mask("lower_lip")
    assert black[0, 0][mouth].sum() > 0.6 * black.sum()


# ------------------------------------------------------------------------------------------------- several inputs
def test_a_pair_hides_the_same_facial_point_in_both(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """Eq. 8: two photos, two meshes, one score; a point counts if it is seen in both."""

    def similarity(one: Tensor, two: Tensor) -> Tensor:
        return F.cosine_similarity(net(one), net(two))

    left, right = faces[[1, 2]], faces[[2, 3]]
    inputs = (photos[[1, 2]], photos[[2, 3]])
    result, coverage = CanonicalOcclusion(similarity, (left, right), few).attribute(
        inputs, patch_size=PATCH, return_coverage=True
    )
    assert isinstance(result, tuple)
    assert len(result) == len(coverage) == 2
    assert torch.equal(result[0], result[1])
    side = PATCH * 48 / SIZE[0]
    places = few.points(few.vertices)[:, :2]
    for row in range(2):
        (at_left, seen_left), (at_right, seen_right) = (occlusion_points(few, m[row]) for m in (left, right))
        clean = float(similarity(inputs[0][row : row + 1], inputs[1][row : row + 1]))
        drops = []
        for p in range(60):
            boxes = [footprint(*at[p, :2].tolist(), PATCH, SIZE) for at in (at_left, at_right)]
            if not (seen_left[p] and seen_right[p]) or any(is_empty(box) for box in boxes):
                drops.append(None)
                continue
            hidden = [x[row : row + 1].clone() for x in inputs]
            for x, box in zip(hidden, boxes, strict=True):
                x[:, :, box[0], box[1]] = 0
            drops.append(clean - float(similarity(*hidden)))
        expected, hits = splatted(drops, places, side, (48, 48))
        same(result[0][row, 0], torch.from_numpy(expected))
        assert torch.equal(coverage[1][row, 0], torch.from_numpy(hits))
        assert 0 < sum(drop is None for drop in drops) < 60


def test_an_input_without_a_mesh_is_left_untouched(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    other, ages = torch.rand(4, 3, 30, 30, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)

    def forward(photo: Tensor, second: Tensor, age: Tensor) -> Tensor:
        assert torch.cdist(second.flatten(1), other.flatten(1)).amin(1).max() < 1e-6
        return net(photo)[:, 0] * second.mean((1, 2, 3)) + age.sum(1)

    result = CanonicalOcclusion(forward, (faces, None, None), few).attribute((photos, other, ages))
    assert isinstance(result, tuple)
    assert len(result) == 1
    plain = CanonicalOcclusion(lambda z: net(z)[:, 0], faces, few).attribute(photos)
    same(result[0], plain * other.mean((1, 2, 3))[:, None, None, None])


def test_a_pair_of_different_sizes_in_image_space(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    small = faces.resized((56, 80))
    x = F.interpolate(photos, (56, 80))
    method = CanonicalOcclusion(lambda a, b: a.mean((1, 2, 3)) - b.mean((1, 2, 3)), (faces, small), few)
    one, two = method.attribute((photos, x), space="image")
    assert (one.shape, two.shape) == ((4, 1, *SIZE), (4, 1, 56, 80))


def test_baselines_of_a_pair(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(lambda a, b: (a + 2 * b).mean((1, 2, 3)), (faces, faces), few)
    result = method.attribute((photos, photos), baselines=(photos, 0.0))
    alone = CanonicalOcclusion(lambda b: 2 * b.mean((1, 2, 3)), faces, few).attribute(photos)
    same(result[0], alone)


# -------------------------------------------------------------------------------------------- points and coverage
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


# ------------------------------------------------------------------------------------- whose mesh belongs to which row
def test_the_calls_faces_win_over_the_constructors(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    method = CanonicalOcclusion(net, faces[[3, 2, 1, 0]], few)
    expected = CanonicalOcclusion(net, faces, few).attribute(photos, target=1)
    same(method.attribute(photos, target=1, faces=faces), expected)
    same(CanonicalOcclusion(net, None, few).attribute(photos, target=1, faces=faces), expected)


def test_an_aligner_finds_the_faces_of_each_call(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    seen = []

    def aligner(images: Tensor) -> FaceMesh:
        seen.append(images)
        return faces[: len(images)]

    method = CanonicalOcclusion(net, aligner, few)
    same(method.attribute(photos, target=1), CanonicalOcclusion(net, faces, few).attribute(photos, target=1))
    same(
        method.attribute(photos[:2], target=1),
        CanonicalOcclusion(net, faces[:2], few).attribute(photos[:2], target=1),
    )
    assert [len(images) for images in seen] == [4, 2]
    assert torch.equal(seen[0], photos)


def test_a_pair_may_have_an_aligner_and_a_mesh(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    forward = lambda a, b: (a * b).mean((1, 2, 3))  # noqa: E731
    mixed = CanonicalOcclusion(forward, (lambda images: faces, faces), few).attribute((photos, photos))
    same(mixed[0], CanonicalOcclusion(forward, (faces, faces), few).attribute((photos, photos))[0])


def test_repeated_rows_repeat_the_meshes_side_by_side(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """As NoiseTunnel repeats: image 0, image 0, image 1, image 1."""
    targets = torch.tensor([0, 3, 1, 2])
    method = CanonicalOcclusion(net, faces, few)
    expected = method.attribute(photos, target=targets)
    repeated = method.attribute(photos.repeat_interleave(3, 0), target=targets.repeat_interleave(3))
    same(repeated, expected.repeat_interleave(3, 0))
    one = CanonicalOcclusion(net, faces[1], few).attribute(photos, target=1)
    for row in range(4):
        alone = CanonicalOcclusion(net, faces[1], few).attribute(photos[row : row + 1], target=1)
        same(one[row : row + 1], alone)


def test_repeating_is_logged_once(
    few: CanonicalFace, faces: FaceMesh, photos: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    method = CanonicalOcclusion(lambda z: z.mean((1, 2, 3)), faces[:2], few)
    with caplog.at_level(logging.INFO, logger="captum_canonical"):
        for _ in range(2):
            method.attribute(photos.repeat(7, 1, 1, 1)[:26])
    assert sum("2 meshes for 26 images" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("at_once", [2, 1])
def test_noise_tunnel(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, at_once: int) -> None:
    """The mean of the maps of noisy copies, each with the mesh and the target of its own photo."""
    targets = torch.tensor([0, 3, 1, 2])
    method = CanonicalOcclusion(net, faces, few)
    torch.manual_seed(0)
    result = NoiseTunnel(method).attribute(
        photos, target=targets, nt_samples=2, nt_samples_batch_size=at_once, stdevs=0.1
    )
    torch.manual_seed(0)
    total = torch.zeros_like(result)
    for _ in range(2 // at_once):
        noisy = photos.repeat_interleave(at_once, 0)
        noisy = noisy + torch.normal(0, torch.full(noisy.shape, 0.1))
        for row in range(4 * at_once):
            one = row // at_once
            total[one] += CanonicalOcclusion(net, faces[one], few).attribute(
                noisy[row][None], target=int(targets[one])
            )[0]
    same(result, total / 2)


def test_sensitivity_max(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    targets = torch.tensor([0, 3, 1, 2])
    still = sensitivity_max(
        method.attribute, photos, perturb_func=lambda x: x, n_perturb_samples=3, target=targets, patch_size=PATCH
    )
    assert_close(still, torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    by_keyword = sensitivity_max(
        CanonicalOcclusion(net, None, few).attribute,
        photos,
        perturb_func=lambda x: x,
        n_perturb_samples=2,
        target=targets,
        faces=faces,  # captum copies keywords deeply
    )
    assert_close(by_keyword, still, atol=1e-9, rtol=0)
    moved = sensitivity_max(method.attribute, photos, n_perturb_samples=3, target=targets, patch_size=PATCH)
    assert (moved > 0).all()
    assert (moved < 1).all()


@pytest.mark.parametrize(("meshes", "rows"), [(4, 3), (4, 6), (4, 2), (3, 4)])
def test_meshes_that_do_not_fit_the_images(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, meshes: int, rows: int
) -> None:
    with pytest.raises(AlignmentError, match=rf"{meshes} meshes for {rows} images"):
        CanonicalOcclusion(net, faces[:meshes], few).attribute(photos.repeat(2, 1, 1, 1)[:rows], target=1)


def test_meshes_that_must_not_be_repeated(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    """Rows of a face that was not found, or of several faces in one image, no longer say which image they belong to."""
    absent = replace(faces[:2], found=torch.tensor([True, False]))
    several = replace(faces[:2], image_index=torch.tensor([0, 1]))
    for mesh in (absent, several):
        with pytest.raises(AlignmentError, match=r"2 meshes for 4 images.*image_index"):
            CanonicalOcclusion(net, mesh, few).attribute(photos, target=1)
    with pytest.raises(AlignmentError, match="0 meshes"):
        CanonicalOcclusion(net, faces[[]], few).attribute(photos, target=1)
    with pytest.raises(AlignmentError, match=r"4 meshes for 3 images.*image_index"):  # what face="all" gives
        CanonicalOcclusion(net, replace(faces, image_index=torch.tensor([0, 0, 1, 2])), few).attribute(
            photos[:3], target=1
        )


def test_several_faces_of_one_image(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    index = torch.tensor([0, 0, 1, 3])
    several = replace(faces, image_index=index)
    result = CanonicalOcclusion(net, several, few).attribute(photos[index], target=1)
    for row in range(4):
        alone = CanonicalOcclusion(net, faces[row], few).attribute(photos[index[row]][None], target=1)
        same(result[row : row + 1], alone)


# --------------------------------------------------------------------------------------------------------- invariances
def correlation(one: Tensor, two: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])


@pytest.mark.parametrize("per_eval", [1, 2, 7, 64, 10**4])
def test_perturbations_per_eval_do_not_matter(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, per_eval: int
) -> None:
    rows, single = [], copy.deepcopy(net).float()
    method = CanonicalOcclusion(lambda z: rows.append(len(z)) or single(z), faces, few)
    result = method.attribute(photos.float(), target=[0, 3, 1, 2], perturbations_per_eval=per_eval)
    assert max(rows) <= per_eval * 4
    expected = method.attribute(photos.float(), target=[0, 3, 1, 2])
    assert_close(result, expected, atol=1e-6 * float(net(photos).abs().max()), rtol=0)


def test_a_batch_is_its_images(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    baselines, single = torch.rand(4, 3, *SIZE), copy.deepcopy(net).float()
    arguments = {"patch_size": PATCH, "canonical_patch_size": "mesh"}
    together = CanonicalOcclusion(single, faces, few).attribute(
        photos.float(), target=[0, 3, 1, 2], baselines=baselines, **arguments
    )
    for row, target in enumerate((0, 3, 1, 2)):
        one = slice(row, row + 1)
        alone = CanonicalOcclusion(single, faces[one], few).attribute(
            photos[one].float(), target=target, baselines=baselines[one], **arguments
        )
        assert_close(together[one], alone, atol=1e-6 * float(net(photos).abs().max()), rtol=0)


def test_order_of_points_and_vertices_does_not_matter(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    expected = CanonicalOcclusion(net, faces, few).attribute(photos, target=1)
    shuffle = torch.randperm(60)
    points = replace(few, point_vertices=few.point_vertices[shuffle], point_weights=few.point_weights[shuffle])
    same(CanonicalOcclusion(net, faces, points).attribute(photos, target=1), expected)
    order = torch.randperm(468)
    renumbered = replace(few, vertices=few.vertices[order], point_vertices=order.argsort()[few.point_vertices])
    mesh = replace(faces, vertices=faces.vertices[:, order], visible=faces.visible[:, order])
    same(CanonicalOcclusion(net, mesh, renumbered).attribute(photos, target=1), expected)


@pytest.mark.parametrize("arguments", [{}, {"num_points": 150}, {"canonical_patch_size": "mesh"}, {"space": "image"}])
def test_a_flipped_photo_gives_the_flipped_map(
    net: Net, face: CanonicalFace, faces: FaceMesh, photos: Tensor, arguments: dict
) -> None:
    """Because the points come in mirrored pairs."""
    some = replace(face, point_vertices=face.point_vertices[:300], point_weights=face.point_weights[:300])
    arguments = {"target": 1, "return_coverage": True, "patch_size": PATCH, **arguments}
    expected, hits = CanonicalOcclusion(net, faces, some).attribute(photos, **arguments)
    mirrored = CanonicalOcclusion(lambda z: net(z.flip(-1)), faces.flipped(face.permutation), some)
    flipped, flipped_hits = mirrored.attribute(photos.flip(-1), **arguments)
    assert torch.equal(flipped_hits.flip(-1), hits)
    assert_close(flipped.flip(-1), expected, atol=1e-6 * float(expected.abs().max()), rtol=0)


def test_a_shifted_and_scaled_photo_gives_the_same_map(net: Net, face: CanonicalFace) -> None:
    """With canonical_patch_size="mesh": the map does not tell how large the face is in its image, or where."""
    generator = torch.Generator().manual_seed(2)
    photo = F.interpolate(torch.rand(1, 3, 8, 8, generator=generator, dtype=torch.float64), (64, 64), mode="bilinear")
    vertices = placed(face, 10, 5, 1.2, (32.4, 31.7))[None]
    small = FaceMesh(vertices, image_size=(64, 64), topology=face.topology)
    left, top = 37, 21
    canvas = torch.zeros(1, 3, 170, 180, dtype=torch.float64)
    canvas[..., top : top + 128, left : left + 128] = photo.repeat_interleave(2, 2).repeat_interleave(2, 3)
    large = small.resized((128, 128)).cropped(-left, -top, 180, 170)

    def zoomed(z: Tensor) -> Tensor:
        return net(F.avg_pool2d(z[..., top : top + 128, left : left + 128], 2))

    one, one_hits = CanonicalOcclusion(net, small, face).attribute(
        photo, target=1, patch_size=9, canonical_patch_size="mesh", return_coverage=True
    )
    two, two_hits = CanonicalOcclusion(zoomed, large, face).attribute(
        canvas, target=1, patch_size=18, canonical_patch_size="mesh", return_coverage=True
    )
    assert torch.equal(one_hits, two_hits), "the same side on the canonical face"
    assert correlation(one, two) >= 0.99
    assert_close(two.std(), one.std(), rtol=0.1, atol=0)
    by_height, hits = CanonicalOcclusion(zoomed, large, face).attribute(
        canvas, target=1, patch_size=18, return_coverage=True
    )
    assert not torch.equal(hits, one_hits), "by the ratio of the heights it would be another side"
    assert by_height.shape == one.shape


def test_a_transposed_photo_gives_the_transposed_map(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    """Rows and columns are never mixed up, on inputs that are not square."""
    swapped = faces.vertices[..., [1, 0, 2]]
    mesh = replace(faces, vertices=swapped, image_size=(SIZE[1], SIZE[0]))
    upright = replace(few, vertices=few.vertices[:, [1, 0, 2]])
    result = CanonicalOcclusion(lambda z: net(z.mT), mesh, upright).attribute(
        photos.mT, target=1, patch_size=PATCH, canonical_patch_size=9
    )
    expected = CanonicalOcclusion(net, faces, few).attribute(photos, target=1, patch_size=PATCH, canonical_patch_size=9)
    same(result.mT, expected)


# ------------------------------------------------------------------------------------------------- what comes back
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
    ],
)
def test_types(few: CanonicalFace, faces: FaceMesh, dtype: torch.dtype, expected: torch.dtype) -> None:
    x = (torch.rand(4, 3, *SIZE) * 200).to(dtype)
    result, coverage = CanonicalOcclusion(lambda z: z.float().mean((1, 2, 3)), faces, few).attribute(
        x, return_coverage=True
    )
    assert result.dtype == coverage.dtype == expected
    assert result.is_contiguous()
    assert coverage.is_contiguous()
    assert not result.requires_grad
    assert result.device == x.device


def test_the_default_face_is_used(faces: FaceMesh, photos: Tensor) -> None:
    result = CanonicalOcclusion(lambda z: z.mean((1, 2, 3)), faces[0]).attribute(photos[:1], num_points=16)
    assert result.shape == (1, 1, 224, 224)


def test_everything_is_left_as_it_was(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    model = copy.deepcopy(net)
    model.head.weight.requires_grad_(False)
    images, baselines = photos.clone().requires_grad_(), torch.rand(4, 3, *SIZE)
    targets, argument = torch.tensor([0, 3, 1, 2]), torch.ones(4, dtype=torch.float64)
    tensors = [images, baselines, targets, argument, faces.vertices, faces.visible, few.vertices, few.point_weights]
    tensors += list(model.parameters())
    before = [t.detach().clone() for t in tensors]
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    CanonicalOcclusion(lambda z, w: model(z) * w[:, None], faces, few).attribute(
        images, target=targets, baselines=baselines, additional_forward_args=argument, num_points=30
    )

    for tensor, value in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), value)
        assert tensor.grad is None
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert torch.is_grad_enabled()


def test_training_mode_is_warned_about_and_kept(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    model = Net().train()
    with pytest.warns(UserWarning, match="training mode") as caught:
        CanonicalOcclusion(model, faces, few).attribute(photos, target=1, num_points=4)
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points to the call"
    assert model.training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CanonicalOcclusion(model.eval(), faces, few).attribute(photos, target=1, num_points=4)


def subtracts_in_place(z: Tensor) -> None:
    z -= 0.4


def halves_through_numpy(z: Tensor) -> None:
    array = z.numpy()
    array *= 0.5


@pytest.mark.parametrize("write", [subtracts_in_place, halves_through_numpy])
def test_a_network_may_write_into_its_input(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, write: Callable[[Tensor], None]
) -> None:
    def writing(z: Tensor) -> Tensor:
        write(z)
        return net(z)

    def polite(z: Tensor) -> Tensor:
        z = z.clone()
        write(z)
        return net(z)

    before = photos.clone()
    result = CanonicalOcclusion(writing, faces, few).attribute(photos, target=1, perturbations_per_eval=2)
    same(result, CanonicalOcclusion(polite, faces, few).attribute(photos, target=1))
    assert torch.equal(photos, before)


def test_calls_do_not_influence_each_other(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    first = method.attribute(photos, target=1)
    method.attribute(photos.flip(0), target=2, faces=faces[[3, 2, 1, 0]], num_points=7)
    with pytest.raises(CanonicalError):
        method.attribute(photos, target=77)
    assert torch.equal(method.attribute(photos, target=1), first)


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made under it held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[weakref.ref, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.alive[id(tensor)] = (weakref.ref(tensor), storage.nbytes())
        held = {}
        for ref, size in self.alive.values():
            tensor = ref()
            if tensor is not None:
                held[tensor.untyped_storage().data_ptr()] = size
        self.alive = {key: value for key, value in self.alive.items() if value[0]() is not None}
        self.peak = max(self.peak, sum(held.values()))
        return result


def test_memory_does_not_grow_with_the_number_of_points(face: CanonicalFace) -> None:
    """Ten times as many patches need a few numbers for each of them, never an image or a mask for each."""
    mesh = FaceMesh(face.resized((128, 128)).vertices[None], image_size=(128, 128), topology=face.topology)
    x, peaks, rows = torch.rand(1, 3, 128, 128), [], 8
    for count in (64, 640):
        fewer = replace(face, point_vertices=face.point_vertices[:count], point_weights=face.point_weights[:count])
        with LiveBytes() as meter:
            CanonicalOcclusion(lambda z: z[:, 0, 60, 60] * 2, mesh, fewer).attribute(x, perturbations_per_eval=rows)
        peaks.append(meter.peak)
    image = x.numel() * 4
    assert peaks[0] > rows * image, "the meter must see the batch"
    assert peaks[0] < 3 * rows * image
    assert peaks[1] - peaks[0] < 640 * 400, "bytes for each point"
    assert peaks[1] - peaks[0] < 3 * image


# --------------------------------------------------------------------------------------------------- refused with words
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"target": None}, "target="),
        ({"target": 4}, "out of range"),
        ({"target": [1, 2]}, "4 images"),
        ({"target": "male"}, "target"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": -3}, "patch_size"),
        ({"patch_size": float("nan")}, "patch_size"),
        ({"patch_size": "15"}, "patch_size"),
        ({"canonical_patch_size": 0}, "canonical_patch_size"),
        ({"canonical_patch_size": "face"}, "canonical_patch_size"),
        ({"canonical_patch_size": float("nan")}, "canonical_patch_size"),
        ({"num_points": 0}, r"num_points.*1 to 60"),
        ({"num_points": 61}, r"num_points.*1 to 60"),
        ({"num_points": 3.5}, "num_points"),
        ({"space": "world"}, "space"),
        ({"perturbations_per_eval": 0}, "perturbations_per_eval"),
        ({"perturbations_per_eval": 1.5}, "perturbations_per_eval"),
        ({"perturbations_per_eval": True}, "perturbations_per_eval"),
        ({"perturbations_per_eval": "4"}, "perturbations_per_eval"),
        ({"baselines": torch.zeros(4, 3, 9, 9)}, "baselines"),
        ({"baselines": torch.zeros(5, 4, 3, *SIZE)}, "baselines"),
        ({"baselines": (0, 1)}, "baselines"),
        ({"baselines": "black"}, "baselines"),
        ({"faces": "mesh"}, "faces"),
        ({"faces": ()}, "faces"),
        ({"faces": (None,)}, "faces"),
        ({"faces": lambda images: images}, "faces"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor, arguments: dict, match: str
) -> None:
    """And before the network has run for an hour: only a target needs its output."""
    calls = []
    method = CanonicalOcclusion(lambda z: calls.append(len(z)) or net(z), faces, few)
    with pytest.raises(CanonicalError, match=match):
        method.attribute(photos, **({"target": 1} | arguments))
    assert len(calls) <= ("target" in arguments)


def test_bad_inputs(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(net, faces, few)
    for inputs, match in (
        (photos[0], r"\(N, C, H, W\)"),
        ([photos], "list"),
        (photos.numpy(), "ndarray"),
        (photos[:0], "at least 1"),
        ((), "tuple"),
        (photos[..., :90], r"\(112, 96\).*\(112, 90\).*cropped"),
        ((photos, photos), "2 inputs"),
    ):
        with pytest.raises(CanonicalError, match=match):
            method.attribute(inputs, target=1)
    with pytest.raises(CanonicalError, match="batch size"):
        CanonicalOcclusion(lambda a, b: a, (faces, None), few).attribute((photos, photos[:2]))
    with pytest.raises(CanonicalError, match=r"no faces.*faces="):
        CanonicalOcclusion(net, None, few).attribute(photos, target=1)


def test_a_mesh_of_another_topology(net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    with pytest.raises(AlignmentError, match=r"prnet.*mediapipe-468"):
        CanonicalOcclusion(net, replace(faces, topology="prnet"), few).attribute(photos, target=1)
    fewer = replace(faces, vertices=faces.vertices[:, 1:], visible=faces.visible[:, 1:])
    with pytest.raises(AlignmentError, match=r"467.*468"):
        CanonicalOcclusion(net, fewer, few).attribute(photos, target=1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_that_returns_no_numbers(few: CanonicalFace, faces: FaceMesh, photos: Tensor, bad: float) -> None:
    with pytest.raises(CanonicalError, match="NaN or infinity"):
        CanonicalOcclusion(lambda z: z.mean((1, 2, 3)) * bad, faces, few).attribute(photos)
    picky = CanonicalOcclusion(lambda z: torch.where((z == 0).flatten(1).any(1), bad, 1.0), faces, few)
    with pytest.raises(CanonicalError, match=re.escape("occluded version of images [0, 1, 2, 3]")):
        picky.attribute(photos + 1)


def test_a_network_that_fails_fails_loudly(few: CanonicalFace, faces: FaceMesh, photos: Tensor) -> None:
    before = photos.clone()

    def fails(z: Tensor) -> Tensor:
        raise KeyError("of the network")

    with pytest.raises(KeyError, match="of the network"):
        CanonicalOcclusion(fails, faces, few).attribute(photos)
    assert torch.equal(photos, before)
    assert torch.is_grad_enabled()


def test_arguments_after_target_are_by_keyword_only(
    net: Net, few: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    with pytest.raises(TypeError):
        CanonicalOcclusion(net, faces, few).attribute(photos, 1, 0.0)  # type: ignore[misc]
