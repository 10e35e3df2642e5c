"""Which part of each feature map a hidden patch can have changed: integer arithmetic on intervals, no networks.

Positions are (y, x) pairs, so that every array is (J, 2) for J patches and both axes are done at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[int, int]
OUTSIDE = -(2**29)  # two of them still fit into int32, and no cache has that many positions


@dataclass(frozen=True)
class Reach:
    """Which inputs one output of a sliding operator reads, per axis.

    Concretely, output o reads the inputs ``o * stride - padding + i * dilation`` for i in 0..kernel-1.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def extent(self) -> Tensor:
        """(2,) pixels from the first input that an output reads to behind the last."""
        return (torch.tensor(self.kernel) - 1) * torch.tensor(self.dilation) + 1

    def changed(self, span: Span, size: Pair) -> Span:
        """The outputs, of a map of this size, that read an input of the span.

        Example::

            >>> Reach((3, 3), stride=(2, 2), padding=(1, 1)).changed(Span.of([[4, 4]], [[7, 5]]), (8, 8))
            Span(low=tensor([[2, 2]]), high=tensor([[4, 3]]))
        """
        stride, padding = torch.tensor(self.stride), torch.tensor(self.padding)
        low = -((self.extent() - 1 - padding - span.low) // stride)  # rounded up
        high = (span.high - 1 + padding) // stride + 1
        return Span(low, high).within(size)

    def needed(self, starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Where the inputs of output windows start, and how many they are; they may lie beyond the map."""
        stride, padding = torch.tensor(self.stride), torch.tensor(self.padding)
        return starts * stride - padding, (sizes - 1) * stride + self.extent()


@dataclass(frozen=True)
class Span:
    """The positions [low, high) of a map that each patch can have changed, (J, 2) each; never empty."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, low: list[list[int]], high: list[list[int]]) -> Span:
        """From nested lists."""
        return cls(torch.tensor(low), torch.tensor(high))

    def within(self, size: Pair) -> Span:
        """Cut off at the borders of a map. A span of nothing becomes one position: computed anew, it stays as it is."""
        limit = torch.tensor(size)
        low = torch.minimum(self.low.clamp(min=0), limit - 1)
        return Span(low, torch.maximum(torch.minimum(self.high, limit), low + 1))

    def union(self, other: Span) -> Span:
        """The smallest span around both."""
        return Span(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    def shifted(self, by: Pair) -> Span:
        """The same positions of a map that has grown by so much before them."""
        return Span(self.low + torch.tensor(by), self.high + torch.tensor(by))

    def scaled(self, factor: Pair) -> Span:
        """The positions after every pixel has been repeated."""
        return Span(self.low * torch.tensor(factor), self.high * torch.tensor(factor))

    def __getitem__(self, order: Tensor) -> Span:
        return Span(self.low[order], self.high[order])

    def extents(self) -> Tensor:
        """(J, 2) sides."""
        return self.high - self.low


@dataclass(frozen=True)
class Windows:
    """Spans widened so that all rows of a batch have the same size.

    Attributes:
        starts: (J, 2), never such that a window leaves the map.
        sizes: (B, 2), the side of all windows of each batch.
    """

    starts: Tensor
    sizes: Tensor

    @classmethod
    def around(cls, span: Span, batch: Tensor, batches: int, size: Pair) -> Windows:
        """The smallest such windows.

        Args:
            span: of J patches.
            batch: (J,), the batch of each patch.
            batches: how many there are.
            size: of the map.

        Example::

            >>> Windows.around(Span.of([[5, 0], [0, 0]], [[6, 3], [4, 2]]), torch.tensor([0, 0]), 1, (6, 6))
            Windows(starts=tensor([[2, 0],
                    [0, 0]]), sizes=tensor([[4, 3]]))
        """
        sizes = torch.zeros(batches, 2, dtype=torch.int64)
        sizes.scatter_reduce_(0, batch[:, None].expand(-1, 2), span.extents(), "amax")
        return cls(torch.minimum(span.low, torch.tensor(size) - sizes[batch]), sizes)

    def shares(self, size: Pair) -> Tensor:
        """(B,) part of the map that the windows cover."""
        return self.sizes.prod(1) / (size[0] * size[1])


def places(starts: Tensor, count: int, step: int, extent: Tensor | int, scale: Tensor | int, base: Tensor) -> Tensor:
    """Where the pixels of a row (or column) of a region lie in a flat store, or OUTSIDE.

    Concretely, pixel i of row j is at ``base[j] + p * scale`` with ``p = starts[j] + i * step``, if 0 <= p < extent.

    Args:
        starts: (J,) first position.
        count: pixels.
        step: distance of neighbouring pixels.
        extent: length of the axis, one or (J,).
        scale: distance of neighbouring positions in the store, one or (J,).
        base: (J,) where position 0 lies.

    Returns:
        (J, count) int32.

    Example::

        >>> places(torch.tensor([-1]), 3, 1, 2, 10, torch.tensor([100]))
        tensor([[-536870912,        100,        110]], dtype=torch.int32)
    """
    extent, scale = (v[:, None] if isinstance(v, Tensor) else v for v in (extent, scale))
    position = starts[:, None] + step * torch.arange(count)
    inside = (position >= 0) & (position < extent)
    return torch.where(inside, base[:, None] + position * scale, OUTSIDE).int()
