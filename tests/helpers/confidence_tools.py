"""A network on small photographs, for the tests of confidences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def network(outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, outputs)
    ).eval()


def photos(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 12, 10)
