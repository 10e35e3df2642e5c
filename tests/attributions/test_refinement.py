"""CanonicalOcclusion.refine: maps that come closer and closer to the complete one, and say how close they are."""

from __future__ import annotations

import copy

import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    CanonicalProjector,
    FaceMesh,
    RefinedMaps,
)
from captum_canonical.attributions.refinement import expected_change

pytestmark = pytest.mark.usefixtures("only_arithmetic_costs")
SIZE = (48, 48)


@pytest.fixture(scope="module")
def faces() -> FaceMesh:
    face = CanonicalFace.default()
    mesh = FaceMesh(face.resized(SIZE).vertices[None], image_size=SIZE, topology=face.topology)
    return FaceMesh.cat([mesh, mesh])


@pytest.fixture(scope="module")
def photos() -> Tensor:
    torch.manual_seed(3)
    return torch.rand(2, 3, *SIZE)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.Conv2d(4, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(324, 3)
    ).eval()


def refined(net: object, faces: FaceMesh, photos: Tensor, **arguments: object) -> list[RefinedMaps]:
    return list(CanonicalOcclusion(net, faces).refine(photos, target=1, patch_size=7, **arguments))


@pytest.mark.parametrize("inference", ["dense", "auto"])
def test_every_result_is_a_map_of_so_many_points(
    net: nn.Module, faces: FaceMesh, photos: Tensor, inference: str
) -> None:
    # In double precision: in single, scores differ in their last bits from batch to batch, as much as drops do here.
    method, photos = CanonicalOcclusion(copy.deepcopy(net).double(), faces, inference=inference), photos.double()
    results = list(method.refine(photos, target=1, patch_size=7))
    assert [r.num_points for r in results] == [64, 128, 256, 512, 1024]
    assert [r.approximate for r in results] == [True] * 4 + [False]
    for result in results:
        maps, coverage = method.attribute(
            photos, target=1, patch_size=7, num_points=result.num_points, return_coverage=True
        )
        assert_close(result.attributions, maps, rtol=0, atol=1e-6 * float(maps.abs().max()))
        assert_close(result.coverage, coverage, rtol=0, atol=0)


def test_no_patch_is_run_twice(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    rows: list[Tensor] = []

    def spy(x: Tensor) -> Tensor:
        rows.extend(x.clone())
        return net(x)

    refined(spy, faces, photos)
    assert len(torch.stack(rows).flatten(1).unique(dim=0)) == len(rows)
    everything = len(rows)
    rows.clear()
    CanonicalOcclusion(spy, faces).attribute(photos, target=1, patch_size=7)
    assert len(rows) == everything


@pytest.mark.parametrize("arguments", [{}, {"num_points": 100}, {"patch_size": 40}, {"patch_size": 3, "num_points": 7}])
def test_the_number_of_evaluations_is_known_beforehand(
    faces: FaceMesh, photos: Tensor, arguments: dict[str, int]
) -> None:
    rows: list[Tensor] = []

    def spy(x: Tensor, which: Tensor) -> Tensor:
        rows.append(which)
        return x.mean((1, 2, 3))

    moved = FaceMesh(
        faces.vertices + torch.tensor([[[0.0, 0, 0]], [[30.0, 0, 0]]]), image_size=SIZE, topology=faces.topology
    )
    method = CanonicalOcclusion(spy, moved)
    for given, meshes in ((photos, None), ((photos, photos), (moved, faces))):  # a point must be seen in both
        expected = method.num_evaluations(given, faces=meshes, **arguments)
        assert not rows and expected.shape == (2,) and expected[0] > expected[1] > 1
        spied = spy if meshes is None else lambda x, y, which: spy(x, which)
        CanonicalOcclusion(spied, moved).attribute(
            given, faces=meshes, additional_forward_args=torch.arange(2), **arguments
        )
        checks = 4  # calls beforehand, with which the argument of as many rows as images is checked
        assert torch.cat(rows[checks:]).bincount().tolist() == expected.tolist()
        rows.clear()


def test_the_number_of_evaluations_of_other_methods_is_not_known(faces: FaceMesh, photos: Tensor) -> None:
    assert CanonicalProjector(Saliency(lambda x: x.mean((1, 2, 3))), faces).num_evaluations(photos) is None
    with pytest.raises(CanonicalError, match="num_points: expected 1 to 1024"):
        CanonicalOcclusion(lambda x: x, faces).num_evaluations(photos, num_points=0)


def test_it_stops_at_the_tolerance(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    changes = [float(r.expected_change.max()) for r in refined(net, faces, photos)]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] == 0
    stopped = refined(net, faces, photos, tolerance=(changes[1] + changes[2]) / 2)
    assert [r.num_points for r in stopped] == [64, 128, 256]
    assert stopped[-1].approximate
    assert len(refined(net, faces, photos, tolerance=0.0)) == 5


def test_points_are_run_only_when_the_next_result_is_asked_for(faces: FaceMesh, photos: Tensor) -> None:
    rows = []
    method = CanonicalOcclusion(lambda x: rows.append(len(x)) or x.mean((1, 2, 3)), faces)
    results = method.refine(photos)
    assert rows == []
    next(results)
    assert sum(rows) <= 2 + 2 * 64


def test_the_expected_change_is_near_the_true_one(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    results = refined(net, faces, photos)
    full = results[-1].attributions.flatten(1).double()
    for result in results[:-1]:
        maps = result.attributions.flatten(1).double()
        true = (maps - full).norm(dim=1) / maps.norm(dim=1)
        assert ((result.expected_change > true / 2.5) & (result.expected_change < true * 2.5)).all()


def test_expected_change_by_hand() -> None:
    """|M_n - M_(n/2)| = 5 and |M_n| = 13 or 10, and a quarter of the points are left."""
    now = torch.tensor([[5.0, 12.0], [6.0, 8.0], [0.0, 0.0], [0.0, 0.0]])[:, None, None]
    before = torch.tensor([[2.0, 8.0], [6.0, 13.0], [0.0, 0.0], [0.0, 1.0]])[:, None, None]
    expected = torch.tensor([5 / 13 / 2, 5 / 10 / 2, 0, torch.inf], dtype=torch.float64)
    assert_close(expected_change((now,), (before,), 768, 1024), expected)
    assert_close(expected_change((now, now), (now, before), 768, 1024), expected)
    assert_close(expected_change((now,), (now,), 768, 1024), torch.zeros(4, dtype=torch.float64))


def test_a_face_that_is_not_found_needs_no_points(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    found = torch.tensor([True, False])
    one = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, found=found)
    result = refined(net, one, photos)[0]
    assert result.expected_change[1] == 0
    assert_close(result.attributions[1], torch.zeros_like(result.attributions[1]))


def test_pairs_and_image_space(faces: FaceMesh, photos: Tensor) -> None:
    method = CanonicalOcclusion(lambda x, y: (x * y).mean((1, 2, 3)), (faces, faces))
    arguments = {"faces": (faces, faces), "space": "image", "patch_size": 7}
    *_, last = method.refine((photos, photos.flip(3)), first_points=300, **arguments)
    maps = method.attribute((photos, photos.flip(3)), **arguments)
    assert isinstance(last.attributions, tuple)
    for got, expected in zip(last.attributions, maps, strict=True):
        assert_close(got, expected)
    assert last.num_points == 1024


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -0.1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": "small"}, "tolerance"),
        ({"first_points": 1}, "first_points"),
        ({"first_points": 6.5}, "first_points"),
        ({"patch_size": 0}, "patch_size"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    net: nn.Module, faces: FaceMesh, photos: Tensor, arguments: dict, message: str
) -> None:
    with pytest.raises(CanonicalError, match=message):
        CanonicalOcclusion(net, faces).refine(photos, target=1, **arguments)


def test_arguments_that_refine_does_not_take(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    with pytest.raises(TypeError, match="return_coverage"):
        CanonicalOcclusion(net, faces).refine(photos, target=1, return_coverage=True)


def test_gradients_are_as_on_as_before(net: nn.Module, faces: FaceMesh, photos: Tensor) -> None:
    for _ in CanonicalOcclusion(net, faces).refine(photos, target=1, patch_size=7):
        assert torch.is_grad_enabled()
