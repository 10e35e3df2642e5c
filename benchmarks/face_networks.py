"""Face networks that no package holds: of ArcFace's, FaceNet's and FairFace's shape, with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import Residual

FAIRFACE_HEADS = {"race": 7, "gender": 2, "age": 9}  # in the order of its one vector of 18 logits


class ArcFaceBlock(nn.Module):
    """Batch norms around two convolutions, PReLU between them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        layers = [nn.BatchNorm2d(channels), nn.Conv2d(channels, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)]
        layers += [nn.PReLU(out), nn.Conv2d(out, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)]
        self.body = nn.Sequential(*layers)
        project = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.shortcut = nn.Identity() if stride == 1 and channels == out else project

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape that the body gives it."""
        out = self.body(x)
        out += self.shortcut(x)
        return out


def iresnet(blocks: Sequence[int] = (2, 2, 2, 2), numbers: int = 512, size: int = 112) -> nn.Sequential:
    """The ResNet of Deng, Guo, Xue and Zafeiriou, arXiv 1801.07698; a linear layer reads the last map."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)]
    channels = 64
    for width, count in zip((64, 128, 256, 512), blocks, strict=True):
        for block in range(count):
            layers.append(ArcFaceBlock(channels, width, 1 if block else 2))
            channels = width
    side = -(-size // 16)
    layers += [nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * side * side, numbers)]
    return nn.Sequential(*layers, nn.BatchNorm1d(numbers))


class _Conv(nn.Sequential):
    def __init__(self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: str | int = 0):
        conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out, eps=0.001), nn.ReLU())


def _row(channels: int, *convs: tuple[int, int | tuple[int, int]]) -> nn.Sequential:
    """Convolutions of these (outputs, kernel), padded so that maps keep their size."""
    layers = []
    for out, kernel in convs:
        layers.append(_Conv(channels, out, kernel, padding="same"))
        channels = out
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """The channels of several modules side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, sum of channels, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class InceptionBlock(nn.Module):
    """A part of what its branches see is added to the input."""

    def __init__(self, channels: int, scale: float, *branches: nn.Sequential, relu: bool = True) -> None:
        super().__init__()
        self.scale, self.branches, self.relu = scale, Branches(*branches), nn.ReLU() if relu else nn.Identity()
        width = sum(branch[-1][0].out_channels for branch in branches)
        self.project = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        return self.relu(self.project(self.branches(x)) * self.scale + x)


class InceptionResnet(nn.Module):
    """Inception-ResNet-v1 of Szegedy et al., arXiv 1602.07261, as FaceNet uses it: unit embeddings (N, 512)."""

    def __init__(self) -> None:
        super().__init__()
        stem = [_Conv(3, 32, 3, 2), _Conv(32, 32, 3), _Conv(32, 64, 3, padding=1), nn.MaxPool2d(3, 2)]
        stem += [_Conv(64, 80, 1), _Conv(80, 192, 3), _Conv(192, 256, 3, 2)]
        first = [self._block(256, 0.17, [(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]) for _ in range(5)]
        shrink = [_Conv(256, 384, 3, 2), nn.Sequential(_row(256, (192, 1), (192, 3)), _Conv(192, 256, 3, 2))]
        second = [self._block(896, 0.1, [(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]) for _ in range(10)]
        again = [nn.Sequential(_row(896, (256, 1)), _Conv(256, out, 3, 2)) for out in (384, 256)]
        again.append(nn.Sequential(_row(896, (256, 1), (256, 3)), _Conv(256, 256, 3, 2)))
        third = [self._block(1792, 0.2, [(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]) for _ in range(5)]
        last = self._block(1792, 1.0, [(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))], relu=False)
        pools = [Branches(*shrink, nn.MaxPool2d(3, 2)), Branches(*again, nn.MaxPool2d(3, 2))]
        self.trunk = nn.Sequential(*stem, *first, pools[0], *second, pools[1], *third, last)
        self.pool, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.6)
        self.linear, self.norm = nn.Linear(1792, 512, bias=False), nn.BatchNorm1d(512, eps=0.001)

    @staticmethod
    def _block(channels: int, scale: float, *rows: list, relu: bool = True) -> InceptionBlock:
        return InceptionBlock(channels, scale, *(_row(channels, *row) for row in rows), relu=relu)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 512)."""
        x = self.dropout(self.pool(self.trunk(x)))
        return F.normalize(self.norm(self.linear(x.view(x.shape[0], -1))), p=2, dim=1)


class FairFaceNet(nn.Module):
    """ResNet-34 whose last layer gives the logits of several questions.

    Args:
        together: in one vector (N, 18), as FairFace's release does, or as a dict of a tensor for each question.
    """

    def __init__(self, together: bool = True) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for width, count in zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True):
            for block in range(count):
                layers.append(self._block(channels, width, 1 if block or width == 64 else 2))
                channels = width
        self.trunk, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1)
        self.together, self.fc = together, nn.Linear(512, sum(FAIRFACE_HEADS.values()))

    @staticmethod
    def _block(channels: int, out: int, stride: int) -> Residual:
        body = [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        body += [nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)]
        project = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        return Residual(nn.Sequential(*body), nn.Identity() if stride == 1 and channels == out else project, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(N, 18) logits, or those of each question by its name."""
        logits = self.fc(torch.flatten(self.pool(self.trunk(x)), 1))
        if self.together:
            return logits
        return dict(zip(FAIRFACE_HEADS, logits.split(list(FAIRFACE_HEADS.values()), 1), strict=True))
