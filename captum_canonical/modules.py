"""Networks that come wrapped, exported or for batches of one size."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx, nn

from captum_canonical.errors import CanonicalError, user_stacklevel

logger = logging.getLogger("captum_canonical")
NARROW = (torch.bfloat16, torch.float16)
"""Half precision."""
_narrow_seen: ContextVar[set[torch.dtype] | None] = ContextVar("_narrow_seen", default=None)


def unwrapped(module: nn.Module) -> nn.Module:
    """What ``torch.compile``, DataParallel or DistributedDataParallel was put around; any other module as it is.

    Example::

        >>> net = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(net)) is net, unwrapped(net) is net
        (True, True)
    """
    while is_wrapper(module):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module  # type: ignore[assignment]
    return module


def as_written(network: object) -> AbstractContextManager[None]:
    """Within this context what ``torch.compile`` made runs as it was written, so that hooks on layers are called."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    set_stance = getattr(getattr(torch, "compiler", None), "set_stance", None)  # since torch 2.6
    compiled = any(hasattr(module, "_orig_mod") for module in modules)
    return set_stance("force_eager") if compiled and set_stance else nullcontext()


def is_wrapper(module: nn.Module) -> bool:
    """Whether a module only runs another one, in another way."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return hasattr(module, "_orig_mod") or isinstance(module, parallel)


def has_modes(module: nn.Module) -> bool:
    """Whether ``train()`` and ``eval()`` change a network; the module of an exported program refuses both."""
    return not (isinstance(module, fx.GraphModule) and "eval" in vars(module))


def is_training(network: nn.Module) -> bool:
    """Whether a layer is in training mode; containers, whose mode does nothing, and exported programs do not count."""
    waiting, seen = [network], set()
    while waiting:
        module = waiting.pop()
        children = list(module.children())  # bool(module) may call the length that a module has
        if id(module) in seen or not has_modes(module):
            continue
        seen.add(id(module))
        if module.training and not children:
            return True
        waiting += children
    return False


def warn_if_training(forward_func: object) -> None:
    """Warns if a network is in training mode, in which dropout would change the map; Python shows it once."""
    if isinstance(forward_func, nn.Module) and is_training(forward_func):
        warnings.warn(
            "the network is in training mode: dropout and batch statistics change the scores from call to call; call "
            ".eval() on it first.",
            stacklevel=user_stacklevel(),
        )


def exported_shape(network: object) -> tuple[int | None, ...]:
    """The shape of the input of an exported program's module, None where any side will do; else ().

    Example::

        >>> program = torch.export.export(nn.Linear(3, 1), (torch.zeros(4, 3),))
        >>> exported_shape(program.module()), exported_shape(nn.Linear(3, 1))
        ((4, 3), ())
    """
    if not isinstance(network, fx.GraphModule) or has_modes(network):
        return ()
    values = [node.meta.get("val") for node in network.graph.nodes if node.op == "placeholder"]
    shapes = [value.shape for value in values if isinstance(value, Tensor) and value.ndim]
    return tuple(side if type(side) is int else None for side in shapes[0]) if shapes else ()


def widened(output: Tensor) -> Tensor:
    """What a network returned, in float32 if it came in half precision, which :func:`narrow_outputs` notices."""
    if output.dtype not in NARROW:
        return output
    seen = _narrow_seen.get()
    if seen is not None:
        seen.add(output.dtype)
    return output.float()


@contextmanager
def narrow_outputs() -> Iterator[set[torch.dtype]]:
    """Inside, types of half precision that outputs are :func:`widened` from are put into the set that is given.

    Example::

        >>> with narrow_outputs() as seen:
        ...     widened(torch.ones(1).half())
        tensor([1.])
        >>> seen
        {torch.float16}
    """
    seen: set[torch.dtype] = set()
    token = _narrow_seen.set(seen)
    try:
        yield seen
    finally:
        _narrow_seen.reset(token)


def dtype_of(network: object) -> torch.dtype | None:
    """The floating-point type of a network's weights, in which it takes its images; None where it has none.

    Example::

        >>> dtype_of(nn.Linear(2, 1).half()), dtype_of(nn.Flatten())
        (torch.float16, None)
    """
    weights = network.parameters() if isinstance(network, nn.Module) else ()
    return next((each.dtype for each in weights if each.is_floating_point()), None)


def device_of(network: object) -> torch.device | None:
    """Where a network's weights are; None where it has none.

    Example::

        >>> device_of(nn.Linear(2, 1)), device_of(nn.Flatten())
        (device(type='cpu'), None)
    """
    weights = network.parameters() if isinstance(network, nn.Module) else ()
    return next((each.device for each in weights), None)


class FixedBatch(nn.Module):
    """A network that takes a fixed number of images at once, run on any number of them.

    The last batch is filled up with copies of its last image, whose outputs are dropped. Gradients pass.

    Args:
        network: of one input (rows, ...), and one output (rows, ...) or a dict, list or tuple of them.
        rows: how many images it takes.

    Example::

        >>> net = FixedBatch(nn.Flatten(0), 1)  # whose output would mix several images
        >>> net(torch.arange(6.0).reshape(3, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(self, network: nn.Module, rows: int) -> None:
        super().__init__()
        self.network, self.rows = network, rows
        self.training = has_modes(network) and network.training

    def train(self, mode: bool = True) -> FixedBatch:
        """As for any module; an exported program has no modes."""
        return super().train(mode) if has_modes(self.network) else self

    def forward(self, images: Tensor) -> Any:
        """The outputs of all images.

        Raises:
            CanonicalError: an output does not have a row for each image.
        """
        parts = []
        for some in images.split(self.rows):
            missing = self.rows - len(some)
            filled = torch.cat([some, some[-1:].expand(missing, *some.shape[1:])]) if missing else some
            parts.append(_rows(self.network(filled), self.rows, len(some)))
        return _joined(parts)


def _rows(output: Any, expected: int, kept: int) -> Any:
    """The first rows of an output."""
    if isinstance(output, dict):
        return {name: _rows(each, expected, kept) for name, each in output.items()}
    if isinstance(output, (list, tuple)):
        return [_rows(each, expected, kept) for each in output]
    if not isinstance(output, Tensor):
        raise CanonicalError(f"expected a tensor from the network, got {type(output).__name__}.")
    if expected == 1 and (not output.ndim or len(output) != 1):
        output = output[None]  # one image's output without a dimension for images
    if not output.ndim or len(output) != expected:
        raise CanonicalError(
            f"expected an output with a row for each of {expected} images from the network, got shape "
            f"{tuple(output.shape)}."
        )
    return output[:kept]


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    if isinstance(parts[0], list):
        return [_joined(list(each)) for each in zip(*parts, strict=True)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def of_any_batch(network: Any) -> Any:
    """A network that takes any number of images: an exported one for a fixed number is run on so many at a time."""
    rows = next(iter(exported_shape(network)), None)
    if rows is None:
        return network
    logger.info("the network was exported for %d images at once, and is run on so many at a time.", rows)
    return FixedBatch(network, rows)
