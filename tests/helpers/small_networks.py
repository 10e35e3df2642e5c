"""Small networks that tests share: build one with the sizes that the test needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class SmallNet(nn.Module):
    """(N, in_channels, H, W) -> (N, classes): strided convolutions, each with a ReLU, and a linear head.

    Its layers are ``conv0``, ``relu0``, ``conv1``, ... and ``head``; incremental inference accepts it. Weights depend
    on the arguments only; the network is in evaluation mode.

    Args:
        size: (H, W) of the images, or the side of square ones.
        channels: outputs of each convolution, so ``(4, 4)`` makes two of them.
        in_channels, kernel, stride, classes: as usual.
        pool: side of an adaptive average pool before the head, which then accepts images of any size.
        softmax: probabilities; otherwise logits.
        seed: of the weights.
        dtype: of the weights and the images.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        channels: Sequence[int] = (4,),
        *,
        in_channels: int = 3,
        kernel: int = 5,
        stride: int = 2,
        classes: int = 2,
        pool: int | None = None,
        softmax: bool = True,
        seed: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._steps, self._pool, self._softmax = len(channels), pool, softmax
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for step, (before, after) in enumerate(zip([in_channels, *channels], channels, strict=False)):
                self.add_module(f"conv{step}", nn.Conv2d(before, after, kernel, stride))
                self.add_module(f"relu{step}", nn.ReLU())
            with torch.no_grad():
                features = self.features(torch.zeros(1, in_channels, *_size(size))).shape[1]
            self.head = nn.Linear(features, classes)
        self.to(dtype).eval()

    def features(self, x: Tensor) -> Tensor:
        for step in range(self._steps):
            x = self.get_submodule(f"relu{step}")(self.get_submodule(f"conv{step}")(x))
        if self._pool is not None:
            x = nn.functional.adaptive_avg_pool2d(x, self._pool)
        return x.flatten(1)

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """``scale`` multiplies the logits: a number, or (N,) one for each image."""
        logits = self.head(self.features(x)) * (scale[:, None] if isinstance(scale, Tensor) else scale)
        return logits.softmax(1) if self._softmax else logits


class LinearNet(nn.Module):
    """(N, C, H, W) -> (N, classes): weighted sums of pixels, so the drop of every score is known in closed form.

    The scores without a set of pixels, filled with ``f``, drop by the sum of ``weights * (x - f)`` over that set.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        in_channels: int = 3,
        classes: int = 2,
        seed: int = 5,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.Parameter(torch.randn(classes, in_channels, *_size(size), generator=generator, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x, self.weights)

    def drop(self, x: Tensor, hidden: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """(N, classes) how far the scores fall if the pixels of ``hidden``, (H, W) or (N, 1, H, W), are ``fill``."""
        return self((x - fill) * hidden)
