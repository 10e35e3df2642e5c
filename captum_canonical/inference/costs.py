"""What operators cost on maps and windows of each size: a measured table, by which a plan is judged.

The table is shipped (``costs.json``) and made by ``tools/measure_costs.py``. The choice between dense and incremental
inference multiplies counted work by these costs and reads no clock, so it is the same in every run. Costs of another
machine can be named by the environment variable ``CAPTUM_CANONICAL_COSTS``; what is chosen may change then, the scores
only as far as rounding does.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, fx

from captum_canonical.errors import CanonicalError
from captum_canonical.inference.network import Network, Step
from captum_canonical.inference.operators import Mean, Operator, Pointwise, Query, Slide, Whole
from captum_canonical.inference.windows import Windows

VARIABLE = "CAPTUM_CANONICAL_COSTS"
SHIPPED = Path(__file__).with_name("costs.json")
LAYOUTS = ("nchw", "nhwc")
KINDS = ("convolution", "pixel", "depthwise", "grouped", "pool", "light", "heavy", "moved", "product", "gather")
CALLS = ("complete", "window", "prepare")
RETURNED = 2**23  # numbers of a result beyond which glibc gives freed memory back to the system
MOVES = ("view", "reshape", "permute", "transpose", "roll", "flip", "cat", "concat", "stack", "contiguous")


class Costs:
    """Seconds of operators.

    Args:
        table: ``"sides"``, the sides of the square maps that were measured; for each layout and kind of operator two
            lists, nanoseconds for a multiply-add and for a number read or written at each side; ``"calls"``,
            microseconds that a complete operator, one on windows, and the preparation of a step take whatever the size;
            ``"fresh"``, nanoseconds for a number of a result whose memory is new.

    Example::

        >>> costs = Costs.shipped()
        >>> bool(costs.seconds("depthwise", "nhwc", 49, 1e6, 1e5) > 0)
        True
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self._sizes = 2 * np.log(np.asarray(table["sides"], np.float64))
        self._table = {layout: {kind: np.asarray(table[layout][kind]) for kind in KINDS} for layout in LAYOUTS}
        self.fresh = 1e-9 * float(table["fresh"])
        self.calls = {name: 1e-6 * float(table["calls"][name]) for name in CALLS}

    @classmethod
    def shipped(cls) -> Costs:
        """Those of ``CAPTUM_CANONICAL_COSTS``, if that is set, else the package's own.

        Raises:
            CanonicalError: the file that the variable names is none of ``tools/measure_costs.py``.
        """
        return _read(os.environ.get(VARIABLE) or str(SHIPPED))

    def seconds(self, kind: str, layout: str, pixels: Any, macs: Any, numbers: Any) -> Any:
        """Of an image or window of so many pixels, with so many multiply-adds, and numbers read and written."""
        where = np.log(np.maximum(pixels, 1))
        by_mac, by_number = (np.interp(where, self._sizes, row) for row in self._table[layout][kind])
        return 1e-9 * (by_mac * macs + by_number * numbers)


@lru_cache
def _read(path: str) -> Costs:
    try:
        return Costs(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CanonicalError(
            f"{VARIABLE}: expected a file of costs as tools/measure_costs.py writes it, {path} cannot be read as one "
            f"({type(error).__name__}: {error})."
        ) from error


class Expected:
    """The time that a network is expected to take.

    Args:
        network: its steps.
        costs: of operators. Default: :meth:`Costs.shipped`.
    """

    def __init__(self, network: Network, costs: Costs | None = None) -> None:
        self.network = network
        self.costs = Costs.shipped() if costs is None else costs
        steps = network.steps.values()
        self._maps = {step.node: self._complete(step, "nhwc") for step in steps}
        self._gathered = {step.node: self._gather(_pixels(step), 2 * _numbers(step)) for step in steps if step.is_map}

    def dense(self, layout: str, rows: int) -> float:
        """Seconds of an image, in batches of ``rows``, of the network as it is (batch norms not folded)."""
        steps = [step for step in self.network.steps.values() if step.per_image and step.operator is not None]
        layouts = {step.node: layout if step.is_map else "nhwc" for step in steps}  # tokens lie as they lie
        each = sum(self._complete(step, layouts[step.node], dense=True) + self._fresh(step, rows) for step in steps)
        return each + len(steps) * self.costs.calls["complete"] / rows

    @property
    def preparation(self) -> float:
        """Seconds of tracing and planning."""
        return len(self.network.steps) * self.costs.calls["prepare"]

    def check(self, patches: int) -> float:
        """Seconds of running so many patches densely and on windows, one at a time, to see that they agree."""
        alone = self.dense("nchw", 1) + len(self.network.steps) * self.costs.calls["window"]
        return (patches + 1) * alone + self.dense("nhwc", 1)

    def planned(self, windows: dict[fx.Node, Windows], full: dict[fx.Node, Tensor], counts: Tensor) -> float:
        """Seconds of all batches of a plan.

        Args:
            windows: of each step that is run on windows.
            full: for each step (B,) which batches run it on complete maps.
            counts: (B,) patches of each batch.
        """
        total, rows, calls = 0.0, counts.numpy(), self.costs.calls
        for step in self.network.steps.values():
            if not step.hidden or step.node.op == "output" or isinstance(step.operator, Query):
                continue
            whole = full[step.node].numpy()
            complete = (self._assembled(step, full) + self._fresh(step, rows)) * rows + calls["complete"]
            if step.node in windows and not whole.all():
                small = self._windowed(step, windows[step.node]) * rows + calls["window"]
                total += float(np.where(whole, complete, small).sum())
            else:
                total += float(complete.sum())
        return total

    def _complete(self, step: Step, layout: str, dense: bool = False) -> float:
        """Of a step on the complete maps of one image."""
        kind = kind_of(step)
        if dense and isinstance(step.operator, Pointwise) and step.operator.folded:
            kind = "light"
        if kind is None:
            return 0.0
        numbers = _numbers(step) + sum(_numbers(source) for source in step.sources)
        return float(self.costs.seconds(kind, layout, _pixels(step), _macs(step), numbers))

    def _fresh(self, step: Step, rows: Any) -> Any:
        """Of an image, the first touch of a result's memory, which is new if ``rows`` of them are large."""
        numbers = _numbers(step) if kind_of(step) is not None else 0
        return self.costs.fresh * numbers * (rows * numbers > RETURNED)

    def _gather(self, pixels: Any, numbers: Any) -> Any:
        return self.costs.seconds("gather", "nhwc", pixels, 0.0, numbers)

    def _assembled(self, step: Step, full: dict[fx.Node, Tensor]) -> Any:
        """(B,) of a row, with the complete maps put together of clean maps and windows where they must be."""
        own = np.full(len(full[step.node]), self._maps[step.node])
        for source in step.sources:
            if source.is_map and not isinstance(step.operator, Mean):
                own += self._gathered[source.node] * (~full[source.node].numpy() if source.node in full else 1.0)
        return own

    def _windowed(self, step: Step, windows: Windows) -> Any:
        """(B,) of a row on windows: the region is gathered, the operator run, and the result kept where it is read."""
        costs, kind, operator = self.costs, kind_of(step), step.operator
        pixels = windows.sizes.prod(1).numpy()
        channels = step.channels if step.is_map else 0
        read = sum(source.channels for source in step.sources if source.is_map)
        total = np.zeros(len(pixels))
        if kind is not None:
            macs = _macs_of_pixel(step, operator)
            total += costs.seconds(kind, "nhwc", pixels, macs * pixels, (channels + read) * pixels)
        if not step.passes_windows_on:
            region, share = pixels, 1  # of the inputs of a pointwise operator one has other windows, on the whole
            if isinstance(operator, Slide):
                sides = operator.reach.needed(windows.starts, windows.sizes)[1]
                region, share = pixels if operator.reads_pixels else sides.prod(1).numpy(), 2
            total += self._gather(region, share * read * region)
        if step.cached:
            total += costs.seconds("light", "nhwc", pixels, 0.0, 2 * channels * pixels)
        return total


def kind_of(step: Step) -> str | None:
    """The row of the table for a step; None for what costs next to nothing."""
    operator = step.operator
    if isinstance(operator, (Slide, Pointwise)):
        return None if operator.kind == "free" else operator.kind
    if isinstance(operator, Whole):
        if operator.macs:
            return "product"
        return "moved" if any(name in step.node.name for name in MOVES) else "light"
    return None if isinstance(operator, (Query, type(None))) else "light"


def _numbers(step: Step) -> int:
    return int(np.prod(step.shape)) if step.shape else 0


def _pixels(step: Step) -> int:
    """Of a map; of tokens or of a vector their number."""
    if step.is_map:
        return step.size[0] * step.size[1]
    return max(_numbers(step) // step.shape[-1], 1) if step.shape and step.shape[-1] else 1


def _macs(step: Step) -> float:
    if isinstance(step.operator, Whole):
        return float(step.operator.macs)
    return float(_macs_of_pixel(step, step.operator) * _pixels(step))


def _macs_of_pixel(step: Step, operator: Operator | None) -> int:
    """Multiply-adds, or numbers that are compared, for one output position."""
    if isinstance(operator, Pointwise):
        return operator.macs
    if not isinstance(operator, Slide):
        return 0
    return operator.macs or operator.reach.kernel[0] * operator.reach.kernel[1] * step.channels
