"""Networks with layers, and slow computations of Grad-CAM++ and Score-CAM."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.score_cam import LayerScoreCam

LAYER_METHODS = [LayerGradCamPlusPlus, LayerScoreCam]
METHODS = [*LAYER_METHODS, GuidedGradCamPlusPlus]
WEIGHTINGS = ["increase", "softmax"]


class Net(nn.Module):
    """(N, 3, 11, 9) -> 4 scores; a second photo, a scale per image and one more number are optional."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(5 * 3 * 2, 4)

    def upper(self, activations: Tensor, scale: Tensor | float = 1.0, power: int = 1) -> Tensor:
        scale = scale[:, None] if isinstance(scale, Tensor) else scale
        return (scale * self.head(self.pool(activations).flatten(1))) ** power

    def forward(self, x: Tensor, scale: Tensor | float = 1.0, power: int = 1) -> Tensor:
        if x.isnan().any():
            raise ZeroDivisionError("of the network")
        return self.upper(self.relu(self.conv(x)), scale, power)


class Grid(nn.Module):
    """The four scores of a network as (N, 2, 2)."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).reshape(-1, 2, 2)


class Pair(nn.Module):
    """Two photos and metadata (N, 2) -> (N, 4); the layer ``both`` sees the photos side by side."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(12)
        self.both = nn.Sequential(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(5 * 5 * 4 + 2, 4)

    def forward(self, x: Tensor, y: Tensor, data: Tensor) -> Tensor:
        return self.head(torch.cat([self.both(torch.cat([x, y], 1)).flatten(1), data], 1))


class TwoTensors(nn.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = self.net.conv(x)
        return self.net.relu(before), 2 * before[:, :3].square()


class TupleNet(nn.Module):
    """A layer with two tensors, (N, 5, 6, 5) and (N, 3, 6, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = TwoTensors(Net())
        self.head = nn.Linear(3 * 6 * 5, 4)

    def upper(self, first: Tensor, second: Tensor) -> Tensor:
        return self.layer.net.upper(first) + self.head(second.flatten(1)) ** 2

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(*self.layer(x))


def plus_plus(activations: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Grad-CAM++ of one image by loops: activations (C, h, w), the score of activations (1, C, h, w)."""
    leaf = activations[None].double().requires_grad_()
    gradients = torch.autograd.grad(score(leaf), leaf)[0][0].tolist()
    result = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for gradient, channel in zip(gradients, activations.double(), strict=True):
        weight = 0.0
        for g in [g for row in gradient for g in row]:
            denominator = 2 * g**2 + g**3 * float(channel.sum())
            weight += g**2 / (denominator if denominator else 1.0) * max(g, 0.0)
        result += weight * channel
    return result


def scored(
    photos: tuple[Tensor, ...],
    activations: Tensor,
    score: Callable[..., Tensor],
    weighting: str,
    hidden: tuple[Tensor, ...],
) -> Tensor:
    """Score-CAM of one image by loops: each photo (C, H, W), activations (C, h, w), what a mask of 0 shows."""
    scores: list[float | None] = []
    for channel in activations:
        seen = []
        for photo, behind in zip(photos, hidden, strict=True):
            large = F.interpolate(channel[None, None], photo.shape[1:], mode="bilinear", align_corners=False)[0, 0]
            mask = (large - large.min()) / (large.max() - large.min())
            seen.append((mask * photo + (1 - mask) * behind)[None])
        scores.append(None if channel.max() == channel.min() else float(score(*seen).detach()))
    if weighting == "increase":
        baseline = float(score(*[behind[None] for behind in hidden]).detach())
        weights = [0.0 if s is None else s - baseline for s in scores]
    else:
        total = sum(math.exp(s) for s in scores if s is not None)
        weights = [0.0 if s is None else math.exp(s) / total for s in scores]
    return sum((w * channel.double() for w, channel in zip(weights, activations, strict=True)), torch.zeros(1))


def slow(method: type, net: Net, x: Tensor, targets: list[Any], **arguments: Any) -> Tensor:
    """The maps (N, 1, h, w) of a whole batch, image by image."""
    double = Net().double()
    double.load_state_dict(net.state_dict())
    rows = []
    for photo, target in zip(x.double(), targets, strict=True):
        activations = double.relu(double.conv(photo[None])).detach()[0]
        if method is LayerGradCamPlusPlus:
            rows.append(plus_plus(activations, lambda a, t=target: double.upper(a, **arguments)[0, t]))
        else:
            score = lambda p, t=target: double(p, **arguments)[0, t]  # noqa: E731
            rows.append(scored((photo,), activations, score, "increase", (torch.zeros_like(photo),)))
    return torch.stack(rows)[:, None].detach()


def same(actual: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    assert expected.abs().max() > 1e-3, "the case must not be empty"
    assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=1e-4)


def hooks(net: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)
