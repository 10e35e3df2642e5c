"""What a benchmark was run with, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import FillLike, as_fill, fill_name
from captum_canonical.faithfulness.masks import Sign
from captum_canonical.faithfulness.measures import Direction, RemovalCurves

Space = Literal["image", "canonical"]


class Measure(NamedTuple):
    """A column of the table."""

    title: str
    direction: Direction
    """Which direction is better."""
    percent: bool


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "average_drop": Measure("Average Drop %", "higher", True),
        "increase_rate": Measure("% Increase", "lower", True),
        "mean_drop": Measure("Mean drop", "higher", False),
        "average_drop_positive": Measure("Average Drop %, positive", "lower", True),
        "increase_rate_positive": Measure("% Increase, positive", "higher", True),
        "mean_drop_positive": Measure("Mean drop, positive", "lower", False),
        "deletion_auc": Measure("Deletion", RemovalCurves.DIRECTIONS["deletion_auc"], False),  # type: ignore[arg-type]
        "insertion_auc": Measure("Insertion", RemovalCurves.DIRECTIONS["insertion_auc"], False),  # type: ignore[arg-type]
        "gain": Measure("Gain", RemovalCurves.DIRECTIONS["gain"], False),  # type: ignore[arg-type]
        **{
            f"{measure}_canonical": Measure(f"{title}, canonical", RemovalCurves.DIRECTIONS[measure], False)  # type: ignore[arg-type]
            for measure, title in (("deletion_auc", "Deletion"), ("insertion_auc", "Insertion"), ("gain", "Gain"))
        },
    }
)
"""The measures of a benchmark; those without "positive" in their name are about negative explanation images."""


@dataclass(frozen=True)
class Settings:
    """Settings of a benchmark, in the words of :func:`benchmark`, where they are explained.

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

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("batch_size", 1), ("resamples", 1), ("permutations", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise CanonicalError(f"{name}: expected an integer from {least} on, got {value!r}.")
        budget: Any = self.budget
        if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < float(budget) <= 1:
            raise CanonicalError(f"budget: expected a share above 0 and at most 1, got {self.budget!r}.")
        if self.sign not in ("positive", "abs", "raw"):
            raise CanonicalError(f"sign: expected 'positive', 'abs' or 'raw', got {self.sign!r}.")
        if not set(self.spaces) <= {"image", "canonical"} or len(set(self.spaces)) < len(self.spaces):
            raise CanonicalError(f"spaces: expected 'image', 'canonical', both or (), got {self.spaces!r}.")
        names = self.fill_names
        if not names or len(set(names)) != len(names):
            raise CanonicalError(f"fills: expected one or more fills with names of their own, got {names}.")

    @property
    def fill_names(self) -> tuple[str, ...]:
        """What the fills are called in tables."""
        return tuple(fill_name(fill) for fill in self.fills)

    @property
    def masses(self) -> dict[str, Literal["budget", "top"]]:
        """How masks of equal mass are made for each fill: pixels that are imputed are gone as a whole (``"top"``)."""
        return {fill_name(fill): "top" if as_fill(fill).uses_hidden else "budget" for fill in self.fills}

    def scored_alike(self, other: Settings) -> bool:
        """Whether maps are scored in the same way, so that rows may stand in one table; fills are not looked at."""
        names = ("budget", "sign", "fractions", "spaces", "unbounded", "seed", "resamples", "permutations", "level")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def described(self) -> dict[str, Any]:
        """The settings as what JSON can hold."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "fills": list(self.fill_names), "masses": self.masses} | {
            name: list(getattr(self, name)) for name in ("fractions", "spaces")
        }
