"""The only door to Captum's private modules; what passes through it has the same meaning from captum 0.7 to 0.9."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

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
    "format_baselines",
    "format_forward_args",
    "log_usage",
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
    """``forward_func(*inputs, *args)`` as Captum calls it (a function without parameters is called without inputs)."""
    return _run_forward(forward_func, inputs, None, args or None)


def select_targets(output: Tensor, target: TargetType) -> Tensor:
    """The entry of each row that ``target`` names."""
    return _select_targets(output, target)
