"""Similarities between shapes, and photographs that are turned by one: what is painted at a point stays at it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_canonical.errors import AlignmentError, CanonicalError
from captum_canonical.faces.images import crop_photo
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.similarity import Similarity, crop_by_similarity, fit_similarity


# ------------------------------------------------------------------------------------------------ the best one
def rotation(yaw: float, roll: float) -> torch.Tensor:
    (a, b), (c, d) = (np.cos(yaw), np.sin(yaw)), (np.cos(roll), np.sin(roll))
    return torch.tensor([[c, -d, 0], [d, c, 0], [0, 0, 1]]) @ torch.tensor([[a, 0, b], [0, 1, 0], [-b, 0, a]])


@pytest.mark.parametrize("dims", [2, 3])
def test_similarity_is_recovered_exactly(dims: int) -> None:
    source = torch.rand(7, dims, dtype=torch.float64)
    turn = rotation(0.4, -1.1).double() if dims == 3 else rotation(0, 2.5)[:2, :2].double()
    targets = torch.stack([3.5 * source @ turn.T - 20, source])
    fitted = fit_similarity(source, targets)
    torch.testing.assert_close(fitted.apply(source), targets)
    torch.testing.assert_close(fitted.undo(targets), source.expand(2, -1, -1))
    torch.testing.assert_close(fitted.scale, torch.tensor([3.5, 1], dtype=torch.float64))
    torch.testing.assert_close(fitted.rotation[0], turn)


def test_similarity_is_the_best_one_and_no_reflection() -> None:
    source, target = torch.randn(9, 3).double(), torch.randn(1, 9, 3).double()
    fitted = fit_similarity(source, target)
    error = (fitted.apply(source) - target).square().sum()
    for _ in range(100):
        nearby = torch.eye(3).double() + 0.05 * torch.randn(3, 3).double()
        turn, upper = torch.linalg.qr(nearby)
        turn = turn * upper.diagonal().sign()  # the rotation near the identity
        other = fitted.scale * (1 + 0.05 * torch.randn(1)) * source @ (fitted.rotation[0] @ turn).T
        other = other + target.mean(1) - other.mean(0)
        assert (other - target).square().sum() >= error - 1e-9
    mirrored = fit_similarity(source, (source * torch.tensor([-1.0, 1, 1]))[None])
    assert torch.linalg.det(mirrored.rotation[0]) == pytest.approx(1)


def test_points_without_a_shape_are_errors() -> None:
    with pytest.raises(AlignmentError, match="coincide"):
        fit_similarity(torch.rand(5, 3), torch.ones(1, 5, 3))
    with pytest.raises(AlignmentError, match="coincide"):
        fit_similarity(torch.ones(5, 3), torch.rand(1, 5, 3))
    with pytest.raises(AlignmentError, match="NaN"):
        fit_similarity(torch.rand(5, 3), torch.full((1, 5, 3), torch.nan))


def test_many_shapes_to_many() -> None:
    sources, targets = torch.rand(4, 6, 2).double(), torch.rand(4, 6, 2).double()
    together = fit_similarity(sources, targets)
    for row in range(4):
        alone = fit_similarity(sources[row], targets[row : row + 1])
        torch.testing.assert_close(together.scale[row], alone.scale[0])
        torch.testing.assert_close(together.rotation[row], alone.rotation[0])
        torch.testing.assert_close(together.shift[row], alone.shift[0])
    torch.testing.assert_close(together.undo(together.apply(sources)), sources)


def similarity(scale: float, degrees: float, x: float = 0.0, y: float = 0.0) -> Similarity:
    angle = math.radians(degrees)
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return Similarity(*(torch.tensor([each], dtype=torch.float64) for each in (scale, turn, [x, y])))


def test_a_mesh_moves_along_with_its_depth() -> None:
    vertices = torch.tensor([[[10.0, 20.0, 3.0], [0.0, 0.0, -4.0]]])
    mesh = FaceMesh(vertices, torch.tensor([[True, False]]), (40, 50), "pair", image_index=torch.tensor([7]))
    moved = similarity(2, 90, 100, 5).move(mesh, (60, 70))
    expected = torch.tensor([[[100 - 40.0, 5 + 20.0, 6.0], [100.0, 5.0, -8.0]]])  # right becomes down, down left
    torch.testing.assert_close(moved.vertices, expected)
    assert (moved.image_size, moved.topology, moved.image_index.tolist()) == ((60, 70), "pair", [7])
    assert moved.visible.tolist() == [[True, False]] and moved.vertices.dtype == torch.float32


# ------------------------------------------------------------------------------------------------ photographs
def slow_crop(photo: np.ndarray, maps: Similarity, size: tuple[int, int], samples: int) -> np.ndarray:
    """Each new pixel as the mean of samples x samples points of its own square, the nearest old pixel at each."""
    result, (height, width) = np.zeros((*size, 3)), photo.shape[:2]
    for row in range(size[0]):
        for column in range(size[1]):
            for down in range(samples):
                for across in range(samples):
                    point = [column + (across + 0.5) / samples, row + (down + 0.5) / samples]
                    x, y = maps.undo(torch.tensor([point], dtype=torch.float64))[0, 0].tolist()
                    result[row, column] += photo[
                        min(max(int(y // 1), 0), height - 1), min(max(int(x // 1), 0), width - 1)
                    ]
    return result / samples**2


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("shrink", "degrees"), [(2.0, 0), (3.0, 90), (5.0, 180), (7.0, -90)])
def test_shrinking_is_the_mean_over_the_new_pixel(shrink: float, degrees: float) -> None:
    photo, size = noise(70, 84), (8, 9)
    maps = fit_similarity(
        torch.tensor([[7.0, 6.0], [7.0 + shrink, 6.0]]),
        similarity(1, degrees).apply(torch.tensor([[0.0, 0.0], [1.0, 0.0]]).double()),
    )
    middle = maps.apply(torch.tensor([[35.0, 35.0]]).double())[0, 0]
    maps = Similarity(maps.scale, maps.rotation, maps.shift - middle + torch.tensor([4.0, 4.0]))
    found = crop_by_similarity(photo, maps, size)
    np.testing.assert_allclose(found, slow_crop(photo, maps, size, int(2 * shrink)), atol=1.1)


@pytest.mark.parametrize("window", [1.0, 1.4, 2.0, 2.7, 4.9, 9.3])
def test_turned_means_of_smooth_photographs(window: float) -> None:
    # Of a linear ramp the mean over any window is the value in its middle, wherever and however it is turned.
    y, x = np.mgrid[:200, :200] + 0.5
    photo = np.rint(np.stack([x, y, (x + y) / 2], -1)).astype(np.uint8)
    maps = similarity(1 / window, 33)
    maps = Similarity(maps.scale, maps.rotation, 8 - maps.apply(torch.tensor([[100.0, 100.0]]).double())[:, 0])
    found = crop_by_similarity(photo, maps, (16, 16))
    rows, columns = np.mgrid[:16, :16] + 0.5
    places = maps.undo(torch.from_numpy(np.stack([columns, rows], -1).reshape(-1, 2)))[0].numpy()
    expected = np.c_[places, places.mean(1)].reshape(16, 16, 3)
    np.testing.assert_allclose(found, expected, atol=1.2)


def test_detail_that_is_too_fine_becomes_grey_where_opencv_keeps_it() -> None:
    photo = np.where(np.indices((240, 240)).sum(0) % 2, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)
    maps = similarity(1 / 5.3, 20, 10, -5)
    matrix = np.c_[maps.scale.item() * maps.rotation[0].numpy(), [10, -5]]
    ours = crop_by_similarity(photo, maps, (32, 32)).astype(float)
    opencv = cv2.warpAffine(photo, matrix, (32, 32), borderMode=cv2.BORDER_REPLICATE).astype(float)
    assert ours[4:-4, 12:-4].std() < 8 < 30 < opencv[4:-4, 12:-4].std()


@pytest.mark.parametrize("scale", [1.0, 1.7, 4.0])
def test_enlarging_is_what_opencv_does(scale: float) -> None:
    photo, size = noise(40, 50), (60, 70)
    maps = similarity(scale, 25, 9, -12)
    shift = maps.shift[0] - 0.5 + scale / 2 * maps.rotation[0].sum(1)  # middles of pixels are whole numbers there
    matrix = np.c_[scale * maps.rotation[0].numpy(), shift.numpy()]
    for fill, border in (("edge", {"borderMode": cv2.BORDER_REPLICATE}), (9, {"borderValue": (9, 9, 9)})):
        expected = cv2.warpAffine(photo, matrix, (70, 60), **border).astype(float)
        found = crop_by_similarity(photo, maps, size, fill)
        assert np.abs(found - expected).mean() < 1.5 and np.abs(found - expected).max() < 16  # places of 1/32 pixel


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 6.0), st.floats(-40, 40), st.floats(-40, 40), st.sampled_from(["edge", 0, (10.0, 200.0, 90.0)]))
def test_without_a_turn_it_is_the_crop_of_a_box(side: float, x: float, y: float, fill: object) -> None:
    photo, size = np.full((50, 60, 3), 120, np.uint8), (12, 15)
    photo[10:30, 20:45] = 220
    photo = cv2.GaussianBlur(photo, (0, 0), 3)
    maps = Similarity(
        *(torch.tensor(each).double() for each in ([1 / side], [[[1.0, 0], [0, 1]]], [[-x / side, -y / side]]))
    )
    box = (x, y, x + 15 * side, y + 12 * side)
    found, expected = crop_by_similarity(photo, maps, size, fill), crop_photo(photo, box, size, fill)
    np.testing.assert_allclose(found.astype(float), expected, atol=3 if side in (1, 2, 3) or fill == "edge" else 12)


def test_a_fill_must_be_one() -> None:
    with pytest.raises(CanonicalError, match="fill"):
        crop_by_similarity(noise(5, 5), similarity(1, 0), (4, 4), "mirror")
