"""The threshold at which a verification network errs as often one way as the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError


def equal_error_threshold(similarity: Tensor | np.ndarray, same: Tensor | np.ndarray) -> tuple[float, float]:
    """The threshold at which as many pairs of different people are accepted as pairs of one person are rejected.

    A pair is accepted if its similarity is above the threshold. Only thresholds halfway between neighbouring
    similarities, and the two outermost similarities, are tried: the one with the smallest difference of the two rates
    is taken, among several the one with the smallest sum.

    Args:
        similarity: (P,) of held-out pairs, such as :meth:`VerificationConfidence.similarity` gives.
        same: (P,) bool, whether the pair shows one person.

    Returns:
        The threshold, and the equal error rate: the mean of both rates there, 0..1.

    Raises:
        CanonicalError: other shapes, values that are not finite, or pairs of one kind only.

    Example::

        >>> equal_error_threshold(torch.tensor([0.0, 0.25, 0.75, 0.5, 1.0, 1.0]), torch.arange(6) >= 3)
        (0.625, 0.3333333333333333)
    """
    values, truth = torch.as_tensor(similarity).detach().double().cpu(), torch.as_tensor(same).cpu()
    good = values.ndim == 1 and truth.shape == values.shape and truth.dtype == torch.bool
    if not good or not torch.isfinite(values).all() or not truth.any() or truth.all():
        raise CanonicalError(
            f"equal_error_threshold: expected P finite similarities and P bools of both kinds, got "
            f"{tuple(values.shape)} and {truth.dtype} {tuple(truth.shape)}, {int(truth.sum())} of them true."
        )
    levels = values.unique()
    thresholds = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
    accepted = _share_up_to(-thresholds, -values[~truth], right=False)
    rejected = _share_up_to(thresholds, values[truth], right=True)
    gap, error = (accepted - rejected).abs().tolist(), ((accepted + rejected) / 2).tolist()
    best = min(range(len(thresholds)), key=lambda index: (gap[index], error[index]))
    return float(thresholds[best]), error[best]


def _share_up_to(thresholds: Tensor, values: Tensor, right: bool) -> Tensor:
    """Share of the values below each threshold; with ``right`` those equal to it as well."""
    return torch.searchsorted(values.sort().values, thresholds, right=right).double() / len(values)
