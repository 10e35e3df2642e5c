"""A network and smooth maps for the tests of CanonicalProjector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = (56, 48)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 6, 5, stride=4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6 * 13 * 11, 4)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        scores = self.head(self.relu(self.conv(x)).flatten(1))
        return scores if other is None else scores * other.mean((1, 2, 3))[:, None]


def blobs(size: tuple[int, int], channels: int = 1) -> Tensor:
    """(1, channels, H, W) smooth maps with both signs."""
    return F.interpolate(torch.randn(1, channels, 5, 5), size, mode="bicubic")


def correlation(one: Tensor, two: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])
