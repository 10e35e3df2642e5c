"""Confidence wrappers, whose checks cannot be traced, as calls of their network and the arithmetic after these."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_canonical.confidence import ClassConfidence, ConfidenceWrapper, VerificationConfidence, ZeroShotConfidence
from captum_canonical.regression_confidence import BinnedConfidence, RegressionConfidence


class Arithmetic:
    """What a confidence wrapper does with its network's outputs: the wrapper itself, its network replaced."""

    def __init__(self, wrapper: ConfidenceWrapper) -> None:
        self.wrapper = wrapper
        self.__name__ = type(wrapper).__name__

    def __call__(self, outputs: list[Tensor], args: tuple[Any, ...]) -> Tensor:
        """The confidence, from one output for each of the wrapper's calls of its network."""
        stand_in = copy.copy(self.wrapper)
        stand_in._modules = {k: v for k, v in self.wrapper._modules.items() if k != "model"}
        remaining = iter(outputs)
        vars(stand_in)["model"] = lambda *photos: next(remaining)
        return stand_in(*args)


# For each wrapper the arguments that its calls of the network get.
CALLS: dict[Any, Callable[[tuple[Any, ...]], list[tuple[Any, ...]]]] = {
    ClassConfidence.forward: lambda args: [args],
    ZeroShotConfidence.forward: lambda args: [args],
    BinnedConfidence.forward: lambda args: [args],
    RegressionConfidence.forward: lambda args: [args[:1]],
    VerificationConfidence.forward: lambda args: [args[:1], args[1:2]],
}
