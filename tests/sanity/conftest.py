"""Fixtures of the tests of model randomisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from randomization_tools import Net


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, 10, 10)
