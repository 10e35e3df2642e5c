"""Units of resampling: identities as codes, sums and means of each unit, and values that count as equal."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_tensor
from captum_canonical.errors import CanonicalError

FEWEST_IDENTITIES = 20
"""Below so many, an interval by the bootstrap or jackknife is much too narrow."""


def factorize(names: Sequence[Hashable]) -> Tensor:
    """(N,) int64 codes of names, from 0 on in the order of their first appearance.

    Example::

        >>> factorize(["Ann", "Bob", "Ann"])
        tensor([0, 1, 0])
    """
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names], dtype=torch.int64)


SAME = 1e-6
"""Values of a map that differ by no more than this share of its largest magnitude count as equal: interpolation in
float32 makes a constant map differ by a tenth of that from pixel to pixel."""
PIXELS_AT_ONCE = 8192  # bounds the memory of what is summed in float64


def is_constant(values: Tensor) -> bool:
    """Whether values differ by rounding only; none at all are constant."""
    return not len(values) or bool(values.amax() - values.amin() <= SAME * values.abs().amax())


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
    given = check_tensor(f"{who}: maps", maps).detach()
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
    """(U, ...) float64 sums of each unit's values, and how many of them are covered.

    Args:
        values: (N, ...), 0 where not covered.
        covered: (N, ...) bool.
        units: (N,) int64, from 0 to U - 1.
    """
    good = isinstance(units, Tensor) and units.shape == (len(values),) and not units.is_floating_point()
    if not good or units.is_complex():
        raise CanonicalError(
            f"units: expected int64 of shape ({len(values)},), the unit of each value, got {units!r:.80}."
        )
    sums = torch.zeros(_number_of(units), *values.shape[1:], dtype=torch.float64)
    hits = torch.zeros_like(sums).index_add_(0, units, covered.double())
    return sums.index_add_(0, units, values.double()), hits


def unit_totals(values: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and number of the values of each unit; NaN does not count.

    Args:
        values: (..., N).
        units: (N,) int64, the unit (identity) of each value, from 0 to U - 1.

    Returns:
        Two (..., U) float64.

    Example::

        >>> unit_totals(torch.tensor([1.0, 2.0, float("nan"), 4.0]), torch.tensor([0, 0, 1, 1]))
        (tensor([3., 4.], dtype=torch.float64), tensor([2., 1.], dtype=torch.float64))
    """
    finite = ~values.isnan()
    sums, counts = unit_sums(torch.where(finite, values, 0.0).movedim(-1, 0), finite.movedim(-1, 0), units)
    return sums.movedim(0, -1), counts.movedim(0, -1)


def _number_of(units: Tensor) -> int:
    return int(units.max()) + 1 if len(units) else 0
