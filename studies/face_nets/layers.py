"""The layers and blocks that the networks of :mod:`studies.face_nets.networks` consist of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) * scale``, per channel."""

    mean: Tensor

    def __init__(self, mean: tuple[float, ...], scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


class SameConv2d(nn.Module):
    """3 x 3, stride 2, with TensorFlow's "SAME" padding, which is one-sided for even sizes."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(channels_in, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class SeparableConv2d(nn.Module):
    """3 x 3 on each channel, then 1 x 1 across them; "SAME" padding."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride=stride, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(self.pad(x)))


class ReductionBlock(nn.Module):
    """Xception's: two separable convolutions and a pooling of stride 2, beside a 1 x 1 shortcut."""

    def __init__(self, channels_in: int, channels: int, relu_first: bool = False, odd_size: bool = False) -> None:
        super().__init__()
        self.relu_in = nn.ReLU() if relu_first else nn.Identity()
        self.conv0 = SeparableConv2d(channels_in, channels)
        self.relu = nn.ReLU()
        self.conv1 = SeparableConv2d(channels, channels)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if odd_size else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # A ReLU must not share its input tensor with a shortcut: DeepLift would lose the shortcut's gradient.
        out = self.conv0(self.relu_in(x.clone()))
        return self.pool(self.conv1(self.relu(out))) + self.shortcut(x)


class MainBlock(nn.Module):
    """Xception's middle flow: three times ReLU and separable convolution, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.relu0, self.conv0 = nn.ReLU(), SeparableConv2d(channels, channels)
        self.relu1, self.conv1 = nn.ReLU(), SeparableConv2d(channels, channels)
        self.relu2, self.conv2 = nn.ReLU(), SeparableConv2d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv0(self.relu0(x.clone()))  # as above
        return self.conv2(self.relu2(self.conv1(self.relu1(out)))) + x


class DenseBlock(nn.Module):
    """Four convolutions, each fed with the sum of all before it."""

    def __init__(self, channels_in: int, channels: int, first: bool) -> None:
        super().__init__()
        self.conv0 = SameConv2d(channels_in, channels) if first else SeparableConv2d(channels_in, channels, stride=2)
        self.conv1, self.conv2, self.conv3 = (SeparableConv2d(channels, channels) for _ in range(3))
        self.relu0, self.relu1, self.relu2, self.relu3 = (nn.ReLU() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu0(self.conv0(x))
        out = out + self.conv1(out)
        out = out + self.conv2(self.relu1(out))
        return self.relu3(out + self.conv3(self.relu2(out)))


class ConvScale(nn.Module):
    """A convolution and a fixed scale and shift for each channel, kept as a batch norm in evaluation mode."""

    def __init__(self, channels_in: int, channels: int, size: int, stride: int, pad: int, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, size, stride=stride, padding=pad)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.constant_(self.bn.running_var, 1.0 - self.bn.eps)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """dlib's residual block; with ``down`` of stride 2 and with new channels, its shortcut pooled and zero-padded."""

    def __init__(self, channels_in: int, channels: int, down: bool = False, pad_out: bool = False) -> None:
        super().__init__()
        self.conv1 = ConvScale(channels_in, channels, 3, 2 if down else 1, 0 if down else 1, relu=True)
        self.conv2 = ConvScale(channels, channels, 3, 1, 1, relu=False)
        # Without padding an even size gives one pixel less than its pooled shortcut has.
        self.pad_out = nn.ZeroPad2d((0, 1, 0, 1)) if pad_out else nn.Identity()
        self.pool = nn.AvgPool2d(2) if down else nn.Identity()
        self.new_channels = channels - channels_in
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(self.pool(x), (0, 0, 0, 0, 0, self.new_channels))
        return self.relu2(shortcut + self.pad_out(self.conv2(self.conv1(x))))


class ConvPReLU(nn.Module):
    """A convolution, into which its batch norm was folded, and a PReLU or nothing.

    With a stride of 2 it has TensorFlow's "SAME" padding for even sizes, otherwise as much on all sides, or none.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        size: int = 1,
        stride: int = 1,
        groups: int = 1,
        padded: bool = True,
        activation: bool = True,
    ) -> None:
        super().__init__()
        border = (0, 1, 0, 1) if stride == 2 else size // 2
        self.pad = nn.ZeroPad2d(border) if padded and size > 1 else nn.Identity()
        self.conv = nn.Conv2d(channels_in, channels, size, stride=stride, groups=groups)
        self.act = nn.PReLU(channels) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(self.pad(x)))


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1 x 1 to more channels, 3 x 3 on each, 1 x 1 to fewer, added to its input if that fits."""

    def __init__(self, channels_in: int, inside: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.expand = ConvPReLU(channels_in, inside)
        self.depthwise = ConvPReLU(inside, inside, 3, stride, groups=inside)
        self.project = ConvPReLU(inside, channels, activation=False)
        self.added = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return out + x if self.added else out
