"""Networks that the benchmarks time; random weights, which change no timing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository, for studies/

VGG16_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pooling
RESNET50_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first
# Expansion, channels, blocks, stride of the first: Table 1 of MobileFaceNets.
MOBILE_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def scaled(side: int, size: int) -> int:
    """An odd patch side for an input of ``size`` pixels that is ``side`` at 224."""
    return 2 * int(side * size / 224 / 2) + 1


def vgg16(classes: int = 1000, size: int = 224) -> nn.Sequential:
    """VGG-16, configuration D of Simonyan and Zisserman, arXiv 1409.1556."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 3
    for out in VGG16_WIDTHS:
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()] if out else [nn.MaxPool2d(2)]
        width = out or width
    head = [nn.Linear(512 * (size // 32) ** 2, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(4096, classes)).eval()


class Residual(nn.Module):
    """A body whose result is added to its input, or to a projection of it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.last = body, shortcut, last

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape that the body gives it."""
        return self.last(self.body(x) + self.shortcut(x))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


def resnet50(classes: int = 1000, size: int = 224) -> nn.Sequential:
    """ResNet-50 of He, Zhang, Ren and Sun, arXiv 1512.03385, with the stride in the 3 x 3 convolutions."""
    torch.manual_seed(0)
    layers = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, blocks, first in RESNET50_STAGES:
        for block in range(blocks):
            stride = first if block == 0 else 1
            body = [*_conv(channels, width, 1), nn.ReLU(), *_conv(width, width, 3, stride), nn.ReLU()]
            body += _conv(width, 4 * width, 1)
            project = _conv(channels, 4 * width, 1, stride) if block == 0 else [nn.Identity()]
            layers.append(Residual(nn.Sequential(*body), nn.Sequential(*project), nn.ReLU()))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)).eval()


def mobile_face_net(numbers: int = 128, size: int = 112) -> nn.Sequential:
    """MobileFaceNet of Chen, Liu, Gao and Han, arXiv 1804.07573; the last depthwise kernel covers the whole map."""
    torch.manual_seed(0)
    layers = [*_conv(3, 64, 3, 2), nn.PReLU(64), *_conv(64, 64, 3, groups=64), nn.PReLU(64)]
    channels = 64
    for expansion, out, blocks, first in MOBILE_STAGES:
        for block in range(blocks):
            stride, wide = first if block == 0 else 1, expansion * channels
            body = [*_conv(channels, wide, 1), nn.PReLU(wide), *_conv(wide, wide, 3, stride, wide), nn.PReLU(wide)]
            body += _conv(wide, out, 1)
            same = stride == 1 and channels == out
            layers.append(
                Residual(nn.Sequential(*body), nn.Identity(), nn.Identity()) if same else nn.Sequential(*body)
            )
            channels = out
    pool = [nn.Conv2d(512, 512, size // 16, groups=512, bias=False), nn.BatchNorm2d(512)]
    layers += [*_conv(channels, 512, 1), nn.PReLU(512), *pool, nn.Conv2d(512, numbers, 1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(numbers), nn.Flatten()).eval()


@dataclass(frozen=True, eq=False)
class Network:
    """One that is timed, with inputs (N, channels, size, size)."""

    name: str
    build: Callable[[], nn.Module]
    size: int
    channels: int = 3

    @property
    def label(self) -> str:
        """Name and size."""
        return f"{self.name} {self.size}"


def networks(models: Path | None) -> list[Network]:
    """Those of ``networks.py`` at two sizes, and the trained ones of ``models``."""
    found = []
    for name, build in {"VGG-16": vgg16, "ResNet-50": resnet50, "MobileFaceNet": mobile_face_net}.items():
        found += [Network(name, lambda build=build, size=size: build(size=size), size) for size in (224, 112)]
    if models is not None:
        from studies.face_nets.download import NETWORKS
        from studies.face_nets.networks import load

        for name in NETWORKS:
            net = load(models, name)
            found.append(Network(name, lambda net=net: net, net.size, net.channels))
    return found
