"""Fixtures of the tests in this folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_canonical import CanonicalFace, FaceMesh
from captum_canonical.faces.warp import visible_vertices
from occlusion_tools import SIZE, Net, placed


@pytest.fixture(scope="module")
def net() -> Net:
    return Net()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(48)


@pytest.fixture(scope="module")
def few(face: CanonicalFace) -> CanonicalFace:
    """The same face with 60 points, for what does not depend on their number."""
    return replace(face, point_vertices=face.point_vertices[:60], point_weights=face.point_weights[:60])


@pytest.fixture(scope="module")
def photos() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(4, 3, 14, 12, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, SIZE, mode="bilinear")


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    """Four faces in (112, 96) images: frontal, rolled and larger, turned with a hidden side, half outside."""
    vertices = torch.stack(
        [
            placed(face, 0, 0, 1.7, (48.3, 55.1)),
            placed(face, 0, 25, 2.0, (50.2, 60.4)),
            placed(face, 50, -10, 1.6, (44.9, 52.7)),
            placed(face, -20, 5, 2.3, (80.6, 20.2)),
        ]
    )
    return FaceMesh(vertices, visible_vertices(vertices, face.triangles), SIZE, face.topology)
