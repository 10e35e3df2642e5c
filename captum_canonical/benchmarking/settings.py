"""The settings of a benchmark, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from captum_canonical.benchmarking.measures import Space
from captum_canonical.checks import check_choice, check_integer, check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import FillLike, as_fill, fill_name
from captum_canonical.faithfulness.masks import Sign

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
        return cls(**given | {name: tuple(given[name]) for name in ("fills", "fractions", "spaces")})

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
