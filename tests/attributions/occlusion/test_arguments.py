"""Targets, baselines, forward arguments and several inputs of CanonicalOcclusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
from occlusion_tools import PATCH, SIZE, Net, same, score_of
from oracles import (
    canonical_map,
    footprint,
    is_empty,
    occlusion_points,
    splatted,
)


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
