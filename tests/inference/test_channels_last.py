"""Operators on maps with channels last stay on windows where positions stay apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.operators import Whole
from incremental_tools import Call, Conv, assert_equal_to_dense, engines, images, patches

torch.manual_seed(0)  # the networks below are made on import
SCALE = torch.linspace(0.5, 2.0, 8)


@torch.fx.wrap
def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    return input * 2 if training else input


class Turned(nn.Module):
    """Something on maps with channels last."""

    def __init__(self, *bodies: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*bodies)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """As in ConvNeXt: depthwise, then two linear layers for each position; a scale, and the sum."""

    def __init__(self, channels: int, kernel: int = 7) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.body = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        body = self.scale * self.body(torch.permute(self.depthwise(x), (0, 2, 3, 1)))
        return x + body.permute(0, 3, 1, 2)


ON_WINDOWS = {
    "nothing": Turned(),
    "layer norm": Turned(nn.LayerNorm(8)),
    "functional layer norm": Turned(Call(lambda x: F.layer_norm(x, (8,), SCALE, eps=1e-6))),
    "linear": Turned(nn.Linear(8, 12), nn.GELU(), nn.Dropout(), nn.Linear(12, 8, bias=False)),
    "functional linear": Turned(Call(lambda x: F.linear(x, SCALE * torch.eye(8)))),
    "scalars": Turned(Call(lambda x: (1 - x) * 3 / 2)),
    "scales": Turned(Call(lambda x: SCALE * (x + SCALE))),
    "activations": Turned(nn.SiLU(), Call(lambda x: F.hardswish(x.sigmoid()).contiguous())),
    "residual": Turned(Call(lambda x: x + F.relu(x) * x)),
    "sum of two": Turned(nn.LayerNorm(8), Call(lambda x: x * x.tanh())),
    "convnext": ConvNeXtBlock(8),
}
IN_FULL = {
    "norm of positions": Turned(nn.LayerNorm((32, 8))),
    "scales of columns": Turned(Call(lambda x: x * torch.linspace(0, 1, 32)[:, None])),
    "softmax of columns": Turned(Call(lambda x: x.softmax(2))),
    "mean over positions": Turned(Call(lambda x: x - x.mean((1, 2), keepdim=True))),
    "mean over channels": Turned(Call(lambda x: x - x.mean(-1, keepdim=True))),
    "turned otherwise": Call(lambda x: x.permute(0, 3, 2, 1).relu().permute(0, 3, 2, 1)),
    "turned twice": Call(lambda x: x.permute(0, 2, 3, 1).permute(0, 2, 3, 1).permute(0, 2, 3, 1)),
    "positions mixed": Turned(Call(lambda x: x + x.transpose(1, 2))),
    "global response": Turned(Call(lambda x: x * x.norm(dim=(1, 2), keepdim=True))),
}


def _whole(engine: IncrementalInference) -> list[str]:
    steps = engine.network.steps.values()
    return [
        s.name
        for s in steps
        if s.hidden and isinstance(s.operator, Whole) and s.shape is not None and len(s.shape) == 4
    ]


@pytest.mark.parametrize("name", ON_WINDOWS)
def test_positions_stay_apart(name: str) -> None:
    engine = assert_equal_to_dense(Conv(ON_WINDOWS[name]), images())
    assert not _whole(engine)


@pytest.mark.parametrize("name", IN_FULL)
def test_what_mixes_positions_runs_in_full(name: str) -> None:
    engine = assert_equal_to_dense(Conv(IN_FULL[name]), images())
    assert _whole(engine)


def test_complete_maps_are_put_together_with_channels_last() -> None:
    """A step in full reads what windows hold with channels last."""
    net = Conv(Turned(nn.LayerNorm(8), nn.Linear(8, 8), Call(lambda x: x - x.mean((1, 2), keepdim=True))))
    engine = assert_equal_to_dense(net, images())
    assert any(step.turned and step.cached for step in engine.network.steps.values())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.sampled_from([1, 3, 5, 7]), st.integers(9, 24), st.integers(9, 24), st.integers(0, 10**6))
def test_convnext_blocks_of_any_size(channels: int, kernel: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    stem = nn.Conv2d(3, channels, 2, 2)
    net = nn.Sequential(stem, ConvNeXtBlock(channels, kernel), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    corner = torch.stack([torch.randint(0, width - 4, (9,)), torch.randint(0, height - 4, (9,))], 1)
    hidden = type(patches())(torch.randint(0, 2, (9,)), (torch.cat([corner, corner + 3], 1),))
    incremental, dense = engines(net, x, target=0, rows=4)
    assert_close(incremental.occluded_scores(hidden), dense.occluded_scores(hidden), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_stochastic_depth(training: bool) -> None:
    """torchvision's is a step of its own in a trace."""
    net = Conv(Call(lambda x: x + stochastic_depth(x.relu(), 0.2, "row", training)))
    assert bool(_whole(assert_equal_to_dense(net, images()))) == training


def test_a_network_of_blocks_takes_fewer_multiply_adds() -> None:
    net = Conv(ConvNeXtBlock(8, 3), ConvNeXtBlock(8, 3))
    engine, _ = engines(net, images())
    report: Callable[[], str] = engine.plan(patches()).report
    assert engine.plan(patches()).ratio > 3 and "complete maps from" in report()
