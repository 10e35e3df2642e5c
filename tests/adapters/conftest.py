"""Fixtures of the tests of bridges to other packages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from interop_tools import SIDE, FeatureNet


@pytest.fixture
def net() -> FeatureNet:
    return FeatureNet().eval()


@pytest.fixture
def faces(face: CanonicalFace) -> FaceMesh:
    """Four faces, each in a place of its own."""
    shifts = torch.tensor([[0.0, 0, 0], [2, 1, 0], [-2, 2, 0], [1, -3, 0]])
    return FaceMesh(face.vertices.float() + shifts[:, None], image_size=(SIDE, SIDE), topology=face.topology)


@pytest.fixture
def photos() -> Tensor:
    return torch.rand(4, 3, SIDE, SIDE)
