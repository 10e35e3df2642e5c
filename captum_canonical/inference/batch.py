"""One batch of patches on its way through the network: windows as long as they are small, complete maps after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from captum_canonical.inference.network import Step
from captum_canonical.inference.operators import ZERO, Enlarge, Mean, Pointwise, Query, Shift, Slide
from captum_canonical.inference.plan import Plan
from captum_canonical.inference.regions import CleanMaps, Region
from captum_canonical.inference.windows import Windows

Regions = dict[tuple[fx.Node, fx.Node, str], Region]


class Changed(NamedTuple):
    """What the patches of a batch make of their windows of a step: (R, C, h, w), or a tuple of these."""

    data: Any


class Batch:
    """Runs the trunk of a network for some patches.

    Args:
        clean: the clean maps of the images that they belong to.
        plan: with all patches.
        number: of the batch.
        part: these patches; all of the batch, or a part of it.
        first: how many patches of the batch come before them.
        regions: that have been worked out for this plan; shared by its batches.
    """

    def __init__(self, clean: CleanMaps, plan: Plan, number: int, part: slice, first: int, regions: Regions) -> None:
        self.clean, self.plan, self.network = clean, plan, plan.network
        self.number, self.part, self.first, self.regions = number, part, first, regions
        self.images = plan.image[part] - clean.group * clean.images_at_once
        self.values: dict[fx.Node, Any] = {}

    @torch.inference_mode()
    def results(self) -> list[Tensor]:
        """What the head needs: the complete values of the plan's frontier, in its order."""
        for step in self.network.steps.values():
            if not step.hidden or step.head or step.node.op == "output":
                continue
            if isinstance(step.operator, Query):
                self.values[step.node] = self.network.run(step, self._empty_like)
            elif self.plan.complete[step.node][self.number]:
                self.values[step.node] = self._complete(step)
            else:
                self.values[step.node] = self._windowed(step)
            for source in self.network.last_read[step.node]:
                self.values.pop(source, None)
        return [self._map(self.network.steps[node], self.network.output) for node in self.network.frontier]

    # ------------------------------------------------------------------------------------------------ complete maps
    def _complete(self, step: Step) -> Any:
        if isinstance(step.operator, Mean):
            value = self.values[step.sources[0].node]
            if isinstance(value, Changed):
                return self._mean(step, step.operator, value)
        return self.network.run(step, lambda node: self._map(self.network.steps[node], step))

    def _map(self, step: Step, reader: Step) -> Any:
        """The complete value of a step for every row."""
        if step.node in self.network.constants:
            return self.network.constants[step.node]
        value = self.values.get(step.node)
        if step.hidden and not isinstance(value, Changed):
            return value
        if not step.cached:
            return self.clean.rows_of(step.node, self.images)
        return self._gathered(step, self._region(step, reader, "complete", lambda: self._everything(step)))

    def _everything(self, step: Step) -> Windows:
        starts = torch.zeros(len(self.plan.order), 2, dtype=torch.int64)
        return Windows(starts, torch.tensor(step.size).expand(len(self.plan), 2))

    def _empty_like(self, node: fx.Node) -> Any:
        """Something of the shape that a step has for all rows, without contents."""
        step = self.network.steps[node]
        if step.like is None or step.shape is None:
            return self.values.get(node, self.network.constants.get(node))
        return step.like.expand(len(self.images), *step.shape[1:])

    def _mean(self, step: Step, operator: Mean, value: Changed) -> Tensor:
        """The clean mean and the difference that the windows make."""
        source = step.sources[0]
        windows = self.plan.windows[source.node]
        before = self._gathered(source, self._region(source, step, "clean", lambda: windows, changed=False))
        difference = (value.data - before).sum((2, 3), keepdim=True) / operator.divisor
        clean = self.clean.mean_of(step, self.images)
        result = clean + difference
        return result if operator.keepdim else result.flatten(1)

    # ------------------------------------------------------------------------------------------------------ windows
    def _windowed(self, step: Step) -> Changed:
        if step.node.op == "placeholder":
            data = self._hide(step)
        elif isinstance(step.operator, Slide):
            data = self._slide(step, step.operator)
        elif isinstance(step.operator, Shift):
            data = step.operator.on_window(self.values[step.sources[0].node].data)
        elif isinstance(step.operator, Enlarge):
            down, right = step.operator.factor
            data = self.values[step.sources[0].node].data.repeat_interleave(down, 2).repeat_interleave(right, 3)
        else:
            assert isinstance(step.operator, Pointwise)  # for mypy
            return Changed(self._pointwise(step, step.operator))
        if step.cached:
            self._room(step, data.shape[2:]).copy_(data)
        return Changed(data)

    def _room(self, step: Step, size: torch.Size) -> Tensor:
        """Where the windows of a cached step belong."""
        return self.clean.store(step).room_for(self.first, len(self.images), (size[0], size[1]))

    def _pointwise(self, step: Step, operator: Pointwise) -> Any:
        def lookup(node: fx.Node) -> Any:
            return self._window_of(self.network.steps[node], step)

        if not step.cached:
            return self.network.run(step, lookup)
        if operator.into is None or step.turned:
            data = self.network.run(step, lookup)
            maps = step.channels_first(data)
            self._room(step, maps.shape[2:]).copy_(maps)
            return data
        args = [lookup(node) for node in step.node.args if isinstance(node, fx.Node)]
        size = max((arg.shape[-2:] for arg in args), key=lambda size: size.numel())
        return operator.into(*args, out=self._room(step, size))

    def _hide(self, step: Step) -> Tensor:
        """The windows of an input: clean pixels, and what hides them in the boxes."""
        windows = self.plan.windows[step.node]
        region = self._region(step, step, "input", lambda: windows, changed=False)
        data = self._gathered(step, region)
        box = self.plan.boxes[step.node.meta["input"]]
        if box is None:
            return data
        box = box[self.part] - windows.starts[self.part].flip(1).repeat(1, 2)
        left, top, right, bottom = (side[:, None] for side in box.to(data.device).unbind(1))
        y, x = (torch.arange(side, device=data.device) for side in data.shape[2:])
        rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        fill = self.clean.fill_of(step)
        if isinstance(fill, float):
            return data.masked_fill_(inside, fill)
        index, size = region.index(self.number, self.part)
        return torch.where(inside, fill.gather(index, size), data)

    def _slide(self, step: Step, operator: Slide) -> Tensor:
        source = step.sources[0]
        windows = self.plan.windows[step.node]
        if step.passes_windows_on:
            region = self.values[source.node].data
        else:
            place = self._region(
                source,
                step,
                "slide",
                lambda: _read_by(operator, windows),
                step_by=operator.reach.stride if operator.reads_pixels else (1, 1),
                outside=operator.outside,
            )
            region = self._gathered(source, place, reuse=True)
        data = operator.on_region(region)
        if operator.scale is not None:
            y, x = (windows.starts[self.part, axis, None] + torch.arange(data.shape[2 + axis]) for axis in (0, 1))
            y, x = y.to(data.device), x.to(data.device)
            data = data * operator.scale[y[:, :, None], x[:, None, :]][:, None]
        return data.contiguous(memory_format=torch.channels_last)

    def _window_of(self, step: Step, reader: Step) -> Any:
        """What a pointwise operator reads of a step: the region of its own windows."""
        if not step.is_map and not step.parts:
            return self._map(step, reader)
        value = self.values.get(step.node)
        wanted = self.plan.windows[reader.node]
        if isinstance(value, Changed) and self._same(self.plan.windows[step.node], wanted):
            return value.data
        return self._gathered(step, self._region(step, reader, "union", lambda: wanted))

    def _same(self, windows: Windows, others: Windows) -> bool:
        if windows is others:
            return True
        sizes = torch.equal(windows.sizes[self.number], others.sizes[self.number])
        return sizes and torch.equal(windows.starts[self.part], others.starts[self.part])

    # ------------------------------------------------------------------------------------------------------ regions
    def _region(
        self,
        step: Step,
        reader: Step,
        purpose: str,
        windows: Callable[[], Windows],
        changed: bool = True,
        step_by: tuple[int, int] = (1, 1),
        outside: int = ZERO,
    ) -> Region:
        """Where a region of a step's maps lies for all patches of the plan; found by the first batch that asks."""
        key = (reader.node, step.node, purpose)
        if key not in self.regions:
            inside = self.plan.windows[step.node] if changed and step.hidden else None
            store = self.clean.store(step)
            image = self.plan.image % self.clean.images_at_once
            place = (self.plan.batch, self.plan.row)
            self.regions[key] = Region(store, image, windows(), step_by, *place, inside, outside)
        return self.regions[key]

    def _gathered(self, step: Step, region: Region, reuse: bool = False) -> Tensor:
        """The region for each row of this batch, (R, C, h, w)."""
        store = self.clean.store(step)
        index, size = region.index(self.number, self.part)
        out = self.clean.scratch(step, len(index) * store.channels) if reuse else None
        return step.as_it_is(store.gather(index, size, out))


def _read_by(operator: Slide, windows: Windows) -> Windows:
    """What the operator reads of its source for these windows of its result."""
    starts, sizes = operator.reach.needed(windows.starts, windows.sizes)
    return Windows(starts, windows.sizes if operator.reads_pixels else sizes)
