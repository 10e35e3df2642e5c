"""What is resampled: the identity of each image, as a number, or each image for itself."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError

FEWEST_IDENTITIES = 20
"""Below so many, an interval by identity is much too narrow."""


def numbered(names: Sequence[Hashable]) -> Tensor:
    """(N,) int64, equal where names are; numbers count from 0 in the order of their first appearance.

    Example::

        >>> numbered(["Ann", "Bob", "Ann"])
        tensor([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names], dtype=torch.int64)


def names_of(identities: Sequence[Hashable] | Tensor | None, count: int) -> list[Hashable]:
    """One name for each image, which is its own where identities are not known.

    Raises:
        CanonicalError: another number of identities than of images.
    """
    if identities is None:
        return list(range(count))
    names = identities.tolist() if hasattr(identities, "tolist") else list(identities)
    if len(names) != count:
        raise CanonicalError(f"identities: expected one for each of the {count} images, got {len(names)}.")
    return names


def interval_units(identities: Sequence[Hashable] | Tensor | None, count: int) -> tuple[Tensor, str]:
    """What intervals are resampled by, and a sentence that says so: identities, or photos if these are too few.

    Args:
        identities: of the N images, or None where they are not known.
        count: N.

    Returns:
        (N,) int64 units from 0 on, and the sentence.

    Raises:
        CanonicalError: another number of identities than of images.

    Example::

        >>> units, sentence = interval_units(["Ann", "Bob", "Ann"], 3)
        >>> units, sentence[:50]
        (tensor([0, 1, 2]), 'No intervals by identity: 2 are too few (20 are ne')
    """
    photos, units = torch.arange(count), numbered(names_of(identities, count))
    people = int(units.max()) + 1 if count else 0
    if identities is None:
        return photos, (
            "Identities are not known: intervals (95 %) are by photo, and too narrow if photos show the same people."
        )
    if people < FEWEST_IDENTITIES:
        return photos, (
            f"No intervals by identity: {people} are too few ({FEWEST_IDENTITIES} are needed). Intervals (95 %) are by "
            "photo, and too narrow as far as photos of one person are alike."
        )
    return units, f"Intervals (95 %) resample the {people} identities."


SAME = 1e-6
"""Values of a map that differ by no more than this share of its largest magnitude count as equal: interpolation in
float32 makes a constant map differ by a tenth of that from pixel to pixel."""
PIXELS_AT_ONCE = 8192  # bounds the memory of what is summed in float64


def checked_rows(
    maps: Tensor | np.ndarray, coverage: Tensor | np.ndarray | None, who: str, fewest: int = 2
) -> tuple[Tensor, Tensor]:
    """(N, P) values, 0 where not covered, in the maps' type, and (N, P) bool whether they are covered.

    Args:
        maps: (N, ...).
        coverage: like ``maps``, 0 where nothing was seen; what the map holds there does not matter. None: all seen.
        who: the function that is named in the error.
        fewest: number of maps that it needs.

    Raises:
        CanonicalError: too few maps, a coverage of another shape, or values that are not finite.
    """
    given = torch.as_tensor(maps).detach()
    hits = torch.ones_like(given, dtype=torch.bool) if coverage is None else torch.as_tensor(coverage).detach()
    if given.ndim < 2 or len(given) < fewest or hits.shape != given.shape:
        wanted = {1: "at least one map", 2: "at least two maps"}.get(fewest, f"at least {fewest} maps")
        raise CanonicalError(
            f"{who}: expected {wanted} (N, ...) and a coverage of the same shape, got "
            f"{tuple(given.shape)} and {tuple(hits.shape)}."
        )
    if not bool((hits >= 0).all()) or not torch.isfinite(hits).all():  # NaN is not >= 0
        raise CanonicalError(f"{who}: expected coverages of 0 or more, got NaN, inf or a negative one.")
    covered = hits.to(given.device) > 0
    values = torch.where(covered, given, 0).flatten(1)
    if not torch.isfinite(values).all():
        raise CanonicalError(f"{who}: expected finite maps wherever they are covered, got NaN or inf.")
    return values, covered.flatten(1)


def unit_means(values: Tensor, covered: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each unit's values where they are covered, so that each unit counts once however many images it has.

    Args:
        values: (N, P) floats, 0 where not covered.
        covered: (N, P) bool.
        units: (N,) int64, from 0 to U - 1, none left out.

    Returns:
        (U, P) means in the values' type, 0 where the unit is not covered, and (U, P) bool whether it is.

    Example::

        >>> values, covered = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]]), torch.tensor([[1, 0], [1, 0], [1, 1]])
        >>> means, seen = unit_means(values, covered > 0, torch.tensor([0, 0, 1]))
        >>> means, seen[:, 1]
        (tensor([[2., 0.],
                [5., 6.]]), tensor([False,  True]))
    """
    count = _number_of(units)
    if count == len(values):  # each unit has one image: only their order may differ
        order = units.argsort()
        return (values, covered) if torch.equal(order, torch.arange(count)) else (values[order], covered[order])
    means, seen = values.new_zeros(count, values.shape[1]), covered.new_zeros(count, values.shape[1])
    for start in range(0, values.shape[1], PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        sums, hits = unit_sums(values[:, part], covered[:, part], units)
        means[:, part], seen[:, part] = (sums / hits.clamp(min=1)).to(means), hits > 0
    return means, seen


def unit_sums(values: Tensor, covered: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """(U, P) float64 sums of each unit's values, and how many of them are covered.

    Args:
        values: (N, P), 0 where not covered.
        covered: (N, P) bool.
        units: (N,) int64, from 0 to U - 1.
    """
    sums = torch.zeros(_number_of(units), values.shape[1], dtype=torch.float64)
    hits = torch.zeros_like(sums).index_add_(0, units, covered.double())
    return sums.index_add_(0, units, values.double()), hits


def _number_of(units: Tensor) -> int:
    return int(units.max()) + 1 if len(units) else 0
