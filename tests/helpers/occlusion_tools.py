"""A network and shapes of faces for the tests of canonical occlusion."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalFace
from oracles import (
    rolled,
    turned,
)

SIZE = (112, 96)
PATCH = 11


class Net(nn.Module):
    """Any (N, 3, H, W) -> 4 log-probabilities, in float64; what it notices depends on the place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        self.head = nn.Linear(4 * 5 * 5, 4)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.conv(x).tanh(), 5).flatten(1)).log_softmax(1)


def placed(face: CanonicalFace, yaw: float, roll: float, scale: float, centre: tuple[float, float]) -> Tensor:
    return rolled(turned(face.vertices, yaw), roll, scale, centre)


def score_of(net: Callable[[Tensor], Tensor], target: int) -> Callable[[Tensor], float]:
    return lambda image: float(net(image)[0, target])


def same(actual: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0, "the case must not be empty"
    assert_close(actual, expected, atol=1e-10 * float(expected.abs().max()) + 1e-300, rtol=1e-9, check_dtype=False)


def correlation(one: Tensor, two: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])
