"""The network and the photographs of all figures here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from small_networks import SmallNet


@pytest.fixture(scope="session")
def net() -> SmallNet:
    return SmallNet(32, (4, 4), kernel=3, seed=3)


@pytest.fixture(scope="session")
def photos() -> Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
