"""How well the mean map of one half of the people predicts that of the other half."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_integer
from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.labels import labels_of, people_units
from captum_canonical.statistics.units import checked_rows

SPLITS_AT_ONCE = 16  # bounds the memory to a few dozen maps


@dataclass(frozen=True)
class SplitHalfCorrelation:
    """How well the mean map of one random half of the people predicts that of the other half.

    Attributes:
        mean: mean Pearson correlation over the splits, -1..1; NaN if no split has a correlation.
        standard_deviation: its spread over the splits (ddof 1; NaN for fewer than two). The splits share their images,
            so this is not the standard error of the mean.
        splits: number of splits that have a correlation: at least two pixels are covered in both halves, and neither
            mean is constant there.
    """

    mean: float
    standard_deviation: float
    splits: int

    @property
    def spearman_brown(self) -> float:
        """The correlation to expect between means of all images each, 2 r / (1 + r): halves hold half as many."""
        return 2 * self.mean / (1 + self.mean) if self.mean > -1 else float("nan")


def split_half_correlation(
    maps: Tensor | np.ndarray,
    coverage: Tensor | np.ndarray | None = None,
    splits: int = 100,
    seed: int = 0,
    identities: Sequence[Hashable | None] | None = None,
) -> SplitHalfCorrelation:
    """Reliability of a mean map: the correlation between the means of random halves of the people.

    All images of a person are in one half: what one half knows of somebody must not be found again in the other. Each
    half holds floor(U / 2) of the U people; if U is odd, each split leaves out one of them at random. Means are taken
    per pixel over the images in which it was covered, the correlation over the pixels covered in both halves.

    Args:
        maps: (N, ...) one map for each image, such as (N, 1, H, W).
        coverage: like ``maps``, 0 where nothing was seen; what the map holds there does not matter. Default: all seen.
        splits: number of random splits.
        seed: of the random splits.
        identities: N, the person on each image; one whose identity is missing
            (:mod:`~captum_canonical.statistics.labels`) shows a person of its own. Default: all are.

    Returns:
        The mean over the splits, with its spread and the Spearman-Brown corrected value.

    Raises:
        CanonicalError: fewer than two maps or people, no splits, a coverage of another shape, values that are not
            finite, or not one identity for each map.

    Example::

        >>> maps = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 4.0], [1.0, 2.0, 5.0], [0.0, 2.0, 4.0]])
        >>> reliability = split_half_correlation(maps)
        >>> round(reliability.mean, 2), round(reliability.spearman_brown, 2)
        (0.99, 0.99)
        >>> split_half_correlation(maps, identities=["Ann", "Ann", "Bob", "Bob"]).standard_deviation < 1e-6  # one split
        True
    """
    values, covered = (rows.double() for rows in checked_rows(maps, coverage, "split_half_correlation"))
    check_integer("split_half_correlation: splits", splits, 1, expected="at least one split")
    check_integer("seed", seed, 0)
    people = people_units(labels_of(identities, len(values), "identities"))
    if not people.any():
        raise CanonicalError("split_half_correlation: expected maps of at least two people, got one person's.")
    generator = torch.Generator().manual_seed(int(seed))
    correlations: list[float | None] = []
    for start in range(0, splits, SPLITS_AT_ONCE):
        means, seen = _half_means(values, covered, people, min(SPLITS_AT_ONCE, splits - start), generator)
        for (first, second), both in zip(means, seen.all(1), strict=True):
            correlations.append(_pearson(first[both], second[both]))
    found = torch.tensor([value for value in correlations if value is not None], dtype=torch.float64)
    return SplitHalfCorrelation(
        mean=float(found.mean()) if len(found) else float("nan"),
        standard_deviation=float(found.std()) if len(found) > 1 else float("nan"),
        splits=len(found),
    )


def _half_means(
    values: Tensor, covered: Tensor, people: Tensor, splits: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(S, 2, P) means of random halves over the covered images, and (S, 2, P) bool whether there are any."""
    count = int(people.max()) + 1
    half = count // 2
    member = torch.zeros(splits, 2, count, dtype=torch.float64)
    for row in member:
        order = torch.randperm(count, generator=generator)
        row[0, order[:half]] = 1
        row[1, order[half : 2 * half]] = 1
    member = member[:, :, people].to(values.device)
    hits = member @ covered
    return (member @ values) / hits.clamp(min=1), hits > 0


def _pearson(first: Tensor, second: Tensor) -> float | None:
    """Correlation of two float64 vectors, None where it is not defined."""
    if len(first) < 2:
        return None
    # A constant has a standard deviation of rounding errors, not of 0: compare before subtracting the mean.
    if (first == first[0]).all() or (second == second[0]).all():
        return None
    first, second = first - first.mean(), second - second.mean()
    product = torch.linalg.vector_norm(first) * torch.linalg.vector_norm(second)
    return float((first @ second / product).clamp(-1, 1))
