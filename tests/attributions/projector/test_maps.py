"""Maps carried onto the canonical face and back, from CanonicalProjector.project and .reproject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    LayerAttribution,
    Saliency,
)
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import (
    AlignmentError,
    CanonicalError,
    CanonicalFace,
    CanonicalProjector,
    FaceMesh,
)
from captum_canonical.faces.warp import visible_vertices
from oracles import rolled, turned, warped
from projector_tools import SIZE, Net, blobs, correlation


def test_projection_is_the_loop(face: CanonicalFace, faces: FaceMesh) -> None:
    small = face.resized((16, 14))
    maps = torch.randn(2, 1, *SIZE, dtype=torch.float64)
    result, coverage = CanonicalProjector(None, faces, small).project(maps, return_coverage=True)
    assert result.shape == coverage.shape == (2, 1, 16, 14)
    for row in range(2):
        expected, covered = warped(
            maps[row, 0].numpy(),
            faces.vertices[row].numpy(),
            faces.visible[row].numpy(),
            small.vertices.numpy(),
            small.triangles.numpy(),
            (16, 14),
        )
        np.testing.assert_array_equal(coverage[row, 0].numpy(), covered.astype(float))
        np.testing.assert_allclose(result[row, 0].numpy(), expected, atol=1e-9)
        assert 0.2 < covered.mean() < 0.8


def test_reprojection_is_the_loop(face: CanonicalFace, faces: FaceMesh) -> None:
    tiny = faces[1].resized((13, 11))
    maps = torch.randn(1, 1, 40, 40, dtype=torch.float64)
    result, coverage = CanonicalProjector(None, tiny, face).reproject(maps, return_coverage=True)
    assert result.shape == coverage.shape == (1, 1, 13, 11)
    expected, covered = warped(
        maps[0, 0].numpy(),
        face.vertices.numpy(),
        tiny.visible[0].numpy(),
        tiny.vertices[0].numpy(),
        face.triangles.numpy(),
        (13, 11),
    )
    np.testing.assert_array_equal(coverage[0, 0].numpy(), covered.astype(float))
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [SIZE, (2, *SIZE), (2, 1, *SIZE), (2, 1, 7, 5), (2, 1, 200, 100)])
def test_constant_in_the_same_constant_out(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    mesh = faces if len(shape) > 2 else faces[1]
    projector = CanonicalProjector(None, mesh, face)
    result, coverage = projector.project(torch.full(shape, -0.7), return_coverage=True)
    assert_close(result[coverage > 0], torch.full_like(result[coverage > 0], -0.7))
    assert result[coverage == 0].abs().max() == 0
    back, covered = projector.reproject(torch.full_like(result, 0.3), return_coverage=True)
    assert_close(back[covered > 0], torch.full_like(back[covered > 0], 0.3))
    assert 0.1 < covered.mean() < 0.9


@pytest.mark.parametrize("yaw", [0, 20, -40])
def test_there_and_back_again(yaw: float) -> None:
    """A smooth canonical map, drawn on a turned face of a 160 x 140 photo and read again."""
    face = CanonicalFace.default(96)
    vertices = rolled(turned(face.vertices, yaw), 12, 1.4, (70.0, 82.0))[None]
    mesh = FaceMesh(vertices, visible_vertices(vertices, face.triangles), (160, 140), face.topology)
    projector = CanonicalProjector(None, mesh, face)
    canonical = F.interpolate(torch.randn(1, 1, 5, 5), (96, 96), mode="bicubic")
    image, drawn = projector.reproject(canonical, return_coverage=True)
    again, coverage = projector.project(image, return_coverage=True)
    inside = coverage > 0
    assert inside.float().mean() > (0.5 if yaw == 0 else 0.3)
    assert correlation(again[inside], canonical[inside]) >= 0.98
    assert float(drawn.mean()) > 0.2


def test_there_and_back_again_on_real_faces(shared: object) -> None:
    """The PRNet meshes of real photographs, the paper's frontal face."""
    from captum_canonical.adapters.prnet import load_prnet_face, load_prnet_mesh

    folder = shared / "data"  # type: ignore[operator]
    face = load_prnet_face(
        folder / "canonical_prnet" / "frontal.jpg", folder / "canonical_prnet" / "frontal_mesh.mat"
    ).resized((150, 150))
    canonical = F.interpolate(torch.randn(1, 1, 6, 6), (150, 150), mode="bicubic")
    for name in ("000686", "005467", "010462"):
        mesh = load_prnet_mesh(folder / "celeba_prnet" / "meshes" / f"{name}_mesh.mat", image_size=(218, 178))
        projector = CanonicalProjector(None, mesh, face)
        again, coverage = projector.project(projector.reproject(canonical), return_coverage=True)
        inside = coverage > 0
        assert inside.float().mean() > 0.2
        assert correlation(again[inside], canonical[inside]) >= 0.98, name


def test_one_map_is_drawn_on_every_face(face: CanonicalFace, faces: FaceMesh) -> None:
    projector, canonical = CanonicalProjector(None, faces, face), blobs((40, 40), channels=3)
    images = projector.reproject(canonical)
    assert images.shape == (2, 3, *SIZE)
    for row in range(2):
        assert_close(images[row : row + 1], CanonicalProjector(None, faces[row], face).reproject(canonical))


def test_maps_keep_to_their_own_rows(face: CanonicalFace, faces: FaceMesh) -> None:
    maps, projector = torch.randn(2, 1, *SIZE), CanonicalProjector(None, faces, face)
    together, back = projector.project(maps), projector.reproject(torch.randn(2, 1, 40, 40))
    assert back.shape == (2, 1, *SIZE)
    for row in range(2):
        alone = CanonicalProjector(None, faces[row], face)
        assert_close(together[row : row + 1], alone.project(maps[row : row + 1]))


def test_flipped_photos_give_flipped_maps(face: CanonicalFace, faces: FaceMesh) -> None:
    maps = blobs(SIZE).expand(2, -1, -1, -1)
    expected = CanonicalProjector(None, faces, face).project(maps)
    flipped = CanonicalProjector(None, faces.flipped(face.permutation), face).project(maps.flip(-1))
    assert_close(flipped.flip(-1), expected, atol=1e-5, rtol=0)


def test_unseen_parts_stay_empty(face: CanonicalFace, faces: FaceMesh) -> None:
    ones, missing = torch.ones(2, 1, *SIZE), replace(faces, found=torch.tensor([True, False]))
    outside = replace(faces, vertices=faces.vertices + 1000)
    for mesh, rows in ((missing, [1]), (outside, [0, 1])):
        result, coverage = CanonicalProjector(None, mesh, face).project(ones, return_coverage=True)
        assert result[rows].abs().max() == coverage[rows].max() == 0
        image, covered = CanonicalProjector(None, mesh, face).reproject(torch.ones(1, 1, 40, 40), return_coverage=True)
        assert image[rows].abs().max() == covered[rows].max() == 0
    turned_face = CanonicalProjector(None, faces[1], face).project(ones[:1], return_coverage=True)[1]
    assert float(face.raster.covered.float().mean() - turned_face.mean()) > 0.05, "the far side is not seen"


@pytest.mark.parametrize("far", [1e12, -1e30])
def test_a_vertex_far_away_breaks_nothing(face: CanonicalFace, faces: FaceMesh, far: float) -> None:
    maps, vertices, visible = torch.randn(2, 1, *SIZE), faces.vertices.clone(), faces.visible.clone()
    vertices[:, 1], visible[:, 1] = far, False
    wild, hidden = replace(faces, vertices=vertices), replace(faces, visible=visible)
    expected = CanonicalProjector(None, hidden, face).project(maps, return_coverage=True)
    for actual, value in zip(
        CanonicalProjector(None, wild, face).project(maps, return_coverage=True), expected, strict=True
    ):
        assert_close(actual, value)
    drawn = CanonicalProjector(None, wild, face).reproject(torch.ones(1, 1, 40, 40))
    assert drawn.isfinite().all()
    assert visible_vertices(vertices, face.triangles).shape == (2, 468)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, bool])
def test_numpy_maps(face: CanonicalFace, faces: FaceMesh, dtype: type) -> None:
    heat = (np.random.default_rng(0).random(SIZE) * 2).astype(dtype)
    result = CanonicalProjector(None, faces[0], face).project(heat)
    expected = CanonicalProjector(None, faces[0], face).project(torch.from_numpy(heat.astype(np.float64)))
    assert result.dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    assert_close(result, expected, check_dtype=False)


def test_numpy_views(face: CanonicalFace, faces: FaceMesh) -> None:
    """Flipped, transposed or read-only: a heat map as other tools hand it over."""
    heat = np.random.default_rng(0).random(SIZE)
    expected = CanonicalProjector(None, faces[0], face).project(heat)
    frozen = heat.copy()
    frozen.setflags(write=False)
    for view in (heat[:, ::-1].copy()[:, ::-1], np.asfortranarray(heat), frozen):
        assert_close(CanonicalProjector(None, faces[0], face).project(view), expected)


@pytest.mark.parametrize("shape", [(2, *SIZE), (2, 1, *SIZE), (2, 5, *SIZE)])
def test_shapes_of_maps(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape)
    result = CanonicalProjector(None, faces, face).project(maps)
    expected = CanonicalProjector(None, faces, face).project(maps.reshape(2, -1, *SIZE).sum(1, keepdim=True))
    assert_close(result, expected)


def test_small_maps_are_enlarged_as_captum_does(face: CanonicalFace, faces: FaceMesh) -> None:
    """Bilinear, align_corners=False: LayerAttribution.interpolate with interpolate_mode="bilinear"."""
    maps = torch.randn(2, 1, 7, 6)
    expected = CanonicalProjector(None, faces, face).project(LayerAttribution.interpolate(maps, SIZE, "bilinear"))
    assert_close(CanonicalProjector(None, faces, face).project(maps), expected)
    square = F.interpolate(maps, SIZE, mode="bilinear", align_corners=True)
    assert not torch.equal(CanonicalProjector(None, faces, face).project(square), expected)


def test_reductions_by_hand(face: CanonicalFace, faces: FaceMesh) -> None:
    colours = torch.tensor([2.0, -5.0, 1.0])[None, :, None, None].expand(2, 3, *SIZE)
    projector = CanonicalProjector(None, faces, face)
    for reduce, value in (("sum", -2.0), ("abs", 8.0), ("max", 2.0)):
        result, coverage = projector.project(colours, reduce=reduce, return_coverage=True)
        assert_close(result[coverage > 0], torch.full_like(result[coverage > 0], value))
    assert_close(projector.project(colours), projector.project(colours, reduce="sum"))


def test_the_faces_of_the_call_win(face: CanonicalFace, faces: FaceMesh) -> None:
    other, maps = faces[[1, 0]], torch.randn(2, 1, *SIZE)
    projector = CanonicalProjector(None, other, face)
    expected = CanonicalProjector(None, faces, face)
    assert_close(projector.project(maps, faces), expected.project(maps))
    canonical = blobs((40, 40))
    assert_close(projector.reproject(canonical, faces), expected.reproject(canonical))


def test_bad_arguments(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    """And before the wrapped method has run for an hour."""
    calls = []
    projector = CanonicalProjector(Saliency(lambda z: calls.append(1) or net(z)), faces, face)
    with pytest.raises(CanonicalError, match=r"reduce.*median"):
        projector.attribute(x, target=1, reduce="median")
    with pytest.raises(AlignmentError, match="2 meshes for 3 images"):
        projector.attribute(torch.randn(3, 3, *SIZE), target=1)
    with pytest.raises(AlignmentError, match="cropped"):
        projector.attribute(torch.randn(2, 3, 48, 56), target=1)
    with pytest.raises(AlignmentError, match="topology"):
        projector.attribute(x, target=1, faces=replace(faces, topology="other"))
    assert not calls
    with pytest.raises(CanonicalError, match="no faces"):
        CanonicalProjector(Saliency(net)).attribute(x, target=1)
    with pytest.raises(CanonicalError, match="project"):
        CanonicalProjector(None, faces).attribute(x)


@pytest.mark.parametrize("shape", [(5,), (3, 1, *SIZE), (3, *SIZE), (2, 1, 1, *SIZE)])
def test_maps_that_do_not_fit(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    with pytest.raises(CanonicalError, match="2 images"):
        CanonicalProjector(None, faces, face).project(torch.randn(shape))


@pytest.mark.parametrize("shape", [(40, 40), (3, 1, 40, 40), (1, 1, 41, 40), (1, 40, 40)])
def test_canonical_maps_that_do_not_fit(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    with pytest.raises(CanonicalError, match=r"1 or 2, C, 40, 40"):
        CanonicalProjector(None, faces, face).reproject(torch.randn(shape))


def test_no_mesh_to_project_with(face: CanonicalFace, faces: FaceMesh) -> None:
    for projector in (CanonicalProjector(None), CanonicalProjector(None, lambda images: faces, face)):
        with pytest.raises(CanonicalError, match="faces"):
            projector.project(torch.zeros(2, *SIZE))
        with pytest.raises(CanonicalError, match="faces"):
            projector.reproject(torch.zeros(1, 1, 40, 40))


def test_a_face_without_a_surface_is_refused() -> None:
    """Points on one line span no triangles: patches can be splatted there, but no map can be carried through."""
    line = CanonicalFace.from_vertices(torch.zeros(3, 8, 8), torch.tensor([[1.0, 1], [2, 2], [5, 5]]))
    assert len(line.triangles) == 0
    projector = CanonicalProjector(None, FaceMesh(line.vertices[None], image_size=(8, 8)), line)
    with pytest.raises(CanonicalError, match="triangles"):
        projector.project(torch.zeros(8, 8))
    with pytest.raises(CanonicalError, match="triangles"):
        projector.reproject(torch.zeros(1, 1, 8, 8))


def test_no_rows_give_no_maps(face: CanonicalFace, faces: FaceMesh) -> None:
    nobody = CanonicalProjector(None, faces[[]], face)
    assert nobody.project(torch.zeros(0, 1, *SIZE)).shape == (0, 1, 40, 40)
    assert nobody.reproject(torch.zeros(1, 1, 40, 40)).shape == (0, 1, *SIZE)
