"""What a user wants on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captum_canonical.benchmarking import BenchmarkResult
from captum_canonical.comparisons import GroupComparison
from captum_canonical.reporting.photo_source import PhotoSource


@dataclass(frozen=True, eq=False)
class Options:
    """The arguments of :func:`report` of these names."""

    title: str | None
    unit: str
    photos: PhotoSource
    wall: int
    head: bool
    strata: Sequence[str] | None
    comparisons: Sequence[GroupComparison]
    benchmark: BenchmarkResult | None
