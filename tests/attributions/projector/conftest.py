"""Fixtures of the tests in this folder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_canonical import (
    CanonicalFace,
    FaceMesh,
)
from captum_canonical.faces.warp import visible_vertices
from oracles import rolled, turned
from projector_tools import SIZE, Net


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(40)


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    vertices = torch.stack(
        [
            rolled(face.vertices, 15, 1.1, (24.3, 27.2)),
            rolled(turned(face.vertices, 35), -5, 1.0, (23.1, 29.8)),
        ]
    )
    return FaceMesh(vertices, visible_vertices(vertices, face.triangles), SIZE, face.topology)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, *SIZE)
