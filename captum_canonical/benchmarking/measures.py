"""What a benchmark measures: its measures, each one number for each image, and the settings of a call.

A new measure is one entry of :data:`MEASURES`; tables, intervals, comparisons, figures and JSON follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from captum_canonical.checks import check_choice, check_integer, check_number, check_several
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import FillLike, as_fill, fill_name
from captum_canonical.faithfulness.masks import Sign
from captum_canonical.faithfulness.measures import (
    Direction,
    Explanation,
    RemovalCurves,
    average_drop,
    increase_rate,
    mean_drop,
)

Space = Literal["image", "canonical"]


@dataclass(frozen=True, eq=False)
class FillScores:
    """The network's scores of N images, and of the images that are made from them with one fill.

    Attributes:
        clean: (N,) float64, of the images themselves.
        explained: (N,) float64 each, of the negative and the positive explanation images.
        curves: while the face disappears, in each of the spaces that were asked for.
        unbounded: whether percentages are given of scores outside 0..1, too.
    """

    clean: Tensor
    explained: Mapping[Explanation, Tensor]
    curves: Mapping[Space, RemovalCurves]
    unbounded: bool = False


@dataclass(frozen=True)
class BenchmarkMeasure:
    """A measure of how faithful maps are.

    Attributes:
        title: heading of its column.
        direction: ``"higher"`` or ``"lower"``, which is better.
        values: gets (N,) float64 from the scores, NaN for images that do not count; None if the scores do not have what
            it needs, such as curves in a space that was not asked for.
        percent: whether it is in per cent of the clean score. Such measures are left out where scores are not
            confidences.

    Example::

        >>> import torch
        >>> ratio = BenchmarkMeasure("Ratio", "lower", lambda scores: scores.explained["negative"] / scores.clean)
        >>> ratio.values(FillScores(torch.tensor([0.5]), {"negative": torch.tensor([0.25])}, {}))
        tensor([0.5000])
    """

    title: str
    direction: Direction
    values: Callable[[FillScores], Tensor | None]
    percent: bool = False


def _average_drop(explanation: Explanation) -> Callable[[FillScores], Tensor]:
    return lambda s: (
        average_drop(s.clean, s.explained[explanation], explanation=explanation, unbounded=s.unbounded).per_image
    )


def _increase_rate(explanation: Explanation) -> Callable[[FillScores], Tensor]:
    return lambda s: (
        increase_rate(s.clean, s.explained[explanation], explanation=explanation, unbounded=s.unbounded).per_image
    )


def _mean_drop(explanation: Explanation) -> Callable[[FillScores], Tensor]:
    return lambda s: mean_drop(s.clean, s.explained[explanation], explanation=explanation).per_image


def _area(name: str, space: Space) -> Callable[[FillScores], Tensor | None]:
    return lambda s: getattr(s.curves[space], name) if space in s.curves else None


MEASURES: dict[str, BenchmarkMeasure] = {
    "average_drop": BenchmarkMeasure("Average Drop %", "higher", _average_drop("negative"), percent=True),
    "increase_rate": BenchmarkMeasure("% Increase", "lower", _increase_rate("negative"), percent=True),
    "mean_drop": BenchmarkMeasure("Mean drop", "higher", _mean_drop("negative")),
    "average_drop_positive": BenchmarkMeasure(
        "Average Drop %, positive", "lower", _average_drop("positive"), percent=True
    ),
    "increase_rate_positive": BenchmarkMeasure(
        "% Increase, positive", "higher", _increase_rate("positive"), percent=True
    ),
    "mean_drop_positive": BenchmarkMeasure("Mean drop, positive", "lower", _mean_drop("positive")),
    "deletion_auc": BenchmarkMeasure("Deletion", "lower", _area("deletion_auc", "image")),
    "insertion_auc": BenchmarkMeasure("Insertion", "higher", _area("insertion_auc", "image")),
    "gain": BenchmarkMeasure("Gain", "higher", _area("gain", "image")),
    "deletion_auc_canonical": BenchmarkMeasure("Deletion, canonical", "lower", _area("deletion_auc", "canonical")),
    "insertion_auc_canonical": BenchmarkMeasure("Insertion, canonical", "higher", _area("insertion_auc", "canonical")),
    "gain_canonical": BenchmarkMeasure("Gain, canonical", "higher", _area("gain", "canonical")),
}
"""Name -> measure; those without "positive" in their name are about negative explanation images."""


STEPS = 10
"""Of the fractions if nobody says which."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings of a benchmark: arguments of :func:`benchmark`, which explains them.

    Raises:
        CanonicalError: one of them is out of range.
    """

    fills: tuple[FillLike, ...]
    folds: int
    budget: float
    sign: Sign
    fractions: tuple[float, ...]
    spaces: tuple[Space, ...]
    unbounded: bool
    symmetric: bool
    per_target: bool
    batch_size: int
    resamples: int
    permutations: int
    seed: int
    level: float = 0.95
    random_patch: float | None = None
    random_points: int | None = None

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> BenchmarkSettings:
        """The arguments of :func:`benchmark` that have the names of fields."""
        given = {field.name: arguments[field.name] for field in fields(cls) if field.name in arguments}
        if given["fractions"] is None:
            given["fractions"] = [step / STEPS for step in range(STEPS + 1)]
        several = {name: check_several(name, given[name], name) for name in ("fills", "fractions", "spaces")}
        return cls(**given | several)

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("batch_size", 1), ("resamples", 1), ("permutations", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        check_number("budget", self.budget, above=0, most=1)
        check_choice("sign", self.sign, ("positive", "abs", "raw"))
        if not set(self.spaces) <= {"image", "canonical"} or len(set(self.spaces)) < len(self.spaces):
            raise CanonicalError(f"spaces: expected 'image', 'canonical', both or (), got {self.spaces!r}.")
        names = self.fill_names
        if not names or len(set(names)) != len(names):
            raise CanonicalError(f"fills: expected one or more fills with names of their own, got {names}.")

    @property
    def fill_names(self) -> tuple[str, ...]:
        """The names of the fills in tables."""
        return tuple(fill_name(fill) for fill in self.fills)

    @property
    def masses(self) -> dict[str, Literal["budget", "top"]]:
        """How masks of equal mass are made for each fill: pixels that are imputed are gone as a whole (``"top"``)."""
        return {fill_name(fill): "top" if as_fill(fill).uses_hidden else "budget" for fill in self.fills}

    def described(self) -> dict[str, Any]:
        """The settings as values for JSON."""
        lists = {"fills": list(self.fill_names), "fractions": list(self.fractions), "spaces": list(self.spaces)}
        return {**vars(self), **lists, "masses": self.masses}
