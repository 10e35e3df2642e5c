"""What must not change the maps of CanonicalOcclusion, or change them in a known way."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
from occlusion_tools import PATCH, SIZE, Net, correlation, placed, same


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
