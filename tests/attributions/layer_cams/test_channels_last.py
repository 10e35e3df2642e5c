"""Layers whose channels come last make grids of width x channels, which are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import LayerActivation, LayerGradCam, NoiseTunnel
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.attributions.base import check_grid, run_attribution
from face_tools import mesh_of, noise

FACE = cc.CanonicalFace.default(32)


class Swin(nn.Module):
    """A block with channels last, and the permutation after it, as in torchvision's Swin."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm, self.permute = nn.Conv2d(3, 24, 8, 8), nn.LayerNorm(24), nn.Identity()
        self.head = nn.Linear(24, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.patches(x).permute(0, 2, 3, 1))
        return self.head(self.permute(tokens.permute(0, 3, 1, 2)).relu().mean((2, 3)))


NET = Swin()


def project(method: Any, mesh: cc.FaceMesh, x: Tensor, **arguments: Any) -> Tensor:
    return cc.CanonicalProjector(method, mesh, FACE).attribute(x, **arguments)


WAYS: dict[str, Callable[[nn.Module, Tensor, Any], Any]] = {
    "projector": lambda layer, x, mesh: project(LayerGradCam(NET, layer), mesh, x, target=1),
    "tunnel": lambda layer, x, mesh: project(NoiseTunnel(LayerGradCam(NET, layer)), mesh, x, target=1, nt_samples=2),
    "run": lambda layer, x, mesh: run_attribution(LayerGradCam(NET, layer), x, {"target": 1}),
    "grad-cam++": lambda layer, x, mesh: cc.LayerGradCamPlusPlus(NET, layer).attribute(x, 1),
    "score-cam": lambda layer, x, mesh: cc.LayerScoreCam(NET, layer).attribute(x, 1),
    "activation": lambda layer, x, mesh: project(LayerActivation(NET, layer), mesh, x),
}


@pytest.mark.parametrize("size", [(64, 64), (64, 48)])
@pytest.mark.parametrize("way", WAYS)
def test_channels_last_are_refused(way: str, size: tuple[int, int]) -> None:
    x, mesh = noise(2, size), mesh_of(FACE, 2, size)
    with pytest.raises(cc.CanonicalError, match=r"maps are \(\d, 24\).*channels come last.*permute"):
        WAYS[way](NET.norm, x, mesh)
    WAYS[way](NET.permute, x, mesh)


@pytest.mark.parametrize(("grid", "image"), [((56, 96), 224), ((28, 192), 224), ((14, 384), 224), ((7, 768), 224)])
def test_grids_of_torchvisions_networks_are_told_apart(grid: tuple[int, int], image: int) -> None:
    photo = [torch.zeros(1, 3, image, image)]
    with pytest.raises(cc.CanonicalError, match="channels come last"):
        check_grid(None, torch.zeros(1, 1, *grid), photo)
    check_grid(None, torch.zeros(1, 1, grid[0], grid[0]), photo)


@pytest.mark.parametrize("image", [(112, 96), (224, 112), (97, 61), (33, 33), (11, 9)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("padded", [True, False])
def test_grids_of_convolutions_are_fine(image: tuple[int, int], kernel: int, stride: int, padded: bool) -> None:
    x = torch.zeros(1, 1, *image)
    convolution = nn.Conv2d(1, 1, kernel, stride, kernel // 2 if padded else 0)
    for _ in range(1 if stride == 1 else 4):
        if min(x.shape[2:]) < kernel:
            break
        x = convolution(x).detach()
        check_grid(None, x, [torch.zeros(1, 1, *image)])
