"""Fixtures of the tests in this folder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from layer_cam_tools import Net


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 11, 9)
