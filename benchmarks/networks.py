"""Networks that the benchmarks time; random weights, which change no timing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VGG16_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pooling
RESNET50_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride
# Expansion, channels, blocks, stride.
MOBILEFACENET_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def vgg16(classes: int = 1000, size: int = 224) -> nn.Sequential:
    """VGG-16, configuration D of Simonyan and Zisserman, arXiv 1409.1556."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width = 3
    for out in VGG16_WIDTHS:
        layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()] if out else [nn.MaxPool2d(2)]
        width = out or width
    head = [nn.Linear(512 * (size // 32) ** 2, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return _initialised(nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(4096, classes)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride), 1 x 1, added to the input or to a projection of it."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return self.relu(out)


def resnet50(classes: int = 1000) -> nn.Sequential:
    """ResNet-50 of He, Zhang, Ren and Sun, arXiv 1512.03385, with the stride in the 3 x 3 convolution."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for width, blocks, stride in RESNET50_STAGES:
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, 1 if block else stride))
            channels = 4 * width
    return _initialised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)))


class InvertedResidual(nn.Module):
    """Expand, depthwise 3 x 3, project; added to the input where the shapes allow."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = channels * expansion
        self.adds = stride == 1 and channels == out
        self.layers = nn.Sequential(
            *_conv_bn(channels, width, 1),
            *_conv_bn(width, width, 3, stride, 1, groups=width),
            *_conv_bn(width, out, 1)[:2],
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _conv_bn(
    channels: int, out: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.PReLU(out)]


def mobilefacenet(size: int = 112, features: int = 128) -> nn.Sequential:
    """MobileFaceNet of Chen, Liu, Gao and Han, arXiv 1804.07573."""
    torch.manual_seed(0)
    layers = _conv_bn(3, 64, 3, 2, 1) + _conv_bn(64, 64, 3, 1, 1, groups=64)
    channels = 64
    for expansion, out, blocks, stride in MOBILEFACENET_STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(channels, out, expansion, 1 if block else stride))
            channels = out
    layers += [*_conv_bn(channels, 512, 1), *_conv_bn(512, 512, -(-size // 16), groups=512)[:2]]
    return _initialised(nn.Sequential(*layers, *_conv_bn(512, features, 1)[:2], nn.Flatten()))


def _initialised(net: nn.Sequential) -> nn.Sequential:
    """He's weights, so that signals neither vanish nor blow up; batch norms that are no identities."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 0.8)
            nn.init.normal_(module.bias, std=0.1)
    return net.eval().requires_grad_(False)
