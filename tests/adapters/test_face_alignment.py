"""The 68 landmarks of face-alignment: their fit to all vertices, and the package's real code on made-up weights."""

from __future__ import annotations

import shutil
import sys
import urllib.error
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from captum_canonical.adapters.face_alignment import FaceAlignmentAligner
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.adapters.landmarks import LANDMARKS_68, fit_landmarks_68
from captum_canonical.errors import AlignmentError, MissingDependencyError, NoFaceError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.photos import list_photos, read_photo
from captum_canonical.faces.similarity import fit_similarity

INDEX = list(LANDMARKS_68)
# fmt: off
MIRRORED = [  # of each iBUG landmark
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]
# fmt: on


def rotation(yaw: float, roll: float) -> torch.Tensor:
    (a, b), (c, d) = (np.cos(yaw), np.sin(yaw)), (np.cos(roll), np.sin(roll))
    return torch.tensor([[c, -d, 0], [d, c, 0], [0, 0, 1]]) @ torch.tensor([[a, 0, b], [0, 1, 0], [-b, 0, a]])


# ------------------------------------------------------------------------------------------------ the fit
def test_correspondence_is_symmetric() -> None:
    permutation = CanonicalFace.default().permutation
    assert len(set(INDEX)) == 68
    assert permutation[INDEX].tolist() == [INDEX[mirrored] for mirrored in MIRRORED]


def test_correspondence_names_the_right_parts() -> None:
    x, y, z = CanonicalFace.default().vertices[INDEX].T
    assert (x[:8] < x[8]).all() and (x[9:17] > x[8]).all() and y[8] == y.max()  # the jaw ends in the chin
    assert (y[17:27] < y[36:48].min()).all()  # brows above the eyes
    assert z.argmax() in (30, 33) and (y[27:31].diff() > 0).all()  # the nose ridge runs down to the tip
    assert x[36] == x[36:42].min() and x[45] == x[42:48].max()  # outer eye corners
    assert x[48] == x[48:68].min() and x[54] == x[48:68].max()  # mouth corners
    assert y[51] < y[62] < y[66] < y[57]  # lips: outer and inner contour


def test_landmarks_of_a_moved_canonical_face_give_that_face() -> None:
    shape = CanonicalFace.default().vertices
    moved = torch.stack([0.4 * shape @ rotation(yaw, roll).double().T + 30 for yaw, roll in ((0, 0), (0.6, -0.3))])
    torch.testing.assert_close(fit_landmarks_68(moved[:, INDEX], shape), moved, rtol=0, atol=1e-6)
    torch.testing.assert_close(fit_landmarks_68(moved[1, INDEX].float().numpy(), shape), moved[1:], rtol=0, atol=1e-3)


def test_fit_follows_turning_scaling_and_shifting() -> None:
    shape = CanonicalFace.default().vertices
    landmarks = shape[INDEX] + 3 * torch.randn(68, 3)
    turn = rotation(0.3, 0.5).double()
    moved = fit_landmarks_68(2.5 * landmarks @ turn.T - 40, shape)
    torch.testing.assert_close(moved, 2.5 * fit_landmarks_68(landmarks, shape) @ turn.T - 40, rtol=0, atol=1e-6)


def test_depth_of_either_sign_comes_out_towards_the_camera() -> None:
    shape = CanonicalFace.default().vertices
    landmarks = shape[INDEX] + torch.randn(68, 3)
    away = landmarks * torch.tensor([1.0, 1.0, -1.0])
    both = fit_landmarks_68(torch.stack([landmarks, away]), shape)
    torch.testing.assert_close(both[0], both[1])
    assert both[0, 4, 2] > both[0, 234, 2] + 50


def test_batch_equals_singles_and_inputs_stay() -> None:
    shape = CanonicalFace.default().vertices
    landmarks = shape[INDEX] + 2 * torch.randn(3, 68, 3)
    before = landmarks.clone()
    batch = fit_landmarks_68(landmarks, shape)
    for row in range(3):
        torch.testing.assert_close(batch[row], fit_landmarks_68(landmarks[row], shape)[0])
    torch.testing.assert_close(landmarks, before, rtol=0, atol=0)
    assert fit_landmarks_68(landmarks[:0], shape).shape == (0, 468, 3)


@pytest.mark.parametrize("landmarks", [torch.rand(68, 2), torch.rand(67, 3), torch.rand(1, 1, 68, 3)])
def test_other_shapes_are_errors(landmarks: torch.Tensor) -> None:
    with pytest.raises(AlignmentError, match="68"):
        fit_landmarks_68(landmarks, torch.rand(468, 3))


# -------------------------------------------------------------------------------------- on real photographs
@pytest.fixture(scope="module")
def real(shared: Path) -> torch.Tensor:
    """The vertices of the real photographs."""
    photos = [read_photo(path) for path in list_photos(shared / "data/celeba_prnet/images")]
    mesh = FaceMeshAligner(on_missing="skip", visibility=False)(photos)
    return mesh.vertices[mesh.found].double()


def mean_shape(meshes: torch.Tensor) -> torch.Tensor:
    mean = meshes[0]
    for _ in range(4):
        mean = torch.stack([fit_similarity(mesh, mean[None]).apply(mesh)[0] for mesh in meshes]).mean(0)
    return mean


@pytest.mark.parametrize(("noise", "limit"), [(0.0, 0.012), (0.02, 0.02)])
def test_the_other_400_vertices_are_placed_well(real: torch.Tensor, noise: float, limit: float) -> None:
    others = [vertex for vertex in range(468) if vertex not in LANDMARKS_68]
    errors = []
    for own, foreign in ((real[::2], real[1::2]), (real[1::2], real[::2])):
        eyes = (own[:, 33, :2] - own[:, 263, :2]).norm(dim=1)[:, None, None]
        landmarks = own[:, INDEX] + noise * eyes * torch.randn(len(own), 68, 3)
        errors.append(
            (fit_landmarks_68(landmarks, mean_shape(foreign)) - own)[:, others, :2].norm(dim=2) / eyes[..., 0]
        )
    assert torch.cat(errors).mean() < limit


# ------------------------------------------------------------------------- the package's code, real or nearly
@pytest.fixture(scope="module")
def package() -> ModuleType:
    return pytest.importorskip("face_alignment", reason="needs the package face-alignment")


def random_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights that keep the size of activations, from one pool of numbers and in half precision: small and quick."""
    pool = torch.randn(5_000_000, generator=torch.Generator().manual_seed(0)).half()
    weights = {}
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            spread = (2 / value[0].numel()) ** 0.5
            weights[name] = pool[: value.numel()].view(value.shape) * spread
        elif name.endswith(("running_var", "weight")):
            weights[name] = torch.ones(value.shape)
        else:
            weights[name] = torch.zeros(value.shape, dtype=value.dtype)
    return weights


def one_face(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Detector weights that find one face of 512 pixels in small images, whatever they show."""
    for name, value in weights.items():
        if "mbox" in name:
            value.zero_()
        if name.endswith("mbox_conf.bias"):
            value[-1] = 6.0 if name.startswith("conv7_2") else -6.0  # the layer of the largest faces
    return weights


@pytest.fixture(scope="module")
def aligner(package: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaceAlignmentAligner]:
    """An aligner whose weights were "downloaded" from files that are made here; all other code is the package's own."""
    from face_alignment import utils
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN, ResNetDepth

    folder = tmp_path_factory.mktemp("weights")
    with torch.device("meta"):
        networks = FAN(4), ResNetDepth(), s3fd()
    landmarks, depth, detector = (random_weights(network) for network in networks)
    torch.save(landmarks, folder / "3DFAN4-7835d9f11d.pth.tar")
    torch.save({"state_dict": {f"module.{n}": v for n, v in depth.items()}}, folder / "depth-2a464da4ea.pth.tar")
    torch.save(one_face(detector), folder / "s3fd-619a316812.pth")

    def fetch(url: str, target: str, *_: object, **__: object) -> None:
        shutil.copy(folder / url.rsplit("/", 1)[1], target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch_home")))
        patch.setattr(utils, "download_url_to_file", fetch)
        patch.setattr(torch.hub, "download_url_to_file", fetch)
        for name in ("_get_preds_fromhm", "transform_np"):  # compiling them takes longer than all the rest
            patch.setattr(utils, name, getattr(utils, name).py_func)
        made = FaceAlignmentAligner(face="all")
        state, benchmark = torch.get_rng_state(), torch.backends.cudnn.benchmark
        _ = made.network
        torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
        assert torch.backends.cudnn.benchmark == benchmark
        yield made
        shutil.rmtree(folder)
        shutil.rmtree(torch.hub.get_dir())


def test_real_code_on_made_up_weights(aligner: FaceAlignmentAligner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = aligner.network.get_landmarks_from_image

    def spy(image: np.ndarray) -> list[np.ndarray]:
        seen.append(original(image))
        return seen[-1]

    monkeypatch.setattr(aligner.network, "get_landmarks_from_image", spy)
    image = np.random.default_rng(0).integers(0, 256, (72, 64, 3)).astype(np.uint8)
    mesh = aligner([image])
    assert len(seen) == 1 and len(seen[0]) == 1 and seen[0][0].shape == (68, 3)
    assert len(np.unique(seen[0][0], axis=0)) > 10
    assert len(mesh) == 1 and mesh.num_vertices == 468 and mesh.topology == "mediapipe-468"
    assert mesh.image_size == (72, 64) and mesh.image_index is not None
    # The package cuts its x and y off to whole pixels; in continuous coordinates their centres are meant.
    expected = fit_landmarks_68(seen[0][0] + [0.5, 0.5, 0.0], CanonicalFace.default().vertices)
    torch.testing.assert_close(mesh.vertices, expected.float())


@pytest.fixture
def fake(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], list[np.ndarray]]:
    """Known landmarks, by the first pixel's red and green, behind the package's own class."""
    known: dict[tuple[int, int], list[np.ndarray]] = {}

    def landmarks(self: object, image: np.ndarray) -> list[np.ndarray] | None:
        faces = known.get((int(image[0, 0, 0]), int(image[0, 0, 1])))
        if faces is None:
            warnings.warn("No faces were detected.", stacklevel=2)  # as the package does
        return faces

    monkeypatch.setattr(package.FaceAlignment, "__init__", lambda self, *_, **__: None)
    monkeypatch.setattr(package.FaceAlignment, "get_landmarks_from_image", landmarks)
    return known


def labelled(red: int, green: int = 0) -> np.ndarray:
    image = np.zeros((120, 100, 3), np.uint8)
    image[0, 0] = red, green, 0
    return image


def test_known_landmarks_give_the_direct_fit(fake: dict[tuple[int, int], list[np.ndarray]]) -> None:
    shape = CanonicalFace.default().vertices
    places = [0.3 * shape[INDEX] + 5 + torch.randn(68, 3), 0.2 * shape[INDEX] @ rotation(0.5, 0).double().T + 40]
    fake[1, 0], fake[2, 0] = [places[0].numpy()], [places[0].numpy() * 0.5, places[1].numpy()]
    mesh = FaceAlignmentAligner()([labelled(1), labelled(2)])
    expected = torch.cat([fit_landmarks_68(place, shape) for place in places])  # the larger of the second image's two
    torch.testing.assert_close(mesh.vertices, expected.float())
    assert mesh.visible.any(1).all() and not mesh.visible[1].all()
    everything = FaceAlignmentAligner(face="all", visibility=False)([labelled(1), labelled(2)])
    assert everything.image_index is not None and everything.image_index.tolist() == [0, 1, 1]
    assert everything.visible.all()


@pytest.mark.filterwarnings("error")
def test_no_face(fake: dict[tuple[int, int], list[np.ndarray]]) -> None:
    fake[1, 0] = [(0.3 * CanonicalFace.default().vertices[INDEX]).numpy()]
    fake[2, 0] = []
    with pytest.raises(NoFaceError, match=r"2 of 3 images: 1 \(b\), 2 \(c\)"):
        FaceAlignmentAligner()([labelled(1), labelled(9), labelled(2)], names="abc")
    assert FaceAlignmentAligner(on_missing="skip")([labelled(9), labelled(1)]).missing == (0,)


def test_own_canonical_face_needs_its_landmarks(fake: dict[tuple[int, int], list[np.ndarray]]) -> None:
    shape = CanonicalFace.default().vertices
    own = CanonicalFace.from_vertices(np.zeros((224, 224, 3), np.uint8), shape[INDEX], topology="ibug-68")
    with pytest.raises(AlignmentError, match=r"ibug-68.*landmarks="):
        FaceAlignmentAligner(own)
    with pytest.raises(AlignmentError, match="68 vertex indices"):
        FaceAlignmentAligner(own, landmarks=range(1, 69))
    fake[1, 0] = [0.4 * shape[INDEX].numpy() + 3.3]
    mesh = FaceAlignmentAligner(own, landmarks=range(68))([labelled(1)])
    assert mesh.topology == "ibug-68"
    torch.testing.assert_close(mesh.vertices[0].double(), 0.4 * shape[INDEX] + 3.3, rtol=0, atol=1e-3)


def test_weights_that_cannot_be_downloaded_are_named(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from face_alignment import utils

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(utils, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(MissingDependencyError) as error:
        FaceAlignmentAligner()(labelled(1))
    message = str(error.value)
    for part in ("3DFAN4-7835d9f11d.pth.tar", "depth-2a464da4ea.pth.tar", "s3fd-619a316812.pth", "no route to host"):
        assert part in message
    assert str(tmp_path / "hub" / "checkpoints") in message
    (tmp_path / "hub" / "checkpoints" / "depth-2a464da4ea.pth.tar").touch()
    with pytest.raises(MissingDependencyError) as error:
        FaceAlignmentAligner()(labelled(1))
    assert "depth-2a464da4ea" not in str(error.value)


def test_damaged_weights_are_an_error_that_names_the_folder(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "s3fd-619a316812.pth").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="checkpoints"):
        FaceAlignmentAligner()(labelled(1))


def test_missing_package_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(MissingDependencyError, match="pip install face-alignment"):
        FaceAlignmentAligner()(labelled(1))
