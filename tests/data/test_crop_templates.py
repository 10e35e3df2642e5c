"""Crops by templates: the points of a face come to the template's, and the mesh moves along with the photograph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_canonical import AlignedFaces, CanonicalFace, CanonicalOcclusion, FaceMesh, benchmark, explain_dataset
from captum_canonical.adapters.landmarks import LANDMARKS_68, LANDMARKS_OF
from captum_canonical.adapters.prnet import load_prnet_mesh
from captum_canonical.data import CROP_TEMPLATES, CropTemplate
from captum_canonical.errors import AlignmentError, CanonicalError, NoFaceError
from captum_canonical.faces.images import crop_to_face
from captum_canonical.faces.photos import list_photos, read_photo
from face_tools import mesh_of

FACE_SIZE = 224
ARCFACE = CROP_TEMPLATES["arcface"]


def turned(face: CanonicalFace, degrees: float, scale: float = 1.3, size: tuple[int, int] = (500, 400)) -> FaceMesh:
    """The canonical face, turned about the middle of a photograph."""
    angle = np.radians(degrees)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = face.vertices.new_tensor([size[1] / 2, size[0] / 2])
    plane = scale * (face.vertices[:, :2] - FACE_SIZE / 2) @ turn.T + middle
    vertices = torch.cat([plane, scale * face.vertices[:, 2:]], 1)
    return FaceMesh(vertices[None], image_size=size, topology=face.topology)


def least_squares(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) the best map x' = ax - by + s, y' = bx + ay + t, from the linear equations of its four numbers."""
    rows, right = [], []
    for (x, y), goal in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        right += list(goal)
    a, b, s, t = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.array([[a, -b, s], [b, a, t]])


@pytest.mark.parametrize("name", CROP_TEMPLATES)
@pytest.mark.parametrize("degrees", [0.0, 17.0, -100.0])
def test_the_mesh_moves_by_the_best_similarity(face: CanonicalFace, name: str, degrees: float) -> None:
    template, mesh = CROP_TEMPLATES[name], turned(face, 0.0 if CROP_TEMPLATES[name].upright else degrees)
    photo = np.zeros((500, 400, 3), np.uint8)
    crop, moved = template.crop(photo, mesh)
    assert crop.shape == (*template.size, 3) and moved.image_size == template.size  # type: ignore[misc]
    wide = np.array([template.stretch, 1])
    best = least_squares(template.points_of(mesh)[0].numpy(), np.array(template.points) / wide)
    expected = (mesh.vertices[0, :, :2].numpy() @ best[:, :2].T + best[:, 2]) * wide
    depth = mesh.vertices[0, :, 2] * np.hypot(*best[:, 0]) * wide.mean()
    tolerance = 0.02 if template.upright else 1e-6  # an upright face has hardly a turn
    np.testing.assert_allclose(moved.vertices[0, :, :2], expected, atol=tolerance)
    np.testing.assert_allclose(moved.vertices[0, :, 2], depth, rtol=1e-4)


def test_points_of_opencv_are_half_a_pixel_further() -> None:
    published = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
    np.testing.assert_allclose(ARCFACE.points, np.array(published) + 0.5)
    # dlib: shares of the square around the mean face, with a quarter of it around, 150 pixels in all.
    right_eye, nose = CROP_TEMPLATES["dlib"].points[0], CROP_TEMPLATES["dlib"].points[4]
    np.testing.assert_allclose(right_eye, [25 + 85.95674595992 + 0.5, 25 + 21.34981538014 + 0.5])
    np.testing.assert_allclose(nose, [25 + 49.01123135679 + 0.5, 25 + 62.77975316475 + 0.5])


# ------------------------------------------------------------------------------------------------ where points are
def test_points_are_means_of_landmarks(face: CanonicalFace) -> None:
    vertices = face.vertices[:, :2]
    left_eye = vertices[[33, 133, 159, 145]].mean(0)
    expected = torch.stack([left_eye, left_eye * torch.tensor([-1.0, 1]) + torch.tensor([FACE_SIZE, 0])])
    expected = torch.cat([expected, vertices[[1, 61, 291]]])
    torch.testing.assert_close(ARCFACE.points_of(mesh_of(face))[0], expected, rtol=0, atol=1e-4)


def test_meshes_with_other_numbers_of_vertices(face: CanonicalFace) -> None:
    landmarks = face.vertices[list(LANDMARKS_68)]
    plane = landmarks[:, :2]
    expected = torch.stack([plane[36:42].mean(0), plane[42:48].mean(0), plane[30], plane[48], plane[54]])
    prnet = torch.rand(2194, 3).double()
    prnet[list(LANDMARKS_OF["prnet-2194"])] = landmarks  # two inner lip landmarks share a vertex, none of them counts
    whole = torch.rand(43_867, 3).double()
    whole[::20] = prnet
    keypoints = torch.cat([expected, torch.zeros(5, 1)], 1)
    for vertices, name in (
        (landmarks, "ibug-68"),
        (prnet, "prnet-2194"),
        (whole, "prnet-43867"),
        (keypoints, "keypoints-5"),
    ):
        for topology in (name, None):
            mesh = FaceMesh(vertices[None], image_size=face.size, topology=topology)
            torch.testing.assert_close(ARCFACE.points_of(mesh)[0], expected)


def test_own_vertices_of_any_mesh(face: CanonicalFace) -> None:
    mesh = FaceMesh(torch.rand(3, 9, 3), image_size=(8, 8), topology="corners-9")
    template = CropTemplate([(1, 1), (5, 2), (3, 7)], (8, 9), vertices=[0, (1, 2), [3, 4, 5]])
    v = mesh.vertices[..., :2].double()
    expected = torch.stack([v[:, 0], (v[:, 1] + v[:, 2]) / 2, (v[:, 3] + v[:, 4] + v[:, 5]) / 3], 1)
    torch.testing.assert_close(template.points_of(mesh), expected)
    with pytest.raises(AlignmentError, match=r"landmarks are known .* 9 vertices of topology corners-9; name the"):
        ARCFACE.points_of(mesh)
    with pytest.raises(AlignmentError, match="got 3 of them"):
        template.points_of(FaceMesh(torch.rand(1, 3, 3), image_size=(8, 8)))


def test_prnet_meshes_give_nearly_the_same_crop(shared: Path) -> None:
    from captum_canonical.adapters import FaceMeshAligner

    root = shared / "data" / "celeba_prnet"
    for path in list_photos(root / "images")[:4]:
        photo = read_photo(path)
        size = (photo.shape[0], photo.shape[1])
        ours = ARCFACE.similarity(FaceMeshAligner()([photo]))
        theirs = ARCFACE.similarity(load_prnet_mesh(root / "meshes" / f"{path.stem}_mesh.mat", size))
        middle = ours.undo(torch.tensor([[56.0, 56.0]]).double())[0]
        assert float((theirs.apply(middle) - 56).norm()) < 4 and 0.9 < float(theirs.scale / ours.scale) < 1.1


# ------------------------------------------------------------------------------------------------ sizes and errors
def test_a_template_has_a_size_that_may_be_changed(face: CanonicalFace, tmp_path: Path) -> None:
    (mesh, photo) = turned(face, 10), np.zeros((500, 400, 3), np.uint8)
    small, large = ARCFACE.crop(photo, mesh)[1], ARCFACE.resized(224).crop(photo, mesh)[1]
    torch.testing.assert_close(large.vertices, 2 * small.vertices)
    Image.fromarray(photo).save(tmp_path / "a.png")
    for size, expected in ((None, (112, 112)), (56, (56, 56))):
        record = AlignedFaces(tmp_path, faces=mesh, crop="arcface", size=size)[0]
        assert record.image.shape[1:] == expected == record.faces.image_size
    with pytest.raises(CanonicalError, match=r"size: expected the shape of the template .*112 x 112.* got 112 x 96"):
        AlignedFaces(tmp_path, faces=mesh, crop="arcface", size=(112, 96))
    with pytest.raises(CanonicalError, match="only crop templates have their own"):
        AlignedFaces(tmp_path, faces=mesh)
    with pytest.raises(CanonicalError, match=r"'arcface'.* got 'arcfaces'"):
        AlignedFaces(tmp_path, faces=mesh, crop="arcfaces")
    with pytest.raises(CanonicalError, match="fill"):
        AlignedFaces(tmp_path, faces=mesh, crop="arcface", fill="mirror")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": [(1, 2)]}, "two or more"),
        ({"points": [(1, 2, 3), (1, 2, 4)]}, "two or more"),
        ({"points": [(1, 2), (np.nan, 4)]}, "finite"),
        ({"points": [(1, 2), (3, 4)]}, "as many points as landmarks or vertices, got 2 and 5"),
        ({"points": [(1, 2), (3, 4)], "landmarks": [36, 68]}, "landmarks: .*68"),
        ({"points": [(1, 2), (3, 4)], "vertices": [36, -1]}, "vertices: .*-1"),
        ({"points": [(1, 2), (3, 4)], "vertices": [36, ()]}, "at least one index"),
        ({"points": [(1, 2), (3, 4)], "vertices": [0, 1], "landmarks": [36, 39]}, "either"),
        ({"points": [(1, 2), (3, 4)], "vertices": [0, 1], "size": 0}, "size"),
        ({"points": [(1, 2), (3, 4)], "vertices": [0, 1.5]}, "vertices: .*1.5"),
        ({"points": [(1, 2), (3, 4)], "landmarks": 36}, "landmarks: expected a sequence of indices"),
        ({"points": [(1, 2), (1, 2)], "landmarks": [36, 39]}, "different places"),
    ],
)
def test_what_is_no_template(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        CropTemplate(**({"size": 64} | arguments))  # type: ignore[arg-type]


def test_indices_of_torch_and_numpy() -> None:
    plain = CropTemplate([(1, 2), (3, 4)], 64, landmarks=[[36, 37], [39, 40]])
    for array in (torch.tensor, np.array):
        assert CropTemplate(array([[1, 2], [3, 4]]), 64, landmarks=array([[36, 37], [39, 40]])) == plain
        assert CropTemplate(array([[1, 2], [3, 4]]), 64, landmarks=array([36, 39])).landmarks == ((36,), (39,))


def test_faces_that_cannot_be_cropped(face: CanonicalFace) -> None:
    photo = np.zeros((FACE_SIZE, FACE_SIZE, 3), np.uint8)
    with pytest.raises(AlignmentError, match="one row"):
        ARCFACE.crop(photo, mesh_of(face, 2))
    nobody = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology, found=torch.tensor([False]))
    with pytest.raises(NoFaceError):
        ARCFACE.crop(photo, nobody)
    point = FaceMesh(torch.ones(1, 468, 3), image_size=face.size)
    with pytest.raises(AlignmentError, match="coincide"):
        ARCFACE.crop(photo, point)


def test_upright_crops_do_not_turn(face: CanonicalFace) -> None:
    template = CropTemplate(ARCFACE.points, 112, upright=True)
    straight, leaning = turned(face, 0), turned(face, 30)
    maps = template.similarity(leaning)
    torch.testing.assert_close(maps.rotation[0], torch.eye(2).double())
    torch.testing.assert_close(maps.scale, ARCFACE.similarity(straight).scale, rtol=0, atol=1e-4)
    middle = maps.apply(template.points_of(leaning)).mean(1)
    torch.testing.assert_close(middle[0], torch.tensor(ARCFACE.points).double().mean(0))


# ------------------------------------------------------------------------------------------------ through a data set
def painted(mesh: FaceMesh, vertex: int) -> np.ndarray:
    """A black photograph with a soft white spot at one vertex."""
    (height, width), (x, y) = mesh.image_size, mesh.vertices[0, vertex, :2].tolist()
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    return np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32)).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("name", CROP_TEMPLATES)
def test_a_painted_point_is_at_its_vertex(face: CanonicalFace, tmp_path: Path, name: str, orientation: int) -> None:
    # Whatever way up the photograph is stored: aligner and crop both see it upright.
    mesh, vertex = turned(face, 25), 50
    stored = np.rot90(painted(mesh, vertex), {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    record = AlignedFaces(tmp_path, lambda images, names: mesh, crop=name, fill=0)[0]
    grey = record.image.mean(0).double()
    height, width = grey.shape
    rows, columns = torch.arange(height).double()[:, None] + 0.5, torch.arange(width).double() + 0.5
    found = torch.stack([(grey * columns).sum(), (grey * rows).sum()]) / grey.sum()
    torch.testing.assert_close(found, record.faces.vertices[0, vertex, :2], rtol=0, atol=0.1)


def test_beyond_the_photograph_is_what_was_asked_for(face: CanonicalFace, tmp_path: Path) -> None:
    mesh = mesh_of(face, moved=[(-80.0, 0.0)])  # the left part of the face is not on the photograph
    Image.new("RGB", (FACE_SIZE, FACE_SIZE), (200, 100, 50)).save(tmp_path / "a.png")
    edge = AlignedFaces(tmp_path, faces=mesh, crop="arcface")[0].image * 255
    blue = AlignedFaces(tmp_path, faces=mesh, crop="arcface", fill=(0, 0, 255))[0].image * 255
    colour = torch.tensor([200.0, 100.0, 50.0])[:, None, None]
    torch.testing.assert_close(edge, colour.expand(3, 112, 112))
    torch.testing.assert_close(blue[:, 40:, -30:], colour.expand(3, 72, 30))
    torch.testing.assert_close(blue[:, :, :10], torch.tensor([0.0, 0, 255])[:, None, None].expand(3, 112, 10))


def test_a_run_says_its_template_and_goes_on_with_no_other(face: CanonicalFace, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    mesh = FaceMesh.cat([turned(face, angle, size=(300, 300)) for angle in (0, 5, 10)])
    net = nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(48, 2)).eval()

    def explain(crop: str | CropTemplate, size: int | None = None) -> object:
        data = AlignedFaces(photos, faces=mesh, crop=crop, size=size)
        return explain_dataset(net, data, tmp_path / "run", num_points=8, show_progress=False).run.settings["input"]

    said = explain("arcface")
    assert said["crop"]["template"] == "arcface" and said["size"] == [112, 112]  # type: ignore[index]
    assert explain(ARCFACE) == said and explain("arcface", 112) == said
    for crop, size in (("face", 112), ("dlib", 112), (CropTemplate(ARCFACE.points, 112, upright=True), None)):
        with pytest.raises(CanonicalError, match=r"input\.crop"):
            explain(crop, size)


def upper_half(images: torch.Tensor) -> torch.Tensor:
    """The brightness of the upper half of a crop."""
    return images[:, :, : images.shape[2] // 2].mean((1, 2, 3))


def test_benchmark_scores_the_crops_of_a_template(face: CanonicalFace, tmp_path: Path) -> None:
    mesh = FaceMesh.cat([turned(face, angle, size=(300, 300)) for angle in (-30, 20)])
    for number in range(2):
        Image.new("RGB", (300, 300), (200, 200, 200)).save(tmp_path / f"{number}.png")
    data = AlignedFaces(tmp_path, faces=mesh, crop="arcface")
    batch = data.collate([data[0], data[1]])
    methods = {"occlusion": (CanonicalOcclusion(upper_half), {"num_points": 64})}
    result = benchmark(upper_half, batch.images, methods, faces=batch.faces, fills=["zero"], show_progress=False)
    mean = result.mean_maps["occlusion"][0]
    assert mean[face.region_mask("forehead")].mean() > 10 * mean[face.region_mask("chin")].abs().mean()


def test_one_input_by_a_template_and_one_by_the_box_of_the_face(face: CanonicalFace, tmp_path: Path) -> None:
    mesh = turned(face, 25, size=(300, 300))
    Image.new("RGB", (300, 300), (200, 200, 200)).save(tmp_path / "a.png")
    records = [
        AlignedFaces(tmp_path, faces=mesh, crop=crop, size=size)[0] for crop, size in (("arcface", 112), ("face", 64))
    ]
    inputs = tuple(record.image[None] for record in records)
    meshes = tuple(record.faces for record in records)
    one, other = CanonicalOcclusion(lambda a, b: upper_half(a) + 0 * b.mean((1, 2, 3)), meshes).attribute(inputs)
    alone = CanonicalOcclusion(upper_half, meshes[0]).attribute(inputs[0])
    torch.testing.assert_close(one, alone, atol=1e-6, rtol=1e-4)
    assert one.shape == other.shape == (1, 1, FACE_SIZE, FACE_SIZE)
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.9  # painted at the same points


def test_template_and_box_of_the_face_are_different_crops(face: CanonicalFace, tmp_path: Path) -> None:
    mesh = turned(face, 20)
    Image.fromarray(painted(mesh, 4)).save(tmp_path / "a.png")
    by: Sequence[AlignedFaces] = [
        AlignedFaces(tmp_path, faces=mesh, crop=crop, size=112)  # type: ignore[arg-type]
        for crop in ("face", "arcface", "dlib", CropTemplate(ARCFACE.points, 112), None)
    ]
    assert by[1].fingerprint != by[3].fingerprint  # another name
    assert len({data.fingerprint for data in by}) == 5
    assert by[0].face_box(0) == by[1].face_box(0)  # in pixels of the file
    torch.testing.assert_close(by[1][0].image, by[3][0].image)
    part, _ = crop_to_face(painted(mesh, 4), mesh, 0.25, 112)
    torch.testing.assert_close(by[0][0].image * 255, torch.from_numpy(part).permute(2, 0, 1).float())


# -------------------------------------------------------------------------------------------------- what is measured
def test_the_how_to_has_the_figures_that_were_measured() -> None:
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "benchmarks/results/verification.json").read_text())
    share = {(row["network"], row["crop"]): f"{100 * np.mean(row['folds']):.1f} %" for row in measured["rows"]}
    page = (root / "docs/howto/own-network.md").read_text()
    crops = {'`"arcface"`': "arcface", '`"dlib"`': "dlib", '`"face"`': "face", '`"face"`, `margin=0.01`': "face, tight"}
    for written, crop in crops.items():
        line = f"| {written} | {share['mobilefacenet', crop]} | {share['face_recognition', crop]} |"
        assert line in page, line
    assert np.mean(next(row["folds"] for row in measured["rows"] if row["crop"] == "arcface")) >= 0.99
