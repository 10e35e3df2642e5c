"""Two convolutions on images of noise with patches hidden in them, run incrementally and densely."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer

SIZE = 32
MANY = 500  # patches that are worth it whatever the network


def images(count: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, channels, SIZE, SIZE, dtype=dtype)


def patches(count: int = 60, num_images: int = 2, side: int = 4) -> Patches:
    """Anywhere, cut off at the borders."""
    corner = torch.randint(1 - side, SIZE, (count, 2))
    boxes = torch.cat([corner.clamp(min=0), (corner + side).clamp(max=SIZE)], 1)
    return Patches(torch.randint(0, num_images, (count,)), (boxes,))


class Conv(nn.Sequential):
    """Two convolutions and a classifier, with something in between and at the end."""

    def __init__(self, *between: nn.Module, after: nn.Module | None = None, channels: int = 8) -> None:
        end = [after] if after is not None else []
        first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(channels, 8, 3, 2)
        super().__init__(
            first, *between, second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), *end
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not hasattr(module, "parametrizations"):
                nn.init.kaiming_normal_(module.weight)  # or hardly anything of a patch arrives at the scores
        self.eval()


class Call(nn.Module):
    """A function as a module, traced through."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def engines(
    net: Callable[..., object],
    x: Tensor | tuple[Tensor, ...],
    target: object = 1,
    args: tuple = (),
    rows: int = 16,
    fills: tuple[Tensor | float, ...] = (0.0,),
    hidden: tuple[bool, ...] | None = None,
) -> tuple[IncrementalInference, DenseInference]:
    inputs = (x,) if isinstance(x, Tensor) else x
    scorer = Scorer(net, target, args, len(inputs[0]))
    fills = fills * len(inputs) if len(fills) < len(inputs) else fills
    return IncrementalInference(scorer, inputs, fills, rows, hidden), DenseInference(scorer, inputs, fills, 8)


def assert_equal_to_dense(
    net: nn.Module, x: Tensor, hidden: Patches | None = None, **arguments: object
) -> IncrementalInference:
    hidden = patches() if hidden is None else hidden
    incremental, dense = engines(net, x, **arguments)  # type: ignore[arg-type]
    largest = float(dense.clean_scores().abs().max())
    if isinstance(net, cc.ZeroShotConfidence):  # cosines: rounding is relative to 1
        largest = 1.0
    tolerance = {"rtol": 0.0, "atol": 1e-5 * largest}
    assert_close(incremental.clean_scores(), dense.clean_scores(), **tolerance)
    scores = dense.occluded_scores(hidden)
    assert (scores - dense.clean_scores()[hidden.image]).abs().max() > 100 * tolerance["atol"]  # else nothing is tested
    assert_close(incremental.occluded_scores(hidden), scores, **tolerance)
    return incremental
