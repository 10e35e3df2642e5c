"""The face that the package ships, and canonical faces of one's own."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, FaceMesh, NoFaceError
from captum_canonical.faces.canonical_face import farthest_first
from oracles import frontmost, occlusion_points, turned

SIDED = ("brow", "eye", "outer_eye_corner", "nose_wing", "cheek", "mouth_corner", "jaw")
CENTRAL = ("forehead", "glabella", "nose_bridge", "nose_tip", "upper_lip", "lower_lip", "chin")


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default()


@pytest.fixture(scope="module")
def surface() -> Tensor:
    """(M, 3) the surface point behind each pixel of the face, at 112 x 112."""
    face = CanonicalFace.default(112)
    corners = face.vertices[face.triangles[face.raster.triangle[face.raster.covered]]]
    return (face.raster.weights[face.raster.covered][..., None] * corners).sum(1)


def mirrored(points: Tensor, width: float) -> Tensor:
    return points * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([width, 0.0, 0.0])


# ------------------------------------------------------------------------------------------------------ the mesh
def test_counts(face: CanonicalFace) -> None:
    assert face.vertices.shape == (468, 3)
    assert face.triangles.shape == (898, 3)
    assert face.image.shape == (3, 224, 224)
    assert face.size == (224, 224)
    assert face.topology == "mediapipe-468"
    assert 900 <= face.num_points <= 1100
    assert face.triangles.unique().tolist() == list(range(468))


def test_permutation_is_an_involution_that_fixes_the_midline(face: CanonicalFace) -> None:
    permutation = face.permutation
    assert permutation[permutation].tolist() == list(range(468))
    fixed = torch.nonzero(permutation == torch.arange(468)).flatten()
    assert len(fixed) == 28
    assert {1, 10, 152} <= set(fixed.tolist())
    assert (int(permutation[33]), int(permutation[61])) == (263, 291)
    assert_close(face.vertices[fixed, 0], torch.full((28,), 112.0, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [224, 64, 619])
def test_vertices_are_their_own_mirror_image(size: int) -> None:
    """To the precision of float64: patches of twins must not fall on different pixels by a rounding error."""
    face = CanonicalFace.default(size)
    assert face.mirror_symmetric
    assert_close(mirrored(face.vertices, size)[face.permutation], face.vertices, atol=1e-9, rtol=0)


def test_image_is_its_own_mirror_image_and_no_blank(face: CanonicalFace) -> None:
    assert_close(face.image.flip(-1), face.image, atol=1 / 255, rtol=0)
    assert face.image.min() >= 0
    assert face.image.max() <= 1
    inside = face.image[:, face.raster.covered]
    assert inside.std(1).min() > 0.02


def test_triangles_are_closed_under_mirroring(face: CanonicalFace) -> None:
    triangles = {tuple(sorted(t)) for t in face.triangles.tolist()}
    assert len(triangles) == 898
    assert {tuple(sorted(t)) for t in face.permutation[face.triangles].tolist()} == triangles


def test_surface_is_a_disc(face: CanonicalFace) -> None:
    """Euler characteristic 1, one boundary of 36 edges, every other edge between two triangles of one orientation."""
    half_edges = Counter((t[i], t[(i + 1) % 3]) for t in face.triangles.tolist() for i in range(3))
    assert max(half_edges.values()) == 1, "two triangles of opposite orientation share an edge"
    edges = {tuple(sorted(edge)) for edge in half_edges}
    assert 468 - len(edges) + 898 == 1
    boundary = {a: b for a, b in half_edges if (b, a) not in half_edges}
    start = next(iter(boundary))
    loop = [start]
    while boundary[loop[-1]] != start:
        loop.append(boundary[loop[-1]])
    assert len(loop) == len(boundary) == 36


def test_face_is_upright_and_looks_at_the_camera(face: CanonicalFace) -> None:
    nose, forehead, chin, right_eye, left_eye = (face.vertices[v] for v in (1, 10, 152, 33, 263))
    assert forehead[1] < right_eye[1] < nose[1] < chin[1]
    assert right_eye[0] < left_eye[0], "the person's right eye is at the viewer's left"
    assert int(face.vertices[:, 2].argmax()) == 4, "the nose is nearest to the camera"
    assert (face.vertices[:, :2] > 0).all()
    assert (face.vertices[:, :2] < 224).all()


def test_no_pixel_inside_is_uncovered(face: CanonicalFace) -> None:
    """Each line of pixels that meets the face is covered without a gap; the eyes and the mouth are closed."""
    covered = face.raster.covered
    for line in covered[covered.any(1)]:
        first, last = torch.nonzero(line).flatten()[[0, -1]].tolist()
        assert line[first : last + 1].all()
    assert 0.5 < covered.float().mean() < 0.62
    for vertex in (159, 145, 386, 374, 13, 14):  # eyelids and lips
        x, y = face.vertices[vertex, :2].long().tolist()
        assert covered[y - 2 : y + 3, x - 2 : x + 3].all()
    assert torch.equal(covered, covered.flip(1))


def test_raster_is_the_loop(face: CanonicalFace) -> None:
    for r, c in torch.randint(0, 224, (25, 2)).tolist():
        hit = frontmost(c + 0.5, r + 0.5, face.vertices.numpy(), face.triangles.numpy())
        assert int(face.raster.triangle[r, c]) == (-1 if hit is None else hit[0])


# ------------------------------------------------------------------------------------------------------ the regions
def test_regions_partition_the_triangles(face: CanonicalFace) -> None:
    expected = {*CENTRAL, *(f"{name}_{side}" for name in SIDED for side in ("left", "right"))}
    assert set(face.regions) == expected
    assert sorted(torch.cat(list(face.regions.values())).tolist()) == list(range(898))


def test_regions_mirror_left_to_right(face: CanonicalFace) -> None:
    number = {tuple(sorted(t)): i for i, t in enumerate(face.triangles.tolist())}
    twin = [number[tuple(sorted(t))] for t in face.permutation[face.triangles].tolist()]
    for name in SIDED:
        right = {twin[t] for t in face.regions[f"{name}_right"].tolist()}
        assert right == set(face.regions[f"{name}_left"].tolist()), name
        assert face.vertices[face.triangles[face.regions[f"{name}_right"]]][..., 0].mean() < 112
    for name in CENTRAL:
        own = set(face.regions[name].tolist())
        assert {twin[t] for t in own} == own, name


def test_regions_lie_where_their_names_say(face: CanonicalFace) -> None:
    def height(name: str) -> float:
        return float(face.vertices[face.triangles[face.regions[name]]][..., 1].mean())

    order = ("forehead", "brow_left", "eye_left", "nose_wing_left", "upper_lip", "lower_lip", "chin")
    heights = [height(name) for name in order]
    assert heights == sorted(heights)
    assert height("glabella") < height("nose_bridge") < height("nose_tip") < height("mouth_corner_left")
    for vertex, name in (
        (33, "outer_eye_corner_right"),
        (1, "nose_tip"),
        (61, "mouth_corner_right"),
        (50, "cheek_right"),
    ):
        assert vertex in face.triangles[face.regions[name]]


def test_region_masks_partition_the_face(face: CanonicalFace) -> None:
    masks = torch.stack([face.region_mask(name) for name in face.regions])
    assert torch.equal(masks.sum(0), face.raster.covered.long())
    assert masks.flatten(1).any(1).all()
    with pytest.raises(CanonicalError, match=r"ear.*nose_tip"):
        face.region_mask("ear")


# ------------------------------------------------------------------------------------------------- occlusion points
def test_points_are_convex_combinations_of_one_triangle(face: CanonicalFace) -> None:
    triangles = {frozenset(t) for t in face.triangles.tolist()}
    assert all(frozenset(v) in triangles for v in face.point_vertices.tolist())
    assert (face.point_weights >= 0).all()
    assert_close(face.point_weights.sum(1), torch.ones(face.num_points, dtype=torch.float64), atol=1e-6, rtol=0)


def test_points_come_in_mirrored_pairs(face: CanonicalFace) -> None:
    points = face.points(face.vertices)
    assert_close(mirrored(points[0::2], 224), points[1::2], atol=1e-4, rtol=0)  # weights are stored as float32
    assert torch.equal(face.permutation[face.point_vertices[0::2]], face.point_vertices[1::2])
    assert torch.equal(face.point_weights[0::2], face.point_weights[1::2])


def test_points_are_the_loop(face: CanonicalFace) -> None:
    small = CanonicalFace.default(64)
    head = turned(small.vertices, 30)
    visible = torch.rand(1, 468) > 0.1
    places, seen = occlusion_points(face, FaceMesh(head[None], visible, (64, 64)))
    assert_close(face.points(head[None])[0], places)
    assert face.points_seen(visible)[0].tolist() == seen
    assert 0.5 < np.mean(seen) < 0.95


def test_points_lie_on_the_face_and_are_all_different(face: CanonicalFace) -> None:
    points = face.points(face.vertices)
    x, y = points[:, :2].long().unbind(1)
    assert face.raster.covered[y, x].float().mean() > 0.95
    distance = torch.cdist(points, points) + 1e9 * torch.eye(len(points))
    assert distance.min() > 2.0


def radius(surface: Tensor, points: Tensor) -> float:
    """The largest distance of a surface pixel to the nearest of the points."""
    return float(torch.cdist(surface, points).amin(1).max())


def greedy_pairs(surface: Tensor, width: float, counts: list[int]) -> list[float]:
    """Farthest-first over the surface itself, in mirrored pairs: the radius after so many points."""
    half = surface[surface[:, 0] < width / 2]
    nearest, radii = 2 * (width / 2 - half[:, 0]), []  # a pair's own distance: none on the midline
    everywhere = torch.full((len(surface),), torch.inf, dtype=torch.float64)
    chosen = int((half - surface.mean(0)).norm(dim=1).argmin())
    for count in range(2, counts[-1] + 1, 2):
        for twin in (half[chosen], mirrored(half[chosen], width)):
            nearest = torch.minimum(nearest, (half - twin).norm(dim=1))
            everywhere = torch.minimum(everywhere, (surface - twin).norm(dim=1))
        chosen = int(nearest.argmax())
        if count in counts:
            radii.append(float(everywhere.max()))
    return radii


def test_every_prefix_covers_the_face_evenly(surface: Tensor) -> None:
    """As evenly as a greedy choice among all pixels does, and like 1 / sqrt(n)."""
    face = CanonicalFace.default(112)
    points = face.points(face.vertices)
    counts = [8, 16, 32, 64, 128, 256, 512]
    ours = [radius(surface, points[:count]) for count in counts]
    for count, own, optimum in zip(counts, ours, greedy_pairs(surface, 112.0, counts), strict=True):
        assert own < 1.5 * optimum, count
    scaled = [own * count**0.5 for count, own in zip(counts, ours, strict=True)]
    assert max(scaled) < 1.35 * min(scaled)
    assert all(radius(surface, points[:count]) <= radius(surface, points[: count - 10]) for count in (20, 100, 700))
    # a bad order, for comparison: the same points by their position fail by far
    by_height = points[points[:, 1].argsort()]
    assert radius(surface, by_height[:64]) > 3 * ours[3]


def test_order_is_progressive(face: CanonicalFace) -> None:
    assert face.progressive
    assert face.point_order.tolist() == list(range(face.num_points))


def test_farthest_first_is_the_loop() -> None:
    points = torch.randn(30, 2, dtype=torch.float64)
    order = farthest_first(points, start=4).tolist()
    assert order[0] == 4
    assert sorted(order) == list(range(30))
    for step in range(1, 30):
        distances = {p: min(float((points[p] - points[q]).norm()) for q in order[:step]) for p in order[step:]}
        assert distances[order[step]] == max(distances.values())


def test_farthest_first_of_coincident_points_takes_each_once() -> None:
    assert sorted(farthest_first(torch.zeros(6, 2)).tolist()) == list(range(6))


# ------------------------------------------------------------------------------------- sizing, other faces
@pytest.mark.parametrize("size", [(112, 112), (96, 160), (300, 300)])
def test_resized(face: CanonicalFace, size: tuple[int, int]) -> None:
    other = face.resized(size)
    assert other.size == size
    assert other.image.shape == (3, *size)
    factors = torch.tensor([size[1] / 224, size[0] / 224], dtype=torch.float64)
    assert_close(other.vertices[:, :2], face.vertices[:, :2] * factors, rtol=1e-12, atol=0)
    assert_close(other.vertices[:, 2], face.vertices[:, 2] * factors.mean(), rtol=1e-12, atol=0)
    assert float(other.raster.covered.float().mean()) == pytest.approx(0.543, abs=0.01), "the face's share of the image"
    assert face.size == (224, 224)
    assert face.raster.triangle.shape == (224, 224)


def test_from_vertices() -> None:
    points = torch.tensor([[1.0, 1.0], [9.0, 1.0], [1.0, 7.0], [9.0, 7.0]])
    face = CanonicalFace.from_vertices(np.zeros((8, 10, 3), np.uint8), points.numpy())
    assert face.size == (8, 10)
    assert len(face.triangles) == 2
    assert_close(face.points(face.vertices)[:, :2], points.double())
    assert not face.mirror_symmetric
    assert sorted(face.point_order.tolist()) == [0, 1, 2, 3]
    symmetric = CanonicalFace.from_vertices(torch.zeros(3, 8, 10), points, permutation=torch.tensor([1, 0, 3, 2]))
    assert symmetric.mirror_symmetric
    lopsided = CanonicalFace.from_vertices(torch.zeros(3, 8, 12), points, permutation=torch.tensor([1, 0, 3, 2]))
    assert not lopsided.mirror_symmetric


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vertices": torch.zeros(4)}, "vertices"),
        ({"vertices": torch.zeros(0, 3)}, "vertices"),
        ({"vertices": torch.tensor([[0.0, float("nan")]])}, "finite"),
        ({"triangles": torch.tensor([[0, 1, 4]])}, "triangles"),
        ({"triangles": torch.tensor([[0, -1, 2]])}, "triangles"),
        ({"triangles": torch.tensor([[0, 1]])}, "triangles"),
        ({"permutation": torch.tensor([0, 0, 1, 2])}, "permutation"),
        ({"permutation": torch.tensor([1, 0])}, "permutation"),
        ({"image": torch.zeros(1, 8, 8)}, "image"),
        ({"image": torch.full((3, 8, 8), 255.0)}, "image"),
        ({"image": torch.full((3, 8, 8), float("nan"))}, "image"),
    ],
)
def test_from_vertices_refuses(change: dict, match: str) -> None:
    good = {"image": torch.zeros(3, 8, 8), "vertices": torch.tensor([[1.0, 1], [5, 1], [1, 5], [5, 5]])}
    CanonicalFace.from_vertices(**good)
    with pytest.raises(CanonicalError, match=match):
        CanonicalFace.from_vertices(**(good | change))


@pytest.mark.parametrize("size", [0, -3])
def test_default_refuses_sizes_without_a_pixel(size: int) -> None:
    with pytest.raises(CanonicalError, match="size"):
        CanonicalFace.default(size)


def test_from_image_uses_the_aligner(face: CanonicalFace) -> None:
    own = turned(face.vertices, 5)
    pictures = []

    def aligner(images: list[np.ndarray]) -> FaceMesh:
        pictures.extend(images)
        return FaceMesh(own[None].float(), image_size=(224, 224), topology="mediapipe-468")

    photo = torch.rand(3, 224, 224)
    mine = CanonicalFace.from_image(photo, aligner)
    assert pictures[0].shape == (224, 224, 3)
    assert pictures[0].dtype == np.uint8
    assert_close(mine.image, photo)
    assert_close(mine.vertices, own.float().double())
    assert torch.equal(mine.triangles, face.triangles)
    assert set(mine.regions) == set(face.regions)
    assert not mine.mirror_symmetric, "a photograph is nobody's mirror image"
    assert not torch.equal(mine.raster.triangle, face.raster.triangle), "the raster is the new face's own"


def test_from_image_of_another_topology() -> None:
    points = torch.rand(1, 6, 3) * 20
    mine = CanonicalFace.from_image(
        torch.rand(3, 20, 20), lambda _: FaceMesh(points, image_size=(20, 20), topology="six")
    )
    assert (mine.topology, mine.num_points) == ("six", 6)


@pytest.mark.parametrize("rows", [0, 2])
def test_from_image_needs_one_face(rows: int) -> None:
    mesh = FaceMesh(torch.rand(rows, 6, 3), image_size=(20, 20))
    with pytest.raises((NoFaceError, AlignmentError), match=str(rows)):
        CanonicalFace.from_image(torch.rand(3, 20, 20), lambda _: mesh)


# ---------------------------------------------------------------------------------------------------------- textures
def test_average_texture() -> None:
    """Two photographs of plain colour, one of which shows the left half only."""
    face = CanonicalFace.default(64)
    visible = torch.ones(2, 468, dtype=torch.bool)
    visible[1] = face.vertices[:, 0] > 33
    images = torch.tensor([0.2, 0.6])[:, None, None, None].expand(2, 3, 64, 64)
    faces = FaceMesh(face.vertices[None].repeat(2, 1, 1), visible, (64, 64), face.topology)
    mean = face.average_texture(images, faces)
    row = int(face.vertices[1, 1])
    assert_close(mean.image[:, row, 60 - 15], torch.full((3,), 0.4))
    assert_close(mean.image[:, row, 15], torch.full((3,), 0.2))
    assert_close(mean.image[:, 0, 0], face.image[:, 0, 0])
    assert_close(mean.vertices, face.vertices)


def test_average_texture_refuses_what_does_not_fit() -> None:
    face = CanonicalFace.default(64)
    faces = FaceMesh(face.vertices[None], image_size=(64, 64), topology=face.topology)
    with pytest.raises(AlignmentError, match="64"):
        face.average_texture(torch.rand(1, 3, 32, 32), faces)
    with pytest.raises(CanonicalError, match="3"):
        face.average_texture(torch.rand(3, 3, 64, 64), faces)
    with pytest.raises(CanonicalError, match=r"0\.\.1"):  # normalised for a network, or 0..255
        face.average_texture(torch.full((1, 3, 64, 64), 130.0), faces)


def test_average_texture_keeps_no_graph() -> None:
    face = CanonicalFace.default(64)
    faces = FaceMesh(face.vertices[None], image_size=(64, 64), topology=face.topology)
    assert not face.average_texture(torch.rand(1, 3, 64, 64, requires_grad=True), faces).image.requires_grad


def test_check_mesh(face: CanonicalFace) -> None:
    vertices = face.vertices[None]
    face.check_mesh(FaceMesh(vertices, image_size=(224, 224)))  # unknown topology fits any of as many vertices
    face.check_mesh(FaceMesh(vertices, image_size=(9, 9), topology="mediapipe-468"))
    with pytest.raises(AlignmentError, match=r"other.*mediapipe-468"):
        face.check_mesh(FaceMesh(vertices, image_size=(224, 224), topology="other"))
    with pytest.raises(AlignmentError, match=r"467.*468"):
        face.check_mesh(FaceMesh(vertices[:, 1:], image_size=(224, 224)))
    with pytest.raises(AlignmentError, match="cropped"):
        face.check_mesh(FaceMesh(vertices, image_size=(224, 224)), (112, 112))
