"""Exact incremental occlusion: for each hidden patch only the windows that it can have changed are computed anew.

The clean activations of an image are kept; a patch changes a window of the input, that window a somewhat larger one of
the next map, and so on (a kernel adds its reach, a stride divides). The windows of many patches are gathered with the
halo they need and run as one batch of small maps through the ordinary operators.

References:
    Nakandala, Kumar, Papakonstantinou: Incremental and Approximate Inference for Faster Occlusion-based Deep CNN
    Explanations, SIGMOD 2019, doi 10.1145/3299869.3319874 (the idea; theirs is another implementation).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from captum_canonical.checks import exact_device
from captum_canonical.inference.batch import Batch, Regions
from captum_canonical.inference.costs import Expected
from captum_canonical.inference.dense import OutOfMemoryRetry, Patches, check_finite
from captum_canonical.inference.graph import NotIncrementalError
from captum_canonical.inference.network import Network
from captum_canonical.inference.operators import Whole
from captum_canonical.inference.plan import Plan, dense_work
from captum_canonical.inference.regions import CleanMaps
from captum_canonical.inference.scorer import Scorer

# Patches that are run together: fewer leave the processor idle, more overflow its caches, complete maps sooner than
# windows. MobileNetV3, complete from the first squeeze and excitation on: 2.8 ms a patch at 16, 6.6 at 64.
ROWS, ROWS_OF_SMALL, ROWS_OF_COMPLETE = 32, 64, 16
ROWS_GPU = 256  # VGG-16 on an H200: 0.126 ms a patch at 16, 0.073 at 64, 0.064 at 256 (benchmarks/results/gpu.json)
SMALL = 2e8  # multiply-adds of a network for one image
HEAD_ROWS = 512  # the linear layers' weights are read once for so many rows
HEAD_NUMBERS = 2**24


class IncrementalInference:
    """Scores of occluded images, at the cost of the windows that change.

    Memory: the clean maps of as many images as take no more than the maps of a dense batch, and a batch of windows.

    Args:
        scorer: gives the scores of a batch; its forward function is traced, and not called any more.
        inputs: the clean inputs of the model, each (N, ...).
        fills: for each input what hidden pixels become: a number, or a tensor that broadcasts against the input.
        rows: patches that are run together. Default: 256 on a GPU, else 32; 16 where an operator needs complete maps,
            64 for any other network of less than 0.2 billion multiply-adds.
        hidden: for each input whether patches of it are hidden. Default: of all that are images.

    Raises:
        NotIncrementalError: the network does not allow it; the message says which module is in the way.

    Example::

        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(1)).eval()
        >>> photo, box = torch.rand(1, 3, 16, 16), torch.tensor([[2, 2, 5, 5]])
        >>> patches = Patches(torch.tensor([0]), (box,))
        >>> engine = IncrementalInference(Scorer(net, 7, (), 1), (photo,), (0.0,))
        >>> photo[:, :, 2:5, 2:5] = 0
        >>> torch.testing.assert_close(engine.occluded_scores(patches), net(photo)[:, 7].double())
        >>> round(engine.plan(patches).ratio, 2)
        7.84
    """

    def __init__(
        self,
        scorer: Scorer,
        inputs: tuple[Tensor, ...],
        fills: tuple[Tensor | float, ...],
        rows: int | None = None,
        hidden: tuple[bool, ...] | None = None,
    ) -> None:
        hidden = tuple(x.ndim == 4 for x in inputs) if hidden is None else hidden
        for x, here in zip(inputs, hidden, strict=True):
            if here and (x.ndim != 4 or not x.is_floating_point()):
                raise NotIncrementalError(f"an input is {x.dtype} of shape {tuple(x.shape)}, not images (N, C, H, W)")
        # Inference tensors never leave this class, and the network must not get hold of the user's.
        self.inputs = tuple(x.detach() for x in inputs)
        self.scorer = copy.copy(scorer)
        self.scorer.additional_forward_args = ()
        with torch.inference_mode():
            self.network = Network(scorer.forward_func, self.inputs, hidden, scorer.additional_forward_args)
            self.expected = Expected(self.network)
            self.rows = rows or self._default_rows()
            self.clean = CleanMaps(self.network, fills, self.rows)
        self._plan: tuple[Patches, Plan] | None = None
        self._retry = OutOfMemoryRetry(self.clean.free_scratch)

    def _default_rows(self) -> int:
        if self.inputs[0].is_cuda:
            return ROWS_GPU
        steps = self.network.steps.values()
        if any(s.hidden and s.is_map and max(s.size) > 1 and isinstance(s.operator, Whole) for s in steps):
            return ROWS_OF_COMPLETE
        return ROWS_OF_SMALL if dense_work(self.network) < SMALL else ROWS

    def clean_scores(self) -> Tensor:
        """(N,) float64."""
        for group in range(self.clean.groups):
            if group not in self.clean.outputs:
                self.clean.enter(group)
        images = torch.arange(len(self.inputs[0]))
        output = torch.cat([self.clean.outputs[group] for group in range(self.clean.groups)])
        scores = self._score(output, images)
        check_finite(scores, images, "clean")
        return scores

    def forwards(self, patches: Patches) -> int:
        """How many batches the patches take."""
        return len(self.plan(patches))

    def plan(self, patches: Patches, rows: int | None = None) -> Plan:
        """How the patches are run; ``plan(patches).report()`` is a table of it."""
        if rows is not None:
            return Plan(self.expected, patches, rows, self.clean.images_at_once)
        if self._plan is None or self._plan[0] is not patches:
            self._plan = (patches, self.plan(patches, self.rows))
        return self._plan[1]

    def occluded_scores(self, patches: Patches, tick: Callable[[], object] = lambda: None) -> Tensor:
        """(J,) float64, the score with each patch hidden; ``tick`` is called after each batch."""
        scores = self.run(self.plan(patches), tick)
        check_finite(scores, patches.image, "occluded")
        return scores

    def run(self, plan: Plan, tick: Callable[[], object] = lambda: None) -> Tensor:
        """(J,) float64, the scores of the plan's patches, in the order in which they were given."""
        scores = torch.zeros(len(plan.order), dtype=torch.float64, device=exact_device(self.inputs[0].device))
        if not len(plan):
            return scores
        regions: Regions = {}
        trunk = _Pending()
        self.clean.reserve(plan.room())
        for number, part in plan.batches():
            group = int(plan.image[part.start]) // self.clean.images_at_once
            if trunk.parts and (trunk.is_large() or group != self.clean.group):
                self._finish(trunk, plan, scores)
            if group != self.clean.group:
                self.clean.enter(group)
            for rows, values in self._retry.run(part, partial(self._trunk, plan, number, part.start, regions)):
                trunk.add(rows, values)
            tick()
        if trunk.parts:
            self._finish(trunk, plan, scores)
        return scores

    def _trunk(self, plan: Plan, number: int, first: int, regions: Regions, rows: slice) -> list[Tensor]:
        """What the trunk makes of these patches of a batch that begins with patch ``first``."""
        return Batch(self.clean, plan, number, rows, rows.start - first, regions).results()

    @torch.inference_mode()
    def _finish(self, trunk: _Pending, plan: Plan, scores: Tensor) -> None:
        """Runs the head on what has come together, and scores it."""
        results, part = trunk.take()
        values: dict[fx.Node, Any] = dict(zip(self.network.frontier, results, strict=True))
        images = plan.image[part]
        shown = images - self.clean.group * self.clean.images_at_once

        def lookup(node: fx.Node) -> Any:
            if node in self.network.constants:
                return self.network.constants[node]
            return values[node] if node in values else self.clean.rows_of(node, shown)

        for step in self.network.steps.values():
            if step.head and step.node.op != "output":
                values[step.node] = self.network.run(step, lookup)
        output = lookup(next(iter(self.network.output.node.all_input_nodes)))
        scores[plan.order[part].to(scores.device)] = self._score(output, images)

    def _score(self, output: Tensor, images: Tensor) -> Tensor:
        self.scorer.forward_func = lambda: output
        return self.scorer((), images)


class _Pending:
    """Results of the trunk that wait for the head."""

    def __init__(self) -> None:
        self.values: list[list[Tensor]] = []
        self.parts: list[slice] = []

    def add(self, part: slice, values: list[Tensor]) -> None:
        self.values.append(values)
        self.parts.append(part)

    def is_large(self) -> bool:
        rows = self.parts[-1].stop - self.parts[0].start
        return rows >= HEAD_ROWS or sum(v.numel() for values in self.values for v in values) >= HEAD_NUMBERS

    def take(self) -> tuple[list[Tensor], slice]:
        """(values, the patches they belong to), which follow each other."""
        values = [torch.cat(column) if len(column) > 1 else column[0] for column in zip(*self.values, strict=True)]
        part = slice(self.parts[0].start, self.parts[-1].stop)
        self.values, self.parts = [], []
        return values, part
