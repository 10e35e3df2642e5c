"""A network as a torch.fx graph without side effects, or the reason why it cannot be one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as torch_module

from captum_canonical._captum import as_output
from captum_canonical.confidence.base import Confidence
from captum_canonical.inference.aten import is_exported, translate
from captum_canonical.inference.shapes import ShapedProxy, Shapes
from captum_canonical.inference.side_effects import NotIncrementalError, without_side_effects
from captum_canonical.modules import has_modes, is_wrapper, unwrapped
from captum_canonical.restore import HOOKS, ModuleContents


class _Arithmetic:
    """What a confidence computes from its network's outputs, as one step of a graph."""

    def __init__(self, confidence: Confidence) -> None:
        self.confidence = confidence
        self.__name__ = type(confidence).__name__

    def __call__(self, outputs: list[Any], others: tuple[Any, ...]) -> Tensor:
        # Copies, since it may write into them, and other steps read them.
        copies = fx.node.map_aggregate((outputs, others), lambda v: v.clone() if isinstance(v, Tensor) else v)
        return self.confidence.score(*copies)


class _Selection:
    """What counts of all that a network returns, as one step of a graph."""

    def __init__(self, confidence: Confidence) -> None:
        self.confidence = confidence
        self.__name__ = "output"

    def __call__(self, output: Any) -> Any:
        return self.confidence.select(output)


def network_of(forward_func: Callable[..., Any]) -> nn.Module:
    """The forward function itself, if it is a network whose every effect a trace can show.

    Raises:
        NotIncrementalError: it is no module, scripted, in training mode, or has hooks.
    """
    if not isinstance(forward_func, nn.Module):
        raise NotIncrementalError(f"{type(forward_func).__name__} is not a torch.nn.Module, so it cannot be traced")
    if _autocast():
        raise NotIncrementalError("autocast is on")
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise NotIncrementalError("a global forward hook is registered")
    exported: list[nn.Module] = []
    for path, module in forward_func.named_modules():
        if is_exported(module):
            exported += module.modules()  # parts of a flat graph, which have no mode
        if any(module is part for part in exported):
            continue
        obstacle = _obstacle(module)
        if obstacle is not None:
            raise NotIncrementalError(f"{path or 'the network'} ({type(module).__name__}) {obstacle}")
    return forward_func


def _obstacle(module: nn.Module) -> str | None:
    """What a trace of a module would not show."""
    if isinstance(module, torch.jit.ScriptModule):
        return "is scripted"
    if any(getattr(module, hooks, None) for hooks in HOOKS):
        return "has hooks"
    if is_wrapper(module):
        return None
    if "forward" in vars(module):
        return "has its forward method replaced"
    if has_modes(module) and module.training and not list(module.children()):
        return "is in training mode"
    return None


def _autocast() -> bool:
    try:
        return torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")
    except TypeError:  # torch before 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


class _Holder(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.training = False
        self.net = network

    def forward(self, *inputs: Any) -> Any:
        return as_output(self.net(*inputs))


_tracing = (
    threading.Lock()
)  # torch.fx replaces methods of nn.Module while it traces; two at once would not put them back


class _Tracer(fx.Tracer):
    """Looks through confidences, whose checks cannot be traced; knows where it is when something fails."""

    proxy_buffer_attributes = True

    def __init__(self, root: nn.Module, arguments: tuple[Any, ...], given: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.arguments, self.given = arguments, iter(given)
        self.shapes = Shapes(root)
        self.path: list[str] = []
        self.thread = threading.get_ident()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """A placeholder for each argument that has a value per image; the others stay what they are."""
        given = [
            self.create_proxy("placeholder", f"input_{i}", (), {}) if arg is None else arg[0]
            for i, arg in enumerate(self.arguments)
        ]
        return root_fn, [self.root, *given]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A stand-in that may know its shape."""
        return ShapedProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **options: Any) -> fx.Proxy:
        """As torch.fx does; what the step gives can be asked for its shape."""
        result = super().create_proxy(kind, target, args, kwargs, *more, **options)
        if kind != "placeholder":
            self.shapes.add(result.node, kind, target, args, kwargs)
        elif (given := next(self.given, None)) is not None:
            self.shapes.given(result.node, given)
        return result

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """As torch.fx does; a confidence becomes the runs of its network and a step of its own."""
        if self.shapes.asking or threading.get_ident() != self.thread:  # a network that another thread runs meanwhile
            return forward(*args, **kwargs)
        if is_wrapper(m):
            return unwrapped(m)(*args, **kwargs)
        name = self.path_of_module(m).removeprefix("net").removeprefix(".") or "the network"
        self.path.append(f"{name} ({type(m).__name__})")
        if is_exported(m):
            result = m.forward(*args, **kwargs)  # without the hook that checks the input
        elif isinstance(m, Confidence) and type(m).forward is Confidence.forward:
            runs, others = m.split(*args, **kwargs)
            outputs = [self._selected(m, m.model(*run)) for run in runs]
            result = self.create_proxy("call_function", _Arithmetic(m), (outputs, tuple(others)), {})
        elif isinstance(m, Confidence):
            result = self._call_overridden(m, forward, args, kwargs)
        else:
            result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result

    def _selected(self, m: Confidence, output: Any) -> Any:
        """What counts of a run; members of dictionaries are found while tracing, those of one step's value later."""
        if not isinstance(output, fx.Proxy):
            return m.select(output)
        whole = type(m).select is Confidence.select and type(m).matrix is Confidence.matrix  # which selects, too
        return output if whole else self.create_proxy("call_function", _Selection(m), (output,), {})

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As torch.fx does, in this thread."""
        if self.shapes.asking or threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _call_overridden(self, m: Confidence, *call: Any) -> Any:
        """A confidence with a forward method of its own, as torch.fx traces it."""
        try:
            return super().call_module(m, *call)
        except Exception as error:
            raise NotIncrementalError(
                f"{self.path[-1]} overrides forward(), which cannot be traced; define confidence() instead"
            ) from error


def trace(network: nn.Module, arguments: tuple[Any, ...], given: tuple[Tensor, ...] = ()) -> tuple[fx.Graph, nn.Module]:
    """The graph of a network and the module that its names refer to.

    Args:
        network: in evaluation mode, without hooks (:func:`network_of`).
        arguments: for each argument None, if it has an entry for each image, or a tuple of its one value.
        given: the arguments that have an entry for each image, whose shapes the network may ask for.

    Raises:
        NotIncrementalError: naming the module that cannot be traced, or the operation in place that is in the way.
    """
    holder = _Holder(network)
    with _tracing:
        graph = _trace(holder, _Tracer(holder, arguments, given))
    translate(graph)
    without_side_effects(graph, holder)
    return graph, holder


def _trace(holder: _Holder, tracer: _Tracer) -> fx.Graph:
    before = {path: ModuleContents(module) for path, module in holder.net.named_modules()}
    try:
        with torch.random.fork_rng(devices=[]):
            graph = tracer.trace(holder)
    except NotIncrementalError:
        raise
    except Exception as error:  # anything may go wrong in a network that is run on stand-ins for its tensors
        where = tracer.path[-1] if tracer.path else type(holder.net).__name__
        what = str(error).strip().split("\n")[0]
        raise NotIncrementalError(f"{where} cannot be traced ({type(error).__name__}: {what})") from error
    finally:
        changed = [(path, contents.module) for path, contents in before.items() if contents.restore()]
    for path, module in changed:
        raise NotIncrementalError(
            f"{path or 'the network'} ({type(module).__name__}) changes its own attributes when it is run"
        )
    return graph
