"""What the tests of bridges to other packages share: a network, a heat map, quick settings."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

SIDE = 32
QUICK = {"folds": 2, "budget": 0.1, "resamples": 5, "permutations": 5, "batch_size": 4, "seed": 0}


class FeatureNet(nn.Module):
    """Three scores, the convolutions in ``features``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(8 * 49, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


def brightness(x: Tensor, target: Any = None) -> np.ndarray:
    """The mean of the channels as the heat map of each image."""
    return x.mean(1).numpy()
