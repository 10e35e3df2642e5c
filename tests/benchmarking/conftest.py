"""The network and photographs of a small benchmark."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark_tools import (
    COUNT,
    SIZE,
    Net,
    meshes,
)
from captum_canonical import CanonicalFace, FaceMesh


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    return meshes(face, COUNT)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(COUNT, 3, *SIZE, generator=torch.Generator().manual_seed(7))
