"""Networks whose layers hold maps in other layouts, and the same networks with channels first."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Permuted(nn.Module):
    """A layer whose output becomes channels first and back, as hand-made twins of networks have it.

    Methods look at ``maps``, which sees (N, C, h, w).
    """

    def __init__(self, layer: nn.Module, grid: tuple[int, int], prefix: int | None) -> None:
        super().__init__()
        self.layer, self.maps, self.grid, self.prefix = layer, nn.Identity(), grid, prefix

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        held = self.layer(*args, **kwargs)
        x = held[0] if isinstance(held, tuple) else held
        if self.prefix is None:
            y = self.maps(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)
        else:
            patches = x[:, self.prefix :].reshape(len(x), *self.grid, x.shape[2]).permute(0, 3, 1, 2)
            back = self.maps(patches.contiguous()).permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[2])
            y = torch.cat([x[:, : self.prefix], back], 1)
        return (y, *held[1:]) if isinstance(held, tuple) else y


def twin(network: nn.Module, name: str, grid: tuple[int, int], prefix: int | None) -> tuple[nn.Module, nn.Module]:
    """A copy of a network that permutes after one layer, and the module that sees that layer's maps."""
    network = copy.deepcopy(network)
    parent, _, last = name.rpartition(".")
    permuted = Permuted(network.get_submodule(name), grid, prefix)
    setattr(network.get_submodule(parent), last, permuted)
    return network, permuted.maps


class SmallSwin(nn.Module):
    """Channels last up to the head, as in torchvision's Swin; ``permute`` sees them first."""

    def __init__(self, channels: int = 24, patch: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches, self.norm = nn.Conv2d(3, channels, patch, patch), nn.LayerNorm(channels)
            self.block = nn.Sequential(nn.Linear(channels, channels), nn.GELU())
            self.permute, self.head = nn.Identity(), nn.Linear(channels, 4)
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.patches(x).permute(0, 2, 3, 1))
        y = self.permute((y + self.block(y)).permute(0, 3, 1, 2))
        return self.head(y.relu().mean((2, 3)))


class Block(nn.Module):
    """Attention and an MLP; with ``as_tuple`` its output is a tuple, as in older releases of transformers."""

    def __init__(self, width: int, as_tuple: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, width))
        self.as_tuple = as_tuple

    def forward(self, x: Tensor) -> Any:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return (x, None) if self.as_tuple else x


class SmallViT(nn.Module):
    """A vision transformer for images of one size: ``prefix`` tokens before the patches, the first of which is read.

    Without any, the mean of the patches is.
    """

    def __init__(
        self, size: tuple[int, int] = (64, 48), prefix: int = 1, width: int = 16, as_tuple: bool = False
    ) -> None:
        super().__init__()
        self.grid, self.prefix = (size[0] // 8, size[1] // 8), prefix
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.patches = nn.Conv2d(3, width, 8, 8)
            self.tokens = nn.Parameter(torch.randn(1, prefix, width))
            self.position = nn.Parameter(torch.randn(1, prefix + self.grid[0] * self.grid[1], width))
            self.blocks = nn.ModuleList(Block(width, as_tuple) for _ in range(3))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)
            for parameter in self.parameters():  # so that all of them matter
                nn.init.normal_(parameter, std=0.4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.tokens.expand(len(x), -1, -1), y], 1) + self.position
        for block in self.blocks:
            y = block(y)
            y = y[0] if isinstance(y, tuple) else y
        y = self.norm(y)
        return self.head(y[:, 0] if self.prefix else y.mean(1))


# ------------------------------------------------------------------------------------------ for the command line
def vit() -> tuple[nn.Module, dict[str, Any]]:
    return SmallViT((48, 48)), {"size": 48, "crop": "none"}


def doubtful() -> tuple[nn.Module, dict[str, Any]]:
    """With more tokens before the patches than networks have."""
    return SmallViT((48, 48), prefix=18), {"size": 48, "crop": "none"}


def flat() -> tuple[nn.Module, dict[str, Any]]:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 3)), {"size": 48, "crop": "none"}
