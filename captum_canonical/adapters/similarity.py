"""The best similarity (rotation, one scale, shift) between two sets of corresponding points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_canonical.errors import AlignmentError


@dataclass(frozen=True)
class Similarity:
    """B maps ``x -> scale * rotation @ x + shift`` of D-dimensional points; never a reflection.

    Attributes:
        scale: (B,) positive.
        rotation: (B, D, D) with determinant +1.
        shift: (B, D).
    """

    scale: Tensor
    rotation: Tensor
    shift: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """(P, D) or (B, P, D) points -> (B, P, D)."""
        return self.scale[:, None, None] * points @ self.rotation.mT + self.shift[:, None]

    def undo(self, points: Tensor) -> Tensor:
        """(B, P, D) points -> where :meth:`apply` would have taken them from."""
        return (points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]


def fit_similarity(source: Tensor, target: Tensor) -> Similarity:
    """Least-squares similarity that takes one shape to each of B others (Umeyama 1991, eqs. 40-43).

    Args:
        source: (P, D).
        target: (B, P, D), the same points.

    Raises:
        AlignmentError: the points of a shape coincide or are not finite, so that there is no such map.

    Example::

        >>> square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> fit_similarity(square, 2 * square[None] + 5).scale
        tensor([2.], dtype=torch.float64)
    """
    source, target = source.double(), target.double()
    from_mean, to_mean = source.mean(0), target.mean(1)
    start, end = source - from_mean, target - to_mean[:, None]
    if not bool(torch.isfinite(end).all()) or not bool(torch.isfinite(start).all()):
        raise AlignmentError("similarity: expected finite points, got NaN or infinity.")
    left, values, right = torch.linalg.svd(end.mT @ start)
    signs = torch.ones_like(values)
    signs[:, -1] = torch.linalg.det(left @ right).sign()  # the nearest rotation, where the best map is a reflection
    rotation = (left * signs[:, None]) @ right
    scale = (values * signs).sum(1) / start.square().sum()
    if not bool((scale > 0).all()):  # NaN, where all source points coincide, included
        raise AlignmentError(
            "similarity: expected points that outline a shape, but those of a shape coincide, or are the mirror image "
            "of the other's, so that no turning and scaling brings them nearer."
        )
    return Similarity(scale, rotation, to_mean - scale[:, None] * (rotation @ from_mean))
