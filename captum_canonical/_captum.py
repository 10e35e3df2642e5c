"""The only door to Captum's private modules; what passes through it has the same meaning from captum 0.7 to 0.9."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from captum._utils.common import (
    _format_additional_forward_args,
    _format_baseline,
    _run_forward,
    _select_targets,
)
from captum._utils.typing import BaselineType, TargetType
from captum.log import log_usage as _log_usage
from torch import Tensor

__all__ = [
    "BaselineType",
    "TargetType",
    "as_output",
    "format_baselines",
    "format_forward_args",
    "log_usage",
    "members_of",
    "output_in_words",
    "run_forward",
    "select_targets",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def log_usage(method: Method) -> Method:
    """Captum's decorator; NoiseTunnel and others need the ``__wrapped__`` that it leaves on ``attribute``."""
    takes_slo = "part_of_slo" in inspect.signature(_log_usage).parameters  # swallowed before captum 0.9
    return _log_usage(part_of_slo=True)(method) if takes_slo else _log_usage()(method)


def format_baselines(baselines: BaselineType, inputs: tuple[Tensor, ...]) -> tuple[Tensor | float, ...]:
    """One number or tensor for each input; None is 0."""
    return _format_baseline(baselines, inputs)


def format_forward_args(additional_forward_args: object) -> tuple[Any, ...]:
    """The additional arguments as a tuple, empty where there are none."""
    return _format_additional_forward_args(additional_forward_args) or ()


def run_forward(forward_func: Callable[..., Any], inputs: tuple[Tensor, ...], args: tuple[Any, ...]) -> Any:
    """``forward_func(*inputs, *args)`` as Captum calls it (a function without parameters is called without inputs).

    What black boxes return is taken as a tensor, see :func:`as_output`.
    """
    return as_output(_run_forward(forward_func, inputs, None, args or None))


def as_output(output: Any) -> Any:
    """What a network returns as one tensor, where there is no doubt which; anything else as it is.

    NumPy arrays, numbers, and lists of numbers or 0-d tensors, one for each image, become a tensor. Of a dictionary, a
    tuple or an object with several members (Hugging Face's ModelOutput) the one called "logits" is meant, or the only
    one that is not None.

    Example::

        >>> as_output(np.array([[0.25, 0.75]])), as_output([torch.tensor(1.0), torch.tensor(2.0)])
        (tensor([[0.2500, 0.7500]], dtype=torch.float64), tensor([1., 2.]))
        >>> as_output({"features": torch.zeros(1, 9), "logits": torch.ones(1, 2)})
        tensor([[1., 1.]])
    """
    if isinstance(output, (list, tuple)) and output and all(_is_number(each) for each in output):
        return torch.stack([torch.as_tensor(each) for each in output])
    if isinstance(output, np.ndarray) and output.dtype.kind in "biuf" and not np.ma.is_masked(output):
        return torch.from_numpy(np.array(output, dtype=output.dtype.newbyteorder("=")))  # a copy that may be written
    if _is_number(output):
        return torch.as_tensor(output)
    if isinstance(output, list):
        return output
    known = {name: each for name, each in members_of(output).items() if each is not None}
    meant = known.get("logits", next(iter(known.values())) if len(known) == 1 else None)
    return output if meant is None else as_output(meant)


def members_of(output: Any) -> Mapping[Any, Any]:
    """The members of a dictionary, tuple, named tuple or data class by key, place or name; of a tensor there are none.

    Example::

        >>> members_of(("a", "b")), members_of(torch.zeros(2))
        ({0: 'a', 1: 'b'}, {})
    """
    if isinstance(output, Mapping):
        return output
    names = getattr(type(output), "_fields", getattr(type(output), "__dataclass_fields__", ()))
    if isinstance(output, (list, tuple)) and not names:
        return dict(enumerate(output))
    return {name: getattr(output, name) for name in names}


def output_in_words(output: Any) -> str:
    """The type of what a network returns, for messages, with its members and their shapes.

    Example::

        >>> output_in_words({"race": torch.zeros(3, 7), "age": torch.zeros(3, 9)})
        "dict of 'race' (3, 7), 'age' (3, 9)"
    """
    if isinstance(output, (Tensor, np.ndarray)):
        return str(tuple(output.shape))
    shapes = {name: getattr(each, "shape", None) for name, each in members_of(output).items()}
    kinds = {name: type(each).__name__ for name, each in members_of(output).items()}
    listed = [f"{name!r} {kinds[name] if shape is None else tuple(shape)}" for name, shape in shapes.items()][:12]
    return f"{type(output).__name__} of {', '.join(listed)}" if listed else type(output).__name__


def _is_number(value: Any) -> bool:
    zero_d = isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0
    return zero_d or isinstance(value, (bool, int, float, np.number, np.bool_))


def select_targets(output: Tensor, target: TargetType) -> Tensor:
    """The entry of each row that ``target`` names."""
    return _select_targets(output, target)
