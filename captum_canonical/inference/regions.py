"""Regions of clean maps with the changed windows put in: the one primitive of incremental inference.

A store keeps the maps of a step as rows of channels, one row for each pixel, and behind them the windows of the batch
that is being run. One index tensor then gathers any region, halo, padding and changes included.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from captum_canonical.inference.network import Network, Step
from captum_canonical.inference.operators import MINUS_INFINITY, ZERO, Mean
from captum_canonical.inference.windows import Pair, Windows, places

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


class CleanMaps:
    """What the network makes of the clean images, as far as windows need it.

    Args:
        network: the steps.
        fills: for each input what hidden pixels become: a number, or a tensor that broadcasts against the input.
        rows: patches that are run together.

    Attributes:
        images_at_once: the images of a group; their clean maps take no more memory than those of a dense batch.
        group: whose activations these are; -1 before the first.
        outputs: the network's output for each group that has been run.
    """

    def __init__(self, network: Network, fills: tuple[Tensor | float, ...], rows: int) -> None:
        self.network, self.group = network, -1
        self.num_images = len(network.given[0])
        self.images_at_once = self._images_at_once(rows)
        self.outputs: dict[int, Tensor] = {}
        self._fills = dict(zip((step.node for step in network.placeholders), fills, strict=False))
        self._stores: dict[fx.Node, Store] = {}
        self._fill_stores: dict[fx.Node, Store] = {}
        self._room: dict[fx.Node, int] = {}
        self._values: dict[fx.Node, Any] = {}
        self._means: dict[fx.Node, Tensor] = {}
        self._scratch: dict[torch.dtype, Tensor] = {}

    @property
    def groups(self) -> int:
        """How many groups the images make."""
        return -(-self.num_images // self.images_at_once)

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        stores = [*self._stores.values(), *self._fill_stores.values()]
        kept = [store.rows for store in stores] + [v for v in self._values.values() if isinstance(v, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept + list(self._scratch.values()))

    def _images_at_once(self, rows: int) -> int:
        maps = [step for step in self.network.steps.values() if step.is_map]
        numbers = {step: torch.Size(step.shape or ()).numel() for step in maps}
        kept = sum(count for step, count in numbers.items() if step.cached)
        dense = 2 * max(numbers.values(), default=1) * rows  # an operator's input and output
        return max(1, min(self.num_images, dense // max(kept, 1)))

    @torch.inference_mode()
    def enter(self, group: int) -> None:
        """Runs the clean images of a group."""
        images = slice(group * self.images_at_once, (group + 1) * self.images_at_once)
        network, values = self.network, dict(self.network.constants)
        given = iter(network.given)
        last = {source: step.node for step in network.steps.values() for source in step.node.all_input_nodes}
        self._values, self.group = {}, group
        for step in network.steps.values():
            node = step.node
            if node.op == "placeholder":
                value = next(given).detach()[images]
                values[node] = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
            elif node.op == "output":
                self.outputs[group] = values[next(iter(node.all_input_nodes))].clone()
            elif node not in network.constants:
                values[node] = network.run(step, values.__getitem__)
            self._keep(step, values.get(node), images)
            for source in node.all_input_nodes:
                if last[source] is node and source not in network.constants:
                    del values[source]

    def _keep(self, step: Step, value: Any, images: slice) -> None:
        readers = [self.network.steps[user] for user in step.node.users]
        if step.cached or (step.node.op == "placeholder" and step.hidden):
            self.store(step).fill(step.channels_first(value))
        if step.per_image and not step.hidden and any(r.hidden and (r.head or not step.cached) for r in readers):
            self._values[step.node] = value
        if step.hidden and isinstance(step.operator, Mean):
            self._means[step.node] = value[:, :, None, None] if value.ndim == 2 else value
        fill = self._fills.get(step.node)
        if step.hidden and isinstance(fill, Tensor):
            if step.node not in self._fill_stores:
                self._fill_stores[step.node] = self._new_store(step)
            self._fill_stores[step.node].fill(fill.detach().expand(self.num_images, *value.shape[1:])[images])

    def store(self, step: Step) -> Store:
        """The store of a step's maps."""
        if step.node not in self._stores:
            self._stores[step.node] = self._new_store(step)
        return self._stores[step.node]

    def _new_store(self, step: Step) -> Store:
        assert step.like is not None  # for mypy
        return Store(self.images_at_once, (1, step.channels, *step.size), step.like, self._room.get(step.node, 0))

    def fill_of(self, step: Step) -> Store | float:
        """What hidden pixels of an input become."""
        return self._fill_stores[step.node] if step.node in self._fill_stores else float(self._fills[step.node])

    def rows_of(self, node: fx.Node, images: Tensor) -> Any:
        """A value that no patch changes, brought to rows that show these images of the group."""
        value = self._values[node]
        return value.index_select(0, images.to(value.device)) if isinstance(value, Tensor) and value.ndim else value

    def mean_of(self, step: Step, images: Tensor) -> Tensor:
        """The clean result (R, C, 1, 1) of a mean over maps."""
        return self._means[step.node].index_select(0, images.to(self._means[step.node].device))

    @torch.inference_mode()
    def reserve(self, room: dict[fx.Node, int]) -> None:
        """Makes room in the stores for so many pixels of windows of each step."""
        for node, pixels in room.items():
            self._room[node] = max(pixels, self._room.get(node, 0))
            if node in self._stores:
                self._stores[node].reserve(self._room[node])

    def scratch(self, step: Step, numbers: int) -> Tensor:
        """Room for a region that is used up at once."""
        assert step.like is not None  # for mypy
        have = self._scratch.get(step.like.dtype)
        if have is None or len(have) < numbers:
            have = self._scratch[step.like.dtype] = step.like.new_empty(numbers)
        return have

    def free_scratch(self) -> None:
        """Frees the memory of :meth:`scratch`."""
        self._scratch.clear()
