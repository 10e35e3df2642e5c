"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1234)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photographs, meshes and networks beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the real photographs and networks in ../shared, which is absent")
    return SHARED
