"""Which patches run together, how large their windows are at each step, and what work that saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from captum_canonical.inference.costs import Expected
from captum_canonical.inference.dense import Patches
from captum_canonical.inference.network import Network, Step
from captum_canonical.inference.operators import Enlarge, Pointwise, Shift, Slide, Whole
from captum_canonical.inference.windows import Span, Windows
from captum_canonical.tables import Column, Table

# A window that covers more of a map costs as much as the map; with operators that cost little, less of it does.
SWITCH_TO_FULL, SOONER = 0.85, (0.7, 0.5, 0.35)


@dataclass(frozen=True)
class Layer:
    """The work of one operator, in multiply-adds for one patch."""

    name: str
    operator: str
    map_size: tuple[int, ...]
    share: float
    dense: float
    incremental: float


class Plan:
    """The order of the patches, their batches, and the windows of every step.

    Rows of a batch are widened to the same windows, so patches whose windows grow alike are put side by side.

    Args:
        expected: the time that the steps of a network take.
        patches: what is hidden.
        rows: of a batch, at most.
        images_at_once: whose clean maps are kept at the same time; a batch shows images of one such group only.

    Attributes:
        order: (J,) the patches in the order in which they are run.
        batch: (J,) the batch of each, in that order, as are
        image: the images and
        row: (J,) the place of each in its batch.
        boxes: for each input the boxes (J, 4), or None.
        windows: of each step that is run on windows in some batch.
        full: for each step (B,) whether a batch runs it on complete maps, and
        complete: the same as lists.
        seconds: that it is expected to take.
    """

    def __init__(self, expected: Expected, patches: Patches, rows: int, images_at_once: int) -> None:
        network = expected.network
        self.expected, self.network, self.rows, self.images_at_once = expected, network, rows, images_at_once
        spans = dict(self._spans(patches))
        group = patches.image // images_at_once
        orders = _orders(spans, network, group)
        if min(rows, len(group)) in (1, len(group)):  # the order makes no difference
            orders = iter([next(orders)])
        candidates = [self._arrange(spans, order, group) for order in orders]
        best = min(candidates, key=lambda c: c[0])
        sooner = [self._arrange(spans, best[1], group, switch) for switch in SOONER]
        self.seconds, self.order, self.batch, self.windows, self.full = min([best, *sooner], key=lambda c: c[0])
        self.complete = {node: flags.tolist() for node, flags in self.full.items()}
        self.image = patches.image[self.order]
        self.boxes = tuple(None if box is None else box.cpu()[self.order] for box in patches.boxes)
        self.counts = torch.bincount(self.batch).tolist() if len(self.batch) else []
        first = torch.cumsum(torch.tensor([0, *self.counts]), 0)
        self.row = torch.arange(len(self.batch)) - first[self.batch]

    def __len__(self) -> int:
        return len(self.counts)

    def batches(self) -> Iterator[tuple[int, slice]]:
        """(number, rows of ``order``) of each batch."""
        start = 0
        for number, count in enumerate(self.counts):
            yield number, slice(start, start + count)
            start += count

    def room(self) -> dict[fx.Node, int]:
        """For each step whose maps are cached the pixels of the windows of its largest batch."""
        counts = torch.tensor(self.counts)
        return {
            node: int((windows.sizes.prod(1) * counts * ~self.full[node]).max())
            for node, windows in self.windows.items()
            if self.network.steps[node].cached
        }

    def _spans(self, patches: Patches) -> Iterator[tuple[fx.Node, Span]]:
        """What the patches can have changed at each step, as far as it is not everything."""
        spans: dict[fx.Node, Span] = {}
        boxes = iter(patches.boxes)
        for step in self.network.steps.values():
            if not step.hidden:
                if step.node.op == "placeholder":
                    next(boxes, None)
                continue
            if step.node.op == "placeholder":
                box = next(boxes)
                span = _box_span(box, len(patches)) if step.is_map else None
            else:
                span = _span_after(step, spans)
            if span is not None:
                spans[step.node] = span
                yield step.node, span

    def _arrange(
        self, spans: dict[fx.Node, Span], order: Tensor, group: Tensor, switch: float = SWITCH_TO_FULL
    ) -> tuple[float, Tensor, Tensor, dict[fx.Node, Windows], dict[fx.Node, Tensor]]:
        """(seconds, order, batch, windows, full) of the patches in this order."""
        order = order[torch.argsort(group[order], stable=True)]
        batch = _batches(group[order], self.rows)
        batches = int(batch[-1]) + 1 if len(batch) else 0
        windows: dict[fx.Node, Windows] = {}
        full: dict[fx.Node, Tensor] = {}
        for step in self.network.steps.values():
            if step.hidden and step.node in spans:
                windows[step.node], full[step.node] = _windows(
                    step, spans[step.node][order], batch, batches, windows, full, switch
                )
            elif step.hidden:
                full[step.node] = torch.ones(batches, dtype=torch.bool)
        seconds = self.expected.planned(windows, full, torch.bincount(batch, minlength=batches))
        return seconds, order, batch, windows, full

    def layers(self) -> list[Layer]:
        """Every operator that costs multiply-adds."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        patches = max(len(self.order), 1)
        found = []
        for step in self.network.steps.values():
            dense = _dense_work(step)
            if not step.per_image or not dense:
                continue
            work = _work(step, self.windows, self.full, len(self)) if step.hidden else torch.zeros(len(self))
            share = float((work / dense * counts).sum()) / patches
            size = step.shape[1:] if step.shape else ()
            kind = "complete" if isinstance(step.operator, Whole) else "convolution"
            found.append(Layer(step.name, kind, size, share, dense, dense * share))
        return found

    @property
    def ratio(self) -> float:
        """Multiply-adds of dense inference divided by those of this plan."""
        layers = self.layers()
        return sum(x.dense for x in layers) / max(sum(x.incremental for x in layers), 1e-9) if layers else 1.0

    def report(self) -> str:
        """A table of the layers: their maps, the share of them that is computed, and where the work goes."""
        layers = self.layers()
        total = sum(x.incremental for x in layers) or 1.0
        dense = sum(x.dense for x in layers) or 1.0
        columns: list[Column[Layer]] = [
            Column("layer", value="name"),
            Column("map", value=lambda layer: " x ".join(map(str, layer.map_size)), align="right"),
            Column("window", value="share", format=".1%", align="right"),
            Column("of dense work", value=lambda layer: layer.dense / dense, format=".1%", align="right"),
            Column("of this work", value=lambda layer: layer.incremental / total, format=".1%", align="right"),
        ]
        lines = [Table(columns, layers).text()]
        lines.append(
            f"{len(self.order)} patches in {len(self)} batches: {dense / 1e6:.1f} million multiply-adds for a "
            f"patch by dense inference, {total / 1e6:.1f} by this plan, {self.ratio:.2f} times fewer"
        )
        first = next((s for s in self.network.steps.values() if s.hidden and isinstance(s.operator, Whole)), None)
        if first is not None:
            lines.append(f"complete maps from {first.name} on")
        return "\n".join(lines)


def _box_span(box: Tensor | None, count: int) -> Span:
    if box is None:  # nothing is hidden in this input: one pixel that stays as it is
        return Span(torch.zeros(count, 2, dtype=torch.int64), torch.ones(count, 2, dtype=torch.int64))
    box = box.cpu()
    return Span(box[:, [1, 0]], box[:, [3, 2]])


def _span_after(step: Step, spans: dict[fx.Node, Span]) -> Span | None:
    hidden = [source for source in step.sources if source.hidden]
    if not hidden or any(source.node not in spans for source in hidden):
        return None
    span = spans[hidden[0].node]
    if isinstance(step.operator, Pointwise):
        for source in hidden[1:]:
            span = span.union(spans[source.node])
        return span
    if isinstance(step.operator, Slide):
        return step.operator.reach.changed(span, step.size)
    if isinstance(step.operator, Shift):
        return span.shifted(step.operator.by)
    if isinstance(step.operator, Enlarge):
        return span.scaled(step.operator.factor)
    return None


def _windows(
    step: Step,
    span: Span,
    batch: Tensor,
    batches: int,
    windows: dict[fx.Node, Windows],
    full: dict[fx.Node, Tensor],
    switch: float,
) -> tuple[Windows, Tensor]:
    hidden = [source.node for source in step.sources if source.hidden]
    complete = torch.zeros(batches, dtype=torch.bool)
    for node in hidden:
        complete = complete | full[node]
    if not step.passes_windows_on:
        size = step.size
        around = Windows.around(span, batch, batches, size)
        if isinstance(step.operator, Slide):
            complete = complete | (around.shares(size) >= switch)
        return around, complete
    same = windows[hidden[0]]
    if isinstance(step.operator, Shift):
        same = Windows(same.starts + torch.tensor(step.operator.by), same.sizes)
    elif isinstance(step.operator, Enlarge):
        factor = torch.tensor(step.operator.factor)
        same = Windows(same.starts * factor, same.sizes * factor)
    return same, complete


def _batches(group: Tensor, rows: int) -> Tensor:
    """(J,) the batch of each patch: at most ``rows``, of one group, which is sorted."""
    if not len(group):
        return group
    _, which, counts = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    first = torch.cumsum(counts, 0) - counts
    batches = -(-counts // rows)
    before = torch.cumsum(batches, 0) - batches
    # Of equal size, so that none is left nearly empty.
    rank = torch.arange(len(group)) - first[which]
    return before[which] + rank * batches[which] // counts[which]


def _orders(spans: dict[fx.Node, Span], network: Network, group: Tensor) -> Iterator[Tensor]:
    """Orders that may put patches with equal windows side by side."""
    yield torch.arange(len(group))
    costly = sorted(
        (s for s in network.steps.values() if s.node in spans and _dense_work(s) and not _covers(s, spans)),
        key=_dense_work,
        reverse=True,
    )
    if not costly or not len(group):
        return
    extents = torch.stack([spans[s.node].extents() for s in costly], 2)  # (J, 2, layers)
    weights = torch.tensor([_dense_work(s) / (s.size[0] * s.size[1]) for s in costly], dtype=torch.float64)
    work = (extents.prod(1) * weights).sum(1)
    yield torch.argsort(work, stable=True)
    sums = (extents * weights.sqrt()).sum(2)
    by_columns = torch.argsort(sums[:, 1], stable=True)
    yield by_columns[torch.argsort(sums[by_columns, 0], stable=True)]


def _covers(step: Step, spans: dict[fx.Node, Span]) -> bool:
    """Whether nearly every patch changes nearly the whole map."""
    share = spans[step.node].extents().prod(1).double() / (step.size[0] * step.size[1])
    return bool((share >= SWITCH_TO_FULL).double().mean() > 0.9) if len(share) else True


def dense_work(network: Network) -> float:
    """Multiply-adds of a network for one image."""
    return sum(_dense_work(step) for step in network.steps.values() if step.per_image)


def _dense_work(step: Step) -> float:
    if isinstance(step.operator, Slide) or (isinstance(step.operator, Pointwise) and step.operator.macs):
        return float(step.operator.macs * step.size[0] * step.size[1])
    return float(step.operator.macs) if isinstance(step.operator, Whole) else 0.0


def _work(step: Step, windows: dict[fx.Node, Windows], full: dict[fx.Node, Tensor], batches: int) -> Tensor:
    """(B,) multiply-adds of a row of each batch."""
    if not step.hidden:
        return torch.zeros(batches, dtype=torch.float64)
    dense = torch.full((batches,), _dense_work(step), dtype=torch.float64)
    if isinstance(step.operator, (Slide, Pointwise)) and step.node in windows:
        return torch.where(full[step.node], dense, dense * windows[step.node].shares(step.size))
    return dense
