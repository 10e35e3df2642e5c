"""Operators on windows and on complete maps, each in the middle of a small network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.inference.operators import linear
from incremental_tools import SIZE, Call, Conv, assert_equal_to_dense, images, patches

torch.manual_seed(0)  # the networks below are made on import
LEARNED = torch.linspace(-1.5, 1.5, 8).view(8, 1, 1)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = x.chunk(2, 1)
    return first, second


ON_WINDOWS = {
    "relu": nn.ReLU(),
    "inplace": nn.ReLU(inplace=True),
    "batch norm": nn.BatchNorm2d(8),
    "batch norm in front": nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)),
    "batch norm without weights": nn.BatchNorm2d(8, affine=False),
    "functional batch norm": Call(lambda x: F.batch_norm(x, LEARNED.flatten(), LEARNED.flatten() ** 2 + 1)),
    "prelu": nn.PReLU(8),
    "functional prelu": Call(lambda x: F.prelu(x, LEARNED.flatten())),
    "gelu": nn.GELU(),
    "hardswish": nn.Hardswish(inplace=True),
    "dropout": nn.Sequential(nn.Dropout(0.9), nn.Dropout2d(inplace=True)),
    "functional dropout": Call(lambda x: F.dropout(x, 0.9, training=False)),
    "scalars": Call(lambda x: (2 - x * 3 + 1) / 2),
    "constants": Call(lambda x: x * LEARNED + LEARNED),
    "softmax over channels": Call(lambda x: x.softmax(1)),
    "same padding": nn.Conv2d(8, 8, (4, 3), padding="same", dilation=(1, 2)),
    "even kernel": nn.Conv2d(8, 8, (4, 2), padding=(2, 1)),
    "long kernel": nn.Sequential(nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), nn.Conv2d(8, 8, (7, 1), padding=(3, 0))),
    "dilated": nn.Conv2d(8, 8, 3, dilation=3, padding=3),
    "groups": nn.Conv2d(8, 8, 3, groups=4),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8, stride=2, bias=False),
    "strided pixel": nn.Conv2d(8, 8, 1, stride=2),
    "padded pixel": nn.Conv2d(8, 8, 1, padding=1),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool of negative numbers": nn.Sequential(Call(lambda x: -x.abs() - 1), nn.MaxPool2d(3, 2, 1)),
    "max pool, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "dilated max pool": nn.MaxPool2d(2, 1, dilation=2),
    "functional max pool": Call(lambda x: F.max_pool2d(x, 2)),
    "average": nn.AvgPool2d(2),
    "average, padded": nn.AvgPool2d(3, 2, 1),
    "average, padding not counted": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average, ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average, divisor": nn.AvgPool2d(3, divisor_override=2),
    "functional average": Call(lambda x: F.avg_pool2d(x, 3, stride=1)),
    "adaptive, divisible": nn.AdaptiveAvgPool2d(16),
    "adaptive, same": nn.AdaptiveAvgPool2d(32),
    "asymmetric padding": nn.ZeroPad2d((0, 2, 1, 0)),
    "constant padding": Call(lambda x: F.pad(x, (2, 0, 0, 1), value=0.5)),
    "channels padded": Call(lambda x: F.pad(x[:, :6], (0, 0, 0, 0, 1, 1))),
    "upsampling": nn.Upsample(scale_factor=2),
    "interpolation": Call(lambda x: F.interpolate(x, scale_factor=(2, 1))),
    "concatenation": Call(lambda x: torch.cat([x[:, :3], F.max_pool2d(x, 3, 1, 1)[:, 3:]], dim=1)),
    "difference of windows": Call(lambda x: x - F.avg_pool2d(x, 5, 1, 2)),
    "chunks": Call(lambda x: torch.cat([part * 2 for part in _halves(x)], 1)),
    "clone": Call(lambda x: x.clone().contiguous() + 0 * x.detach()),
    "added in place": Call(lambda x: x.relu().add_(x)),
    "one tensor twice": Call(lambda x: x * x),
    "weight parametrized": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)),
}
IN_FULL = {
    "reflected": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    "reflect pad": nn.ReflectionPad2d(1),
    "cropped": Call(lambda x: F.pad(x, (-1, 0, 0, 0))),
    "rows picked": Call(lambda x: x[:, :, ::2]),
    "squeeze and excitation": Call(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "group norm": nn.GroupNorm(2, 8),
    "instance norm": nn.InstanceNorm2d(8),
    "local response": nn.LocalResponseNorm(3),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "transposed": nn.ConvTranspose2d(8, 8, 2, 2),
    "adaptive": nn.AdaptiveAvgPool2d(5),
    "adaptive max": nn.AdaptiveMaxPool2d(4),
    "shuffle": nn.ChannelShuffle(2),
    "shuffle by view": Call(lambda x: x.view(x.size(0), 2, 4, x.shape[2], x.size()[3]).transpose(1, 2).flatten(1, 2)),
    "flipped": Call(lambda x: x.flip(3)),
    "positions": Call(lambda x: x + torch.linspace(0, 1, SIZE)),
    "dynamic kernel": Call(lambda x: F.conv2d(x, x.mean(0, keepdim=True)[:, :, :1, :1] * 0 + LEARNED[None] ** 2)),
    "running maximum": Call(lambda x: x.cummax(2)[0]),
}


@pytest.mark.parametrize("name", ON_WINDOWS)
def test_operators_on_windows(name: str) -> None:
    net = Conv(ON_WINDOWS[name])
    nn.init.uniform_(net[0].bias, -1, 1)
    engine = assert_equal_to_dense(net, images())
    assert engine.plan(patches()).ratio > 1.3, engine.plan(patches()).report()


@pytest.mark.parametrize("name", IN_FULL)
def test_operators_in_full(name: str) -> None:
    channels = 1 if name == "dynamic kernel" else 8
    engine = assert_equal_to_dense(Conv(IN_FULL[name], channels=channels), images(), rows=1 if channels == 1 else 16)
    assert "complete maps from" in engine.plan(patches()).report()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [3, 200])
def test_linear_layers_of_many_rows(rows: int, bias: bool) -> None:
    layer, x = nn.Linear(37, 11, bias), torch.randn(rows, 37)
    result = linear(x, layer.weight, layer.bias)
    assert_close(result, layer(x), rtol=0, atol=1e-5)
    assert result.is_contiguous()
