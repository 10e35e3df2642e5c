"""Maps from more and more points, and how much they are expected to change yet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RefinedMaps:
    """One result of :meth:`CanonicalOcclusion.refine`.

    Attributes:
        attributions: as ``attribute`` returns them; points that have not been evaluated paint the drop interpolated
            from their neighbours.
        coverage: hits of each pixel, likewise.
        num_points: how many of the face's points have been evaluated.
        approximate: whether there are points left, so that this is not the complete map.
        expected_change: (N,) float64, the estimated distance to the complete map as a share of this map's L2 norm;
            0 for the complete map.

    Example::

        >>> from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
        >>> face = CanonicalFace.default()
        >>> faces = FaceMesh(face.resized((64, 64)).vertices[None], image_size=(64, 64), topology=face.topology)
        >>> maps = next(CanonicalOcclusion(lambda x: x.mean((1, 2, 3)), faces).refine(torch.ones(1, 3, 64, 64)))
        >>> maps.num_points, maps.approximate, maps.attributions.shape, maps.expected_change.shape
        (64, True, torch.Size([1, 1, 224, 224]), torch.Size([1]))
    """

    attributions: Tensor | tuple[Tensor, ...]
    coverage: Tensor | tuple[Tensor, ...]
    num_points: int
    approximate: bool
    expected_change: Tensor


def expected_change(maps: tuple[Tensor, ...], coarser: tuple[Tensor, ...], num_points: int, all_points: int) -> Tensor:
    r"""How much maps from n points will still change, (N,) float64, the largest over the inputs.

    Concretely, with maps :math:`M_n` and :math:`P` points in all,
    :math:`\|M_n - M_{n/2}\| \sqrt{1 - n/P} \, / \, \|M_n\|`: each doubling of the points makes half the squared change
    of the one before, and these changes are orthogonal. Both are assumptions; ``benchmarks/refinement.py`` compares
    the estimate with the truth.

    Args:
        maps: of each input, (N, 1, H, W), from ``num_points`` points.
        coarser: from half of these points.
        num_points: n.
        all_points: P.
    """
    left = (1 - num_points / all_points) ** 0.5
    changes = []
    for now, before in zip(maps, coarser, strict=True):
        norm = now.double().flatten(1).norm(dim=1)
        change = (now.double() - before.double()).flatten(1).norm(dim=1)
        changes.append(torch.where(change > 0, change / norm, 0.0) * left)
    return torch.stack(changes).amax(0)
