"""Alignment by five keypoints, and the grid that aligns nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_canonical.adapters.keypoints import KeypointAligner, PixelGrid, keypoints_468
from captum_canonical.errors import AlignmentError, NoFaceError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh


# ---------------------------------------------------------------------------------------------- keypoints
@pytest.fixture
def face() -> CanonicalFace:
    return CanonicalFace.default()


def turned(points: torch.Tensor, angle: float, scale: float, x: float, y: float) -> torch.Tensor:
    """A similarity in the image plane; depth is scaled along."""
    c, s = np.cos(angle), np.sin(angle)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    return scale * points.double() @ turn.T + torch.tensor([x, y, 0.0])


def test_five_points_carry_the_canonical_face_along(face: CanonicalFace) -> None:
    moved = torch.stack([turned(face.vertices, 0.3, 0.5, 20, -4), turned(face.vertices, -1, 0.4, 3, 90)])
    points = keypoints_468(moved)
    mesh = KeypointAligner()(torch.rand(2, 3, 130, 120), points=points[..., :2])
    torch.testing.assert_close(mesh.vertices, moved.float(), rtol=0, atol=1e-3)
    assert mesh.topology == "mediapipe-468" and mesh.image_size == (130, 120) and mesh.visible.all()
    deep = KeypointAligner()([np.zeros((130, 120, 3), np.uint8)] * 2, points=points.numpy())
    torch.testing.assert_close(deep.vertices, moved.float(), rtol=0, atol=1e-3)


def test_keypoints_are_where_their_names_say(face: CanonicalFace) -> None:
    eye_left, eye_right, nose, mouth_left, mouth_right = keypoints_468(face.vertices)
    assert eye_left[0] < nose[0] < eye_right[0] and mouth_left[0] < nose[0] < mouth_right[0]
    assert eye_left[1] < nose[1] < mouth_left[1] and nose[2] > eye_left[2]
    permutation = face.permutation
    mirrored = face.vertices[permutation] * torch.tensor([-1.0, 1, 1]) + torch.tensor([224.0, 0, 0])
    torch.testing.assert_close(keypoints_468(mirrored), keypoints_468(face.vertices), rtol=0, atol=1e-2)


def test_points_come_from_an_inner_aligner(face: CanonicalFace) -> None:
    moved = turned(face.vertices, 0.2, 0.5, 10, 5).float()
    bent = moved + 2 * torch.randn(3, 468, 3)
    found = torch.tensor([True, False, True])
    inner = FaceMesh(bent, image_size=(120, 110), topology="mediapipe-468", found=found, image_index=torch.arange(3))
    calls = []

    def aligner(images: object, names: object = None) -> FaceMesh:
        calls.append(names)
        return inner

    mesh = KeypointAligner(aligner)("anything", names=["a"])  # type: ignore[arg-type]
    assert calls == [["a"]] and mesh.missing == (1,) and mesh.image_size == (120, 110)
    assert mesh.image_index is not None and mesh.image_index.tolist() == [0, 1, 2]
    assert mesh.visible[0].all() and not mesh.visible[1].any()
    expected = KeypointAligner()(np.zeros((2, 120, 110, 3)), points=keypoints_468(bent[found][..., :2]))
    torch.testing.assert_close(mesh.vertices[found], expected.vertices)
    five = FaceMesh(keypoints_468(bent[:1]), image_size=(120, 110), topology="keypoints-5")
    torch.testing.assert_close(KeypointAligner(lambda images: five)([]).vertices, mesh.vertices[:1])


def test_similarity_only(face: CanonicalFace) -> None:
    # Whatever the points are, distances keep their ratios: the mesh has the canonical face's shape.
    points = 30 * torch.rand(4, 5, 2) + torch.tensor([[20.0, 20], [60, 20], [40, 45], [25, 70], [55, 70]])
    vertices = KeypointAligner()(torch.rand(4, 3, 100, 100), points=points).vertices
    pairs = torch.randint(0, 468, (50, 2))
    lengths = (vertices[:, pairs[:, 0]] - vertices[:, pairs[:, 1]]).norm(dim=2)
    expected = (face.vertices[pairs[:, 0]] - face.vertices[pairs[:, 1]]).norm(dim=1).float()
    ratio = lengths / expected.clamp(min=1e-6)
    wide = expected > 1
    torch.testing.assert_close(ratio[:, wide], ratio[:, wide][:, :1].expand(-1, int(wide.sum())), rtol=1e-3, atol=0)


def test_nan_points_are_missing_faces_and_bad_points_errors(face: CanonicalFace) -> None:
    points = keypoints_468(face.vertices)[None, :, :2].repeat(2, 1, 1)
    points[0, 2] = torch.nan
    mesh = KeypointAligner()(torch.rand(2, 3, 224, 224), points=points)
    assert mesh.missing == (0,) and (mesh.vertices[0] == 0).all()
    with pytest.raises(AlignmentError, match="those of 3 images, got 2"):
        KeypointAligner()(torch.rand(3, 3, 224, 224), points=points)
    with pytest.raises(AlignmentError, match=r"\(2, 4, 2\)"):
        KeypointAligner()(torch.rand(2, 3, 224, 224), points=points[:, :4])
    with pytest.raises(AlignmentError, match="points="):
        KeypointAligner()(torch.rand(2, 3, 224, 224))
    with pytest.raises(AlignmentError, match="prnet-2194"):
        prnet = FaceMesh(torch.rand(1, 2194, 3), image_size=(9, 9), topology="prnet-2194")
        KeypointAligner(lambda images: prnet)([])


def test_another_canonical_face_needs_its_points(face: CanonicalFace) -> None:
    other = CanonicalFace.from_vertices(face.image, face.vertices[:100], topology="other")
    with pytest.raises(AlignmentError, match="canonical_points="):
        KeypointAligner(canonical_face=other)
    points = keypoints_468(face.vertices)[:, :2]
    mesh = KeypointAligner(canonical_face=other, canonical_points=points)(
        torch.rand(1, 3, 448, 448), points=2 * points[None]
    )
    assert mesh.topology == "other"
    torch.testing.assert_close(mesh.vertices[0].double(), 2 * face.vertices[:100], rtol=0, atol=1e-3)


def test_missing_face_of_the_inner_aligner_is_named() -> None:
    def aligner(images: object, names: object = None) -> FaceMesh:
        raise NoFaceError(f"no face in {names}")

    with pytest.raises(NoFaceError, match="a.jpg"):  # noqa: RUF043
        KeypointAligner(aligner)([], names=["a.jpg"])


# -------------------------------------------------------------------------------------------------- grid
def test_grid_covers_the_whole_image() -> None:
    grid = PixelGrid(4, 7)
    mesh = grid(torch.randn(3, 3, 64, 91))  # normalised images are as good as any
    assert len(mesh) == 3 and mesh.topology == "grid-4x7" and mesh.image_size == (64, 91) and mesh.visible.all()
    torch.testing.assert_close(mesh.boxes, torch.tensor([[0.0, 0, 91, 64]]).expand(3, -1))
    face = grid.canonical_face((64, 91))
    torch.testing.assert_close(face.vertices.float(), mesh.vertices[1])
    assert face.size == (64, 91) and face.topology == mesh.topology
    face.check_mesh(mesh, (64, 91))
    assert face.raster.covered.all()
    areas = torch.linalg.det(torch.diff(face.vertices[face.triangles][..., :2], dim=1)) / 2
    assert areas.abs().sum() == pytest.approx(64 * 91) and (areas.sign() == areas[0].sign()).all()


def test_grid_points_are_centres_of_windows_that_tile_the_image() -> None:
    face = PixelGrid(3, 5).canonical_face(np.zeros((21, 35, 3), np.uint8))
    points = face.points(face.vertices)
    assert face.num_points == 15 and face.points_seen(torch.ones(1, 24, dtype=torch.bool)).all()
    expected = [[7 * column + 3.5, 7 * row + 3.5, 0] for row in range(3) for column in range(5)]
    torch.testing.assert_close(points, torch.tensor(expected, dtype=torch.float64))


def test_grid_is_mirror_symmetric() -> None:
    face = PixelGrid(3, 4).canonical_face(torch.zeros(3, 30, 50))
    assert face.mirror_symmetric
    mesh = PixelGrid(3, 4)(torch.zeros(1, 1, 30, 50))
    torch.testing.assert_close(mesh.flipped(face.permutation).vertices, mesh.vertices)


def test_grid_refuses_nothing_and_different_sizes() -> None:
    with pytest.raises(AlignmentError, match="0 x 3"):
        PixelGrid(0, 3)
    with pytest.raises(AlignmentError, match="one size"):
        PixelGrid(2, 2)([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)])
    with pytest.raises(AlignmentError, match=r"\(B, C, H, W\)"):
        PixelGrid(2, 2)(torch.rand(3, 4, 4))


def test_grid_without_alignment_is_captums_occlusion() -> None:
    attr = pytest.importorskip("captum.attr")
    occlusion = pytest.importorskip("captum_canonical.attributions")
    grid = PixelGrid(5, 4)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 40 * 32, 2)).eval()
    images = torch.rand(2, 3, 40, 32)
    expected = attr.Occlusion(net).attribute(images, (3, 8, 8), strides=(3, 8, 8), target=1)[:, :1]
    method = occlusion.CanonicalOcclusion(net, grid, grid.canonical_face((40, 32)))
    got = method.attribute(images, target=1, patch_size=8)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
