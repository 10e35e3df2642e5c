"""Networks that the benchmarks time; random weights, which change no timing."""

from __future__ import annotations

import torch
from torch import nn

VGG16_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: max pooling


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
