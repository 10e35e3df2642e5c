"""Regions of clean maps with the changed windows put in: the one primitive of incremental inference.

A store keeps the maps of a step as rows of channels, one row for each pixel, and behind them the windows of the batch
that is being run. One index tensor then gathers any region, halo, padding and changes included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_canonical.incremental.operators import MINUS_INFINITY, ZERO
from captum_canonical.incremental.windows import Pair, Windows, places

PADDING_ROWS = 2  # MINUS_INFINITY and ZERO


class Store:
    """Clean maps (N, C, H, W) of one step, and room for the windows of a batch.

    Args:
        images: how many clean maps it holds at most.
        like: one map, (1, C, H, W).
        room: pixels of windows.
    """

    def __init__(self, images: int, shape: tuple[int, ...], like: Tensor, room: int) -> None:
        _, self.channels, height, width = shape
        self.size: Pair = (height, width)
        self.images = images
        self.tail = PADDING_ROWS + images * height * width
        self.rows = like.new_empty(self.tail + room, self.channels)
        self.rows[MINUS_INFINITY] = -torch.inf
        self.rows[ZERO] = 0

    def fill(self, maps: Tensor) -> None:
        """Takes in clean maps."""
        pixels = len(maps) * self.size[0] * self.size[1]
        target = self.rows[PADDING_ROWS : PADDING_ROWS + pixels].view(len(maps), *self.size, self.channels)
        target.copy_(maps.permute(0, 2, 3, 1))

    def reserve(self, room: int) -> None:
        """Makes sure that so many pixels of windows fit."""
        if len(self.rows) < self.tail + room:
            rows = self.rows.new_empty(self.tail + room, self.channels)
            rows[: self.tail] = self.rows[: self.tail]
            self.rows = rows

    def room_for(self, first: int, count: int, size: Pair) -> Tensor:
        """Where the windows (R, C, h, w), channels last, of rows ``first``, ``first + 1``, ... of a batch lie."""
        height, width = size
        start = self.tail + first * height * width
        rows = self.rows[start : start + count * height * width]
        return rows.view(count, height, width, self.channels).permute(0, 3, 1, 2)

    def gather(self, index: Tensor, size: Pair, out: Tensor | None = None) -> Tensor:
        """The region (R, C, h, w), channels last, of the rows that an index names."""
        if out is None:
            rows = self.rows.index_select(0, index)
        else:
            rows = out[: len(index) * self.channels].view(len(index), self.channels)
            torch.index_select(self.rows, 0, index, out=rows)
        return rows.view(-1, *size, self.channels).permute(0, 3, 1, 2)


class Region:
    """Where the same region of each patch's map lies in a store.

    Args:
        store: of the maps.
        image: (J,) the store's map of each patch.
        windows: the region itself; it may reach beyond the map.
        step: distance of the pixels that are wanted.
        batch: (J,) the batch of each patch.
        row: (J,) its place in there.
        changed: the windows of the step in the store, or None for the clean map.
        outside: the row that stands for pixels beyond the map.
    """

    def __init__(
        self,
        store: Store,
        image: Tensor,
        windows: Windows,
        step: Pair,
        batch: Tensor,
        row: Tensor,
        changed: Windows | None,
        outside: int,
    ) -> None:
        self.outside, self.sizes = outside, windows.sizes.tolist()
        (height, width), device = store.size, store.rows.device
        counts = windows.sizes.amax(0).tolist()
        zero = torch.zeros_like(image)
        y, x = windows.starts.unbind(1)
        self.clean = (
            places(y, counts[0], step[0], height, width, PADDING_ROWS + image * height * width).to(device),
            places(x, counts[1], step[1], width, 1, zero).to(device),
        )
        self.changed: tuple[Tensor, Tensor] | None = None
        if changed is not None:
            h, w = changed.sizes[batch].unbind(1)
            self.changed = (
                places(y - changed.starts[:, 0], counts[0], step[0], h, w, store.tail + row * h * w).to(device),
                places(x - changed.starts[:, 1], counts[1], step[1], w, 1, zero).to(device),
            )

    def index(self, number: int, part: slice) -> tuple[Tensor, Pair]:
        """(rows of the store, size of the region) for these patches of a batch."""
        height, width = self.sizes[number]
        index = self.clean[0][part, :height, None] + self.clean[1][part, None, :width]
        if self.changed is not None:
            # Windows lie behind the clean maps, and what is outside of either is negative: the larger one counts.
            changed = self.changed[0][part, :height, None] + self.changed[1][part, None, :width]
            index = torch.maximum(index, changed, out=index)
        return index.clamp_(min=self.outside).view(-1), (height, width)
