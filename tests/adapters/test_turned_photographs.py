"""Photographs that are turned: meshes that lie on their face the wrong way are refused, with the reason."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captum_canonical as cc
from captum_canonical.adapters.detector import DetectorAligner, Finder
from captum_canonical.adapters.face_direction import wrong_way_up
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.data.mesh_cache import StoredMesh, decode, encode
from captum_canonical.errors import NoFaceError
from captum_canonical.faces.photos import read_photo

DRAWN = (cc.CanonicalFace.default().image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)


class AsIfUpright(DetectorAligner):
    """Lays the canonical face on each image as if it were upright, as a detector does that a turned face deceives."""

    topology = "mediapipe-468"
    num_vertices = 468

    @contextmanager
    def open(self) -> Iterator[Finder]:
        face = cc.CanonicalFace.default().vertices.double().numpy()
        yield lambda image: [face * image.shape[0] / 224] if image.any() else []


def turned(image: np.ndarray, quarters: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, -quarters))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_mesh_the_wrong_way_up_is_a_missing_face(quarters: int) -> None:
    aligner, names = AsIfUpright(), ["a.jpg", "b.jpg"]
    assert aligner([DRAWN, DRAWN], names=names).missing == ()
    images = [DRAWN, turned(DRAWN, quarters)]
    with pytest.raises(
        NoFaceError, match=r"no face in 1 of 2 images: 1 \(b.jpg\)\. In 1 of 2 .* upside down"
    ) as caught:
        aligner(images, names=names)
    assert "FaceMeshAligner" in caught.value.reason
    with pytest.warns(
        UserWarning, match=r"^AsIfUpright: missing in 1 of 2 images: 1 \(b.jpg\): the mesh lies on"
    ) as told:
        assert AsIfUpright("skip")(images, names=names).missing == (1,)
    assert len(told) == 1
    with pytest.raises(NoFaceError) as nothing:
        aligner([DRAWN * 0])
    assert nothing.value.reason == "" and "upside" not in str(nothing.value)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("on_missing", ["raise", "skip"])
def test_a_data_set_says_why(tmp_path: Path, cached: bool, on_missing: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in {"a": DRAWN, "b": turned(DRAWN, 2), "c": DRAWN * 0}.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match="2 of 3 photographs are left out"):
            data = cc.AlignedFaces(
                folder, AsIfUpright(on_missing), size=32, cache=tmp_path / "meshes" if cached else None
            ).align()
        assert data.places == (0,) and data.counts()[None].no_face == 2
        reasons = {place: left.reason for place, left in data.left_out.items()}
        assert reasons[1].startswith("the mesh lies on the face upside down") and "FaceMeshAligner" in reasons[1]
        assert reasons[2] == "the aligner found no face."


def test_the_reason_is_part_of_what_is_stored() -> None:
    stored = StoredMesh.without_face((3, 4), "because")
    assert decode(encode("key", stored), "key").reason == "because"
    assert stored.digest() != StoredMesh.without_face((3, 4)).digest()


def photographs(shared: Path) -> list[np.ndarray]:
    return [read_photo(path) for path in sorted((shared / "data/celeba_prnet/images").glob("*.jpg"))[::4]]


def test_real_photographs_upside_down(shared: Path) -> None:
    """Without the check, MediaPipe lays 47 of 60 meshes the wrong way on photographs that are turned by 180 degrees."""
    pytest.importorskip("mediapipe")
    images = photographs(shared)
    aligner = MediaPipeAligner(on_missing="skip")
    upright = aligner(images)
    assert upright.missing == ()
    with pytest.warns(UserWarning, match="upside down"):
        upside_down = aligner([turned(image, 2) for image in images])
    assert len(upside_down.missing) == len(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        on_side = aligner([turned(image, 1) for image in images])  # those that are found lie right
    chin_to_forehead = (on_side.vertices[:, 10] - on_side.vertices[:, 152])[on_side.found]
    assert bool((chin_to_forehead[:, 0] > chin_to_forehead[:, 1].abs()).all()) and len(chin_to_forehead) > 10


def test_own_meshes_lie_right_in_all_directions(shared: Path) -> None:
    cpu, images = torch.device("cpu"), photographs(shared)[:6]
    for quarters in range(4):
        views = [turned(image, quarters) for image in images]
        meshes = FaceMeshAligner()(views).vertices.double().numpy()
        for view, mesh in zip(views, meshes, strict=True):
            assert wrong_way_up(view, [mesh, turned_mesh(mesh)], cpu) == [False, True]


def turned_mesh(mesh: np.ndarray) -> np.ndarray:
    """Chin and forehead exchanged, in the same place."""
    middle = (mesh[:, :2].min(0) + mesh[:, :2].max(0)) / 2
    return np.concatenate([2 * middle - mesh[:, :2], mesh[:, 2:]], 1)
