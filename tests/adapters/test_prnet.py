"""Meshes and canonical faces from PRNet's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from captum_canonical.adapters.prnet import load_prnet_face, load_prnet_mesh
from captum_canonical.errors import AlignmentError, CanonicalError

FULL, THINNED = 43_867, 2_194


@pytest.fixture(scope="module")
def slanted() -> tuple[np.ndarray, np.ndarray]:
    """A full-sized mesh of a flat sheet, of which a second sheet in front hides the left half."""
    vertices = np.zeros((FULL, 3))
    vertices[:, 0] = np.linspace(0, 100, FULL)
    vertices[:, 1] = 50 + 10 * np.sin(np.arange(FULL))
    sheet = [[-10.0, -10, 90], [50, -10, 90], [50, 130, 90], [-10, 130, 90]]
    vertices[-4:] = sheet
    last = FULL - 4
    return vertices, np.array([[last, last + 1, last + 2], [last, last + 2, last + 3]], np.int32)


def test_full_mesh_is_tested_for_depth_before_it_is_thinned(
    tmp_path: Path, slanted: tuple[np.ndarray, np.ndarray]
) -> None:
    vertices, triangles = slanted
    savemat(tmp_path / "full.mat", {"vertices": vertices, "triangles": triangles})
    mesh = load_prnet_mesh(tmp_path / "full.mat", (120, 110))
    assert mesh.vertices.dtype == torch.float64 and mesh.topology == "prnet-2194" and mesh.image_size == (120, 110)
    torch.testing.assert_close(mesh.vertices[0], torch.from_numpy(vertices[::20].copy()), rtol=0, atol=0)
    x = mesh.vertices[0, :, 0]
    assert not mesh.visible[0, x < 49.9].any() and mesh.visible[0, x > 50.1].all()
    assert load_prnet_mesh(tmp_path / "full.mat", (120, 110), visibility=False).visible.all()
    whole = load_prnet_mesh(tmp_path / "full.mat", (120, 110), stride=1)
    assert whole.topology == "prnet-43867" and whole.num_vertices == FULL
    torch.testing.assert_close(whole.visible[:, ::20], mesh.visible)


def test_triangles_may_come_from_another_file(tmp_path: Path, slanted: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, triangles = slanted
    savemat(tmp_path / "bare.mat", {"vertices": vertices})
    savemat(tmp_path / "face.mat", {"vertices": vertices, "triangles": triangles})
    assert load_prnet_mesh(tmp_path / "bare.mat", (120, 110)).visible.all()
    expected = load_prnet_mesh(tmp_path / "face.mat", (120, 110)).visible
    assert not expected.all()
    for given in (triangles, torch.from_numpy(triangles), tmp_path / "face.mat", str(tmp_path / "face.mat")):
        mesh = load_prnet_mesh([tmp_path / "bare.mat"] * 2, (120, 110), triangles=given)
        torch.testing.assert_close(mesh.visible, expected.expand(2, -1))


def test_thinned_file_is_used_as_it_is(tmp_path: Path) -> None:
    vertices = np.random.default_rng(0).uniform(0, 100, (THINNED, 3))
    savemat(tmp_path / "thin.mat", {"vertices": vertices})
    mesh = load_prnet_mesh(str(tmp_path / "thin.mat"), (120, 110))
    torch.testing.assert_close(mesh.vertices[0], torch.from_numpy(vertices), rtol=0, atol=0)
    assert mesh.visible.all() and mesh.topology == "prnet-2194"
    with pytest.raises(AlignmentError, match=r"thin[.]mat: .*every 20th.*got 10"):
        load_prnet_mesh(tmp_path / "thin.mat", (120, 110), stride=10)


def test_unusable_files_are_errors_that_name_the_file(tmp_path: Path) -> None:
    broken = np.full((THINNED, 3), np.nan)
    savemat(tmp_path / "few.mat", {"vertices": np.zeros((68, 3))})
    savemat(tmp_path / "flat.mat", {"vertices": np.zeros((THINNED, 2))})
    savemat(tmp_path / "nan.mat", {"vertices": broken})
    savemat(tmp_path / "other.mat", {"points": np.zeros((THINNED, 3))})
    savemat(tmp_path / "index.mat", {"vertices": np.zeros((THINNED, 3)), "triangles": np.array([[0, 1, THINNED]])})
    (tmp_path / "text.mat").write_text("no matrix")
    (tmp_path / "empty.mat").touch()
    for name, reason in {
        "few": "68",
        "flat": "2194, 2",
        "nan": "NaN",
        "other": "vertices",
        "text": "cannot be read",
        "empty": "cannot be read",
        "absent": "there is none",
    }.items():
        with pytest.raises(CanonicalError, match=rf"{name}[.]mat: .*{reason}"):
            load_prnet_mesh(tmp_path / f"{name}.mat", (120, 110))
    with pytest.raises(AlignmentError, match="from 0 to 2193"):
        load_prnet_mesh(tmp_path / "index.mat", (120, 110))
    with pytest.raises(AlignmentError, match="at least one file"):
        load_prnet_mesh([], (120, 110))
    with pytest.raises(AlignmentError, match="stride"):
        load_prnet_mesh(tmp_path / "few.mat", (120, 110), stride=0)


def test_real_meshes_and_frontal_face(shared: Path) -> None:
    folder = shared / "data/canonical_prnet"
    face = load_prnet_face(folder / "frontal.jpg", folder / "frontal_mesh.mat")
    stored = loadmat(folder / "frontal_mesh.mat")
    assert face.size == (619, 619) and face.topology == "prnet-2194" and face.num_points == THINNED
    torch.testing.assert_close(face.vertices, torch.from_numpy(stored["vertices"][::20].copy()), rtol=0, atol=0)
    assert len(face.triangles) > 4000  # triangulated anew
    whole = load_prnet_face(folder / "frontal.jpg", folder / "frontal_mesh.mat", stride=1)
    assert whole.topology == "prnet-43867"
    torch.testing.assert_close(whole.triangles, torch.from_numpy(stored["triangles"]).long())

    paths = sorted((shared / "data/celeba_prnet/meshes").glob("*.mat"))
    meshes = load_prnet_mesh(paths, (218, 178))
    assert len(meshes) == 60 and meshes.image_size == (218, 178)
    face.check_mesh(meshes)
    torch.testing.assert_close(meshes.vertices[7], torch.from_numpy(loadmat(paths[7])["vertices"]), rtol=0, atol=0)
    # Depth grows towards the camera: the tip of the nose is in front of the sides of the face.
    frontal = stored["vertices"][::20]
    tip, side = frontal[:, 2].argmax(), frontal[:, 0].argmin()
    assert (meshes.vertices[:, tip, 2] - meshes.vertices[:, side, 2]).median() > 20
