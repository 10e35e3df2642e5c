"""Whose mesh belongs to which row."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import AlignmentError, CanonicalFace, CanonicalOcclusion, FaceMesh
from occlusion_tools import PATCH, Net, same


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
