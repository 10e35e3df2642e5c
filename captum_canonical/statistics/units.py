"""What is resampled: the identity of each image, as a number, or each image for itself."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

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
