"""Small random networks and occlusion tasks, drawn with any ``random.Random`` (hypothesis has one that shrinks)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_canonical.inference.dense import Patches


class Residual(nn.Module):
    """Added in one of several ways, in place or not."""

    def __init__(self, body: nn.Module, how: str) -> None:
        super().__init__()
        self.body, self.how = body, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "inplace":
            out = self.body(x)
            out += x
            return out
        if self.how == "method":
            return self.body(x).add_(x)
        return x + self.body(x) if self.how == "add" else self.body(x) * torch.sigmoid(x)


class Dense(nn.Module):
    """Concatenated."""

    def __init__(self, *bodies: nn.Module) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(bodies)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(body(x) for body in self.bodies)], dim=1)


class MaxOfHalves(nn.Module):
    """The larger of two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.max(first, second)


class Gate(nn.Module):
    """Squeeze and excitation: global, so everything goes on in full."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(F.adaptive_avg_pool2d(x, 1)))


class FunctionalConv(nn.Module):
    """By torch.nn.functional, padded on some sides only."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, pad: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel) / (channels**0.5 * kernel))
        self.register_buffer("offset", torch.randn(out, 1, 1))
        self.stride, self.pad = stride, pad

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(F.pad(x, self.pad), self.weight, stride=self.stride) - self.offset, inplace=True)


class Net(nn.Module):
    """A body, and one of several heads."""

    def __init__(self, body: nn.Module, head: str, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.fc = nn.Linear(channels * size[0] * size[1] if head == "flat" else channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.head == "mean":
            return self.fc(x.mean((2, 3)))
        if self.head == "pool":
            return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)).softmax(1)
        if self.head == "window":
            return self.fc(F.avg_pool2d(x, x.size()[2:]).view(x.size(0), -1))
        return self.fc(x.reshape(x.shape[0], -1))


def _conv(r: Random, channels: int, out: int, same: bool) -> nn.Module:
    kernel = (r.choice([1, 3, 3, 5]), r.choice([1, 3, 3]))
    dilation = (r.choice([1, 1, 2]), r.choice([1, 1, 2]))
    half = tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))
    if same:
        return nn.Conv2d(channels, out, kernel, padding=r.choice([half, "same"]), dilation=dilation)
    padding = (r.randint(0, half[0]), r.randint(0, half[1]))
    kernel = (kernel[0] + (r.random() < 0.2), kernel[1])
    return nn.Conv2d(channels, out, kernel, (r.choice([1, 1, 2]), r.choice([1, 1, 2])), padding, dilation)


def _norm(r: Random, channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    nn.init.normal_(norm.running_mean)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return r.choice([norm, nn.Identity()])


def _activation(r: Random, channels: int) -> nn.Module:
    kinds = [nn.ReLU(), nn.ReLU(inplace=True), nn.PReLU(channels), nn.SiLU(), nn.Tanh(), nn.Hardswish(inplace=True)]
    return r.choice([*kinds, nn.Dropout(), nn.LeakyReLU(0.1)])


def _conv_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    return nn.Sequential(_conv(r, channels, out, False), _norm(r, out), _activation(r, out)), out


def _residual_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    body = nn.Sequential(_conv(r, channels, channels, True), _norm(r, channels), _activation(r, channels))
    return Residual(body, r.choice(["inplace", "method", "add", "product"])), channels


def _dense_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    return Dense(_conv(r, channels, 2, True), _conv(r, channels, 2, True)), channels + 4


def _depthwise_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    conv = nn.Conv2d(channels, channels, 3, r.choice([1, 2]), r.choice([0, 1]), groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), conv, _norm(r, channels)), channels


def _max_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    kernel = r.choice([2, 3])
    return nn.MaxPool2d(kernel, 2, r.choice([0, kernel // 2]), ceil_mode=r.random() < 0.5), channels


def _average_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    kernel, padding = r.choice([2, 3]), r.choice([0, 1])
    return nn.AvgPool2d(kernel, r.choice([1, 2]), padding, r.random() < 0.5, r.random() < 0.5), channels


def _pad_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    pad = nn.ZeroPad2d(tuple(r.randint(0, 2) for _ in range(4)))
    return nn.Sequential(pad, nn.Conv2d(channels, out, 3, r.choice([1, 2]))), out


def _functional_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    pad = tuple(r.randint(0, 2) for _ in range(4))
    return FunctionalConv(channels, out, r.choice([1, 2, 3]), r.choice([1, 2]), pad), out


def _halves_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    return nn.Sequential(nn.Conv2d(channels, 4, 1), MaxOfHalves()), 2


def _up_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    return nn.Upsample(scale_factor=2), channels


def _gate_block(r: Random, channels: int, out: int) -> tuple[nn.Module, int]:
    return Gate(channels), channels


_BLOCKS = [
    *(_conv_block, _conv_block, _residual_block, _dense_block, _depthwise_block, _max_block, _average_block),
    *(_pad_block, _functional_block, _halves_block, _up_block),
]


def _block(r: Random, channels: int) -> tuple[nn.Module, int]:
    blocks = [*_BLOCKS, _gate_block] if r.random() < 0.3 else _BLOCKS
    return r.choice(blocks)(r, channels, r.choice([2, 4]))


@dataclass
class Task:
    """A network, and what to hide from it."""

    net: nn.Module
    inputs: Tensor
    patches: Patches
    fill: Tensor | float
    rows: int

    def dense(self) -> Tensor:
        """(J,) the score of class 1 with each patch hidden, by a plain loop."""
        scores = []
        for image, (left, top, right, bottom) in zip(
            self.patches.image.tolist(), self.patches.boxes[0].tolist(), strict=True
        ):
            x = self.inputs[image : image + 1].clone()
            fill = self.fill[image] if isinstance(self.fill, Tensor) else torch.full_like(x[0], self.fill)
            x[0, :, top:bottom, left:right] = fill[:, top:bottom, left:right]
            scores.append(self.net(x)[0, 1])
        return torch.stack(scores).double()


def boxes(r: Random, count: int, size: tuple[int, int]) -> Tensor:
    """(J, 4) patches anywhere, cut off at the borders."""
    rows = []
    while len(rows) < count:
        side = r.choice([1, 2, 3, 4, 5])
        top, left = r.randint(1 - side, size[0] - 1), r.randint(1 - side, size[1] - 1)
        rows.append([max(left, 0), max(top, 0), min(left + side, size[1]), min(top + side, size[0])])
    return torch.tensor(rows)


def task(r: Random) -> Task:
    """A random network of one to five blocks with a batch of images and patches."""
    torch.manual_seed(r.randint(0, 10**6))
    dtype = r.choice([torch.float32, torch.float64])
    size = (r.randint(16, 40), r.randint(16, 40))
    images = r.randint(1, 3)
    inputs = torch.randn(images, 3, *size, dtype=dtype)
    if r.random() < 0.3:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    blocks: list[nn.Module] = []
    channels, shape = 3, size
    for _ in range(r.randint(1, 5)):
        block, out = _block(r, channels)
        try:
            with torch.no_grad():
                result = nn.Sequential(*blocks, block).to(dtype).eval()(inputs[:1])
        except RuntimeError:  # the map is too small for it
            continue
        if min(result.shape[2:]) >= 3 and max(result.shape[2:]) <= 80:
            blocks.append(block)
            channels, shape = out, (result.shape[2], result.shape[3])
    net = Net(nn.Sequential(*blocks), r.choice(["flat", "mean", "pool", "window"]), channels, shape).to(dtype).eval()
    count = r.randint(2, 12)
    patches = Patches(torch.tensor([r.randrange(images) for _ in range(count)]), (boxes(r, count, size),))
    fill = r.choice([0.0, 1.5, torch.randn_like(inputs)])
    return Task(net.requires_grad_(False), inputs, patches, fill, r.choice([1, 3, 8]))
