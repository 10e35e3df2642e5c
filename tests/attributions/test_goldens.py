"""Maps made by the paper's released code on real photographs are reproduced through the public API."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
from captum_canonical.adapters.prnet import load_prnet_face, load_prnet_mesh

NAMES = ["000686", "001841", "001978", "002060", "002595", "003060", "004263", "005467"]


@pytest.fixture(scope="module")
def canonical(shared: Path) -> CanonicalFace:
    folder = shared / "data" / "canonical_prnet"
    return load_prnet_face(folder / "frontal.jpg", folder / "frontal_mesh.mat")


# Each takes seconds; the second half runs with the long studies.
HALF = len(NAMES) // 2


@pytest.mark.parametrize(
    "name", [*NAMES[:HALF], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[HALF:])]
)
def test_released_code_is_reproduced(name: str, shared: Path, canonical: CanonicalFace) -> None:
    from studies.face_nets import networks as face_nets

    golden = np.load(shared / "data" / "goldens" / f"{name}.npz")
    folder = shared / "data" / "celeba_prnet"
    picture = cv2.imread(str(folder / "images" / f"{name}.jpg"))[54:214, 9:169]
    picture = cv2.cvtColor(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    photo = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    mesh = load_prnet_mesh(folder / "meshes" / f"{name}_mesh.mat", image_size=(218, 178))
    mesh = mesh.cropped(left=9, top=54, width=160, height=160).resized((112, 112))
    net = face_nets.load(shared / "models", "age_gender")
    patch = int(golden["patch_size"])

    # The released code puts corners at floor(v - f/2), with f not rounded: half a pixel, and (f - k)/2 on the canonical
    # face, off this package's centred footprints.
    side = patch * 619 / 112
    image_mesh = FaceMesh(mesh.vertices - 0.5, image_size=(112, 112), topology=mesh.topology)
    face = CanonicalFace.from_vertices(
        canonical.image, canonical.vertices - 0.5 - (side - int(side)) / 2, topology=canonical.topology
    )
    method = CanonicalOcclusion(lambda x: net(x).softmax(1), image_mesh, face)
    result = method.attribute(photo, target=int(golden["target"]), patch_size=patch)

    expected = torch.from_numpy(golden["cis"])
    # Drops are differences of float32 probabilities near 1, thus multiples of 2**-24: where the largest drop is
    # under 0.012 (one of the eight) the golden's own rounding exceeds 1e-5 of it. In float64 it differs as much.
    tolerance = max(1e-5 * float(expected.abs().max()), 2.0**-23)
    assert_close(result[0, 0], expected, atol=tolerance, rtol=0)
