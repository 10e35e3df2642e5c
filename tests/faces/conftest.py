"""Photographs that the tests of this folder share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def colours() -> np.ndarray:
    """(6, 9, 3) uint8 at random."""
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
