"""Data sets of aligned faces: records, batches, workers, fingerprints."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from captum_canonical import CanonicalOcclusion
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.adapters.prnet import load_prnet_mesh
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError, NoFaceError
from captum_canonical.faces.images import crop_to_face, to_tensor
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photos import load_photo, read_photo
from dataset_tools import CornerAligner, dataset, photo, write_photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 7)
    return tmp_path / "photos"


def same_batches(first: FaceBatch, second: FaceBatch) -> None:
    for name in ("images", "places"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for name in ("vertices", "visible", "found"):
        assert torch.equal(getattr(first.faces, name), getattr(second.faces, name))
    assert torch.equal(first.targets, second.targets)
    for name in ("groups", "identities", "names"):
        assert getattr(first, name) == getattr(second, name)


# ------------------------------------------------------------------------------------------------------- records
def test_a_record_is_the_face_crop_normalised_with_its_mesh(folder: Path) -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
    record = dataset(folder, margin=0.1, mean=mean, std=std)[3]
    pixels = photo(3)
    mesh = CornerAligner()([pixels], names=["x"])
    part, moved = crop_to_face(pixels, mesh, 0.1, (24, 20))
    expected = (to_tensor([part])[0] - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(record.image, expected, rtol=0, atol=0)
    torch.testing.assert_close(record.faces.vertices, moved.vertices, rtol=0, atol=0)
    assert record.faces.visible[0].tolist() == [True] * 4 + [False] + [True] * 4
    assert record.faces.image_size == (24, 20) and record.faces.topology == "corners-9"
    assert (record.row.name, record.place, record.target, record.row.group) == ("03.png", 3, None, None)
    assert record.row.path == folder / "03.png"


@pytest.mark.parametrize(
    ("channels", "weights"),
    [
        ("RGB", torch.eye(3)),
        ("BGR", torch.eye(3).flip(0)),
        ("L", torch.tensor([[0.299, 0.587, 0.114]])),
    ],
)
def test_channels(folder: Path, channels: str, weights: torch.Tensor) -> None:
    colours = dataset(folder)[0].image
    other = dataset(folder, channels=channels)[0].image
    torch.testing.assert_close(other, torch.einsum("dc,chw->dhw", weights, colours))


def test_indices_are_those_of_a_list(folder: Path) -> None:
    data = dataset(folder)
    assert [record.place for record in data] == list(range(7)) == list(data.places)
    assert data[-1].place == 6
    with pytest.raises(IndexError):
        data[7]


def test_only_one_photo_is_decoded_for_one_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(folder).align()
    read = []
    monkeypatch.setattr(
        "captum_canonical.data.alignment.load_photo", lambda path, limit: read.append(path) or load_photo(path, limit)
    )
    _ = data[2], data.left_out, data.counts(), data.fingerprint
    assert read == [folder / "02.png"]


# --------------------------------------------------------------------------------------------- batches and workers
def test_a_batch_holds_its_records(folder: Path) -> None:
    rows = [(path, number % 3, f"g{number % 2}", f"p{number}") for number, path in enumerate(sorted(folder.iterdir()))]
    data = dataset(rows, classes=3)
    batch = AlignedFaces.collate([data[index] for index in (5, 0, 2)])
    assert batch.images.shape == (3, 3, 24, 20) and len(batch) == 3
    torch.testing.assert_close(batch.images[1], data[0].image)
    torch.testing.assert_close(batch.faces.vertices[2:], data[2].faces.vertices)
    assert batch.targets.tolist() == [2, 0, 2] and batch.targets.dtype == torch.int64
    assert (batch.groups, batch.identities, batch.places.tolist()) == (
        ["g1", "g0", "g0"],
        ["p5", "p0", "p2"],
        [5, 0, 2],
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = batch.to(device)
    assert moved.images.device.type == moved.faces.vertices.device.type == moved.targets.device.type == device
    same_batches(moved.to("cpu"), batch)


def test_collate_refuses_what_does_not_go_together(folder: Path) -> None:
    first, second = dataset(folder)[0], dataset(folder, size=10)[0]
    with pytest.raises(CanonicalError, match="one input size"):
        AlignedFaces.collate([first, second])
    with pytest.raises(CanonicalError, match="none"):
        AlignedFaces.collate([])
    with pytest.raises(CanonicalError, match="one type, got NoneType, int"):
        AlignedFaces.collate([first, replace(first, row=replace(first.row, target=1))])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_batches_and_never_align(folder: Path, tmp_path: Path, context: str) -> None:
    data = dataset([(path, 1.5) for path in sorted(folder.iterdir())], cache=tmp_path / "cache").align()
    options = {"batch_size": 3, "collate_fn": AlignedFaces.collate}
    plain = list(DataLoader(data, **options))
    called = len(CornerAligner.calls)
    workers = list(DataLoader(data, num_workers=2, multiprocessing_context=context, **options))
    assert [len(batch) for batch in workers] == [3, 3, 1] == [len(batch) for batch in plain]
    for first, second in zip(plain, workers, strict=True):
        same_batches(first, second)
    assert called == len(CornerAligner.calls) == 7


def test_workers_of_a_data_set_that_was_not_aligned_say_so(folder: Path) -> None:
    loader = DataLoader(dataset(folder), num_workers=1, multiprocessing_context="fork", collate_fn=AlignedFaces.collate)
    with pytest.raises(CanonicalError, match=r"data\.align\(\)"):
        next(iter(loader))


def test_copies_for_other_processes_leave_the_aligner_behind(folder: Path) -> None:
    class Unpicklable(CornerAligner):
        def __init__(self) -> None:
            super().__init__()
            self.function = lambda: None

    data = dataset(folder, Unpicklable())  # it has no cache key, which only a cache needs
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy) == 7 and copy.fingerprint == data.fingerprint
    torch.testing.assert_close(copy[4].image, data[4].image, rtol=0, atol=0)


# -------------------------------------------------------------------------------------------------- given meshes
def test_meshes_that_are_there_already(folder: Path) -> None:
    found = dataset(folder)
    meshes = {path: CornerAligner()([read_photo(path)], names=[""]) for path in sorted(folder.iterdir())}
    by_path = dataset(folder, faces=lambda path: meshes[path])
    by_row = dataset(folder, faces=FaceMesh.cat(list(meshes.values())))
    for data in (by_path, by_row):
        torch.testing.assert_close(data[5].image, found[5].image, rtol=0, atol=0)
        torch.testing.assert_close(data[5].faces.vertices, found[5].faces.vertices, rtol=0, atol=0)
    assert by_path.fingerprint == by_row.fingerprint != found.fingerprint
    meshes[folder / "03.png"] = replace(meshes[folder / "03.png"], vertices=meshes[folder / "03.png"].vertices + 1)
    assert dataset(folder, faces=lambda path: meshes[path]).fingerprint != by_path.fingerprint


def test_given_meshes_that_do_not_fit_leave_their_photos_out(folder: Path) -> None:
    def faces(path: Path) -> FaceMesh:
        mesh = CornerAligner()([read_photo(path)], names=[""])
        if path.stem == "01":
            raise NoFaceError("none here")
        if path.stem == "02":
            return mesh.resized((10, 10))
        if path.stem == "04":
            raise FileNotFoundError("04.mat")
        return replace(mesh, found=torch.tensor([path.stem != "05"]))

    data = dataset(folder, faces=faces)
    with pytest.warns(UserWarning, match="4 of 7 photographs are left out"):
        data.align()
    assert data.places == (0, 3, 6)
    assert {place: left.kind for place, left in data.left_out.items()} == {
        1: "no face",
        2: "not aligned",
        4: "not aligned",
        5: "no face",
    }
    assert "(10, 10), the photograph has (50, 40)" in data.left_out[2].reason and "04.mat" in data.left_out[4].reason


def test_arguments_that_do_not_fit_are_refused_before_any_work(folder: Path) -> None:
    mesh = FaceMesh(torch.rand(2, 5, 3), image_size=(50, 40))
    for words, match in [
        ({"aligner": CornerAligner(), "faces": mesh}, "either an aligner or faces="),
        ({"faces": mesh}, "a row for each of 7 photographs, got 2"),
        ({"aligner": MediaPipeAligner(face="all")}, 'face="largest"'),
        ({"aligner": 3}, "callable"),
        ({"size": (0, 3)}, "size: expected"),
        ({"crop": "nose"}, "crop: expected"),
        ({"crop": (5, 5, 5, 9)}, "right > left"),
        ({"margin": -1}, "margin: expected"),
        ({"fill": "blue"}, "fill="),
        ({"channels": "CMYK"}, "channels: expected"),
        ({"mean": [0.5, 0.5]}, "one for each of 3 channels"),
        ({"std": 0.0}, "none of them 0"),
        ({"subfolder": "name"}, "subfolder: expected"),
    ]:
        with pytest.raises(CanonicalError, match=match):
            dataset(folder, **words)
    assert not CornerAligner.calls


def test_several_faces_are_refused(folder: Path) -> None:
    def two(images: list[np.ndarray], names: list[str]) -> FaceMesh:
        return FaceMesh(torch.rand(2, 5, 3), image_size=(50, 40), image_index=torch.tensor([0, 0]))

    with pytest.raises(CanonicalError, match=r"photo 0 \(00\.png\): expected a FaceMesh of one row.*got 2 rows"):
        dataset(folder, two).align()


# --------------------------------------------------------------------------------------------------- fingerprint
def test_fingerprint_is_of_what_decides_the_inputs(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.iterdir())
    first = dataset(folder).fingerprint
    assert dataset(folder, cache=tmp_path / "cache").fingerprint == first
    moved = write_photos(tmp_path / "elsewhere", 7)
    assert dataset(moved).fingerprint == first
    others = [
        dataset(folder, CornerAligner(threshold=99)),
        dataset(folder, size=(20, 24)),
        dataset(folder, crop=None),
        dataset(folder, margin=0.3),
        dataset(folder, fill=0),
        dataset(folder, channels="BGR"),
        dataset(folder, mean=0.5),
        dataset(folder, std=0.5),
        dataset(paths[:6]),
        dataset(paths[::-1]),
        dataset([(path, 1) for path in paths]),
    ]
    assert len({first, *(data.fingerprint for data in others)}) == 1 + len(others)
    Image.fromarray(photo(99)).save(paths[2])
    assert dataset(folder).fingerprint != first


# -------------------------------------------------------------------------------------------------- real photographs
@pytest.mark.parametrize("crop", ["face", (9, 54, 169, 214)])
def test_real_photographs_and_prnet_meshes(shared: Path, crop: object) -> None:
    root = shared / "data/celeba_prnet"

    def faces(path: Path) -> FaceMesh:
        return load_prnet_mesh(root / "meshes" / f"{path.stem}_mesh.mat", (218, 178))

    data = AlignedFaces(root / "images", faces=faces, size=(112, 112), crop=crop)
    assert len(data) == 60 and not data.left_out and not data.duplicates
    batch = next(iter(DataLoader(data, batch_size=4, collate_fn=data.collate)))
    assert batch.images.shape == (4, 3, 112, 112) and batch.faces.vertices.shape == (4, 2194, 3)
    inside = (batch.faces.vertices[..., :2] > 0) & (batch.faces.vertices[..., :2] < 112)
    assert inside.all() if crop == "face" else inside.float().mean() > 0.9


def test_real_photographs_and_mediapipe(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mediapipe")
    bundle = shared / "models/face_landmarker.task"
    paths = sorted((shared / "data/celeba_prnet/images").iterdir())[:6]
    arguments = {"size": (112, 112), "cache": tmp_path / "cache"}
    data = AlignedFaces(paths, MediaPipeAligner(bundle), **arguments)
    mesh = MediaPipeAligner(bundle)([read_photo(paths[4])])
    expected = crop_to_face(read_photo(paths[4]), mesh, size=112)[1]
    torch.testing.assert_close(data[4].faces.vertices, expected.vertices, rtol=0, atol=0)
    assert torch.equal(data[4].faces.visible, expected.visible)
    monkeypatch.setattr(MediaPipeAligner, "open", lambda self: pytest.fail("was called again"))
    again = AlignedFaces(paths, MediaPipeAligner(bundle), **arguments)
    assert again.fingerprint == data.fingerprint
    torch.testing.assert_close(again[4].image, data[4].image, rtol=0, atol=0)


def test_batches_go_into_attributions_as_they_are(shared: Path) -> None:
    paths = sorted((shared / "data/celeba_prnet/images").iterdir())[:3]
    rows = [(path, number % 2) for number, path in enumerate(paths)]
    data = AlignedFaces(rows, size=(48, 40), classes=2)
    batch = next(iter(DataLoader(data, batch_size=3, collate_fn=data.collate)))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 48 * 40, 2)).eval()
    maps = CanonicalOcclusion(network).attribute(batch.images, batch.targets, faces=batch.faces, num_points=8)
    assert maps.shape == (3, 1, 224, 224) and maps.abs().amax((1, 2, 3)).min() > 0


def test_table_of_real_identities(shared: Path) -> None:
    folder = shared / "data/identities"
    data = AlignedFaces(
        folder / "identities.csv",
        CornerAligner(),
        size=64,
        crop=None,
        columns={"path": "file"},
        root=folder / "images",
    )
    assert len(data) == len(data.rows) == 16 and len({row.identity for row in data.rows}) == 5
