"""A traced network with the size and the operator of every step known, found out with one clean image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from captum_canonical.inference.channels_last import TURN, TURN_BACK, turned
from captum_canonical.inference.graph import NotIncrementalError, network_of, trace
from captum_canonical.inference.operators import Mean, Operator, Pointwise, Query, Slide, Whole, target_name
from captum_canonical.inference.recognise import batch_norm_factors, function_of, operator_of
from captum_canonical.inference.side_effects import name_of
from captum_canonical.inference.windows import Pair


@dataclass(eq=False)
class Step:
    """One node of the graph.

    Attributes:
        node: with its arguments, whose nodes stand for steps.
        name: for people.
        operator: what it computes; None for inputs, constants and the output.
        shape: of its result for one image; None if that is not a tensor.
        per_image: its result has a row for each image.
        hidden: its result can change when a patch is hidden.
        like: a tensor of one number, of its type and on its device; None if it is no tensor.
        parts: it is a tuple of maps.
        turned: its maps have their channels last, (1, H, W, C).
        sources: the steps with per-image maps whose values it reads.
        cached: somebody reads regions of its clean maps.
        head: it belongs to the linear layers at the end, which run in larger batches.
    """

    node: fx.Node
    name: str
    operator: Operator | None = None
    shape: tuple[int, ...] | None = None
    per_image: bool = False
    hidden: bool = False
    like: Tensor | None = None
    parts: bool = False
    turned: bool = False
    sources: list[Step] = field(default_factory=list)
    cached: bool = False
    head: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it has a map for each image."""
        return self.per_image and self.shape is not None and len(self.shape) == 4 and self.shape[0] == 1

    @property
    def size(self) -> Pair:
        """Height and width of its maps."""
        assert self.shape is not None  # for mypy
        return (self.shape[1], self.shape[2]) if self.turned else (self.shape[2], self.shape[3])

    @property
    def channels(self) -> int:
        """Of its maps."""
        assert self.shape is not None  # for mypy
        return self.shape[3] if self.turned else self.shape[1]

    def channels_first(self, value: Tensor) -> Tensor:
        """Its maps or windows (R, ...) as (R, C, h, w)."""
        return value.permute(TURN_BACK) if self.turned else value

    def as_it_is(self, value: Tensor) -> Tensor:
        """Maps or windows (R, C, h, w) with the channels where its own are."""
        return value.permute(TURN) if self.turned else value

    @property
    def passes_windows_on(self) -> bool:
        """Whether its windows are its only source's, wherever they are: it never needs more than these."""
        if isinstance(self.operator, Slide):
            reach = self.operator.reach
            return reach.kernel == reach.stride == (1, 1) and reach.padding == (0, 0)
        return not isinstance(self.operator, (Whole, Mean, type(None))) and len(self.sources) == 1


class Network:
    """The steps of a network in their order.

    Attributes:
        given: the arguments that have an entry for each image.
        steps: by the node of each.
        constants: the values that do not depend on the images.
        frontier: the nodes that the head starts from; the result itself if there is no head.
        last_read: for each node those that nobody reads after it.

    Args:
        forward_func: the network.
        inputs: of the model, (N, ...) each.
        hidden: for each input whether patches of it are hidden.
        arguments: additional forward arguments; tensors whose first dimension is N have an entry per image.

    Raises:
        NotIncrementalError: naming what is in the way.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: tuple[Tensor, ...],
        hidden: tuple[bool, ...],
        arguments: tuple[Any, ...],
    ) -> None:
        count = len(inputs[0])
        given = (*inputs, *arguments)
        per_image = [isinstance(a, Tensor) and bool(a.ndim) and len(a) == count for a in given]
        fixed = tuple(None if own else (a,) for a, own in zip(given, per_image, strict=True))
        self.given = tuple(a for a, own in zip(given, per_image, strict=True) if own)
        self.graph, self.holder = trace(network_of(forward_func), fixed, self.given)
        self.modules = dict(self.holder.named_modules())
        self.steps: dict[fx.Node, Step] = {}
        self.constants: dict[fx.Node, Any] = {}
        self._run_one_image(hidden)
        self._mark_cached()
        self._mark_head()
        self._mark_last_reads()

    @property
    def placeholders(self) -> list[Step]:
        """The steps of the arguments that have an entry for each image."""
        return [step for step in self.steps.values() if step.node.op == "placeholder"]

    @property
    def output(self) -> Step:
        """The last step."""
        return next(reversed(self.steps.values()))

    def run(self, step: Step, lookup: Callable[[fx.Node], Any]) -> Any:
        """The ordinary result of a step, from the values of the nodes that it reads."""
        args, kwargs = fx.node.map_arg((step.node.args, step.node.kwargs), lookup)
        assert step.operator is not None  # for mypy
        return step.operator.run(*args, **kwargs)

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def _run_one_image(self, hidden: tuple[bool, ...]) -> None:
        values: dict[fx.Node, Any] = {}
        placeholders = enumerate(zip(self.given, (*hidden, *(False for _ in self.given)), strict=False))
        for node in self.graph.nodes:
            step = self.steps[node] = Step(node, name_of(node))
            sources = [self.steps[n] for n in node.all_input_nodes]
            step.per_image = node.op == "placeholder" or any(s.per_image for s in sources)
            step.hidden = any(s.hidden for s in sources)
            step.sources = [s for s in sources if s.is_map or s.parts]
            node.meta["per_image"] = step.per_image
            if node.op == "placeholder":
                node.meta["input"], (value, step.hidden) = next(placeholders)
                value = value[:1]
            elif node.op == "get_attr":
                value = _attribute(self.holder, str(node.target))
            elif node.op == "output":
                value = values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else node.args[0]
                self._check_output(value)
            else:
                value = self._run_step(step, values)
            values[node] = node.meta["value"] = value
            if isinstance(value, Tensor):
                step.shape, step.like = tuple(value.shape), value.new_empty(1)
            if not step.per_image:
                self.constants[node] = value
        for node in self.graph.nodes:
            del node.meta["value"]
            node.meta.pop("turned", None)

    def _run_step(self, step: Step, values: dict[fx.Node, Any]) -> Any:
        node = step.node
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        module = self.module(node)
        value = function_of(node, module)(*args, **kwargs)
        step.operator = operator_of(node, module, args, kwargs, value)
        step.turned = turned(node)
        if isinstance(step.operator, Query):
            step.sources, step.hidden = [], step.per_image  # asked anew for each batch: it may be the number of rows
        step.parts = isinstance(value, (tuple, list)) and isinstance(step.operator, Pointwise) and step.hidden
        self._fold(step, module, args, kwargs)
        return value

    def _fold(self, step: Step, module: nn.Module | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Moves a batch norm into the convolution before it, if nobody else reads that."""
        if len(step.sources) != 1 or not isinstance(step.operator, Pointwise):
            return
        before = step.sources[0]
        if not isinstance(before.operator, Slide) or before.operator.fold is None or len(before.node.users) != 1:
            return
        factors = batch_norm_factors(step.node, module, args, kwargs)
        if factors is not None:
            before.operator = before.operator.fold(*factors)
            step.operator = Pointwise(lambda x, *_, **__: x, kind="free", folded=True)

    def _check_output(self, value: Any) -> None:
        if not isinstance(value, Tensor) or not value.ndim or len(value) != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise NotIncrementalError(f"the network returns {got}, not a tensor with a row for each image")

    def _mark_cached(self) -> None:
        for step in self.steps.values():
            if isinstance(step.operator, Mean) and step.hidden and not step.sources[0].is_map:
                step.operator = Whole(step.operator.run)
            if step.hidden and not step.passes_windows_on and not isinstance(step.operator, Query):
                for source in step.sources:
                    source.cached = source.is_map

    def _mark_head(self) -> None:
        for step in self.steps.values():
            inputs = [self.steps[n] for n in step.node.all_input_nodes]
            module = self.module(step.node)
            linear = isinstance(module, nn.Linear) or target_name(step.node) == "linear"
            flat = step.shape is not None and len(step.shape) == 2
            step.head = (linear and flat and step.hidden) or any(s.head for s in inputs)
        read = {n: None for s in self.steps.values() if s.head for n in s.node.all_input_nodes}
        starts = [self.steps[n] for n in read if self.steps[n].hidden and not self.steps[n].head]
        if any(s.shape is None or s.shape[0] != 1 for s in starts) or not self.output.head:
            starts = [self.steps[n] for n in self.output.node.all_input_nodes]
            for step in self.steps.values():
                step.head = False
        self.frontier = [step.node for step in starts]

    def _mark_last_reads(self) -> None:
        self.last_read: dict[fx.Node, list[fx.Node]] = {node: [] for node in self.steps}
        last: dict[fx.Node, fx.Node] = {}
        for step in self.steps.values():
            last.update((source, step.node) for source in step.node.all_input_nodes)
        for source, reader in last.items():
            if source not in self.frontier:
                self.last_read[reader].append(source)


def _attribute(holder: nn.Module, path: str) -> Any:
    value: Any = holder
    for name in path.split("."):
        value = getattr(value, name)
    return value.detach() if isinstance(value, Tensor) else value
