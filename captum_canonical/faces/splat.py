"""Square footprints at points, added up and divided by how often each pixel was hit (Eqs. 4-5 and Algorithm 1).

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758.
"""

from __future__ import annotations

import torch
from torch import Tensor


def footprints(centres: Tensor, side: float | Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels that square patches cover.

    A patch of nominal side f centred at v covers k = floor(f) pixels per axis (at least one), from
    t = floor(v - k/2 + 1/2) on. What lies outside the image is cut off, never shifted inwards.

    Args:
        centres: (..., P, 2) x, y in pixels.
        side: f in pixels, a number or a tensor that broadcasts against (..., P).
        size: (H, W) of the image.

    Returns:
        (..., P, 4) int64: left, top, right, bottom, the last two exclusive. An empty box (right <= left or
        bottom <= top) lies wholly outside.

    Example::

        >>> footprints(torch.tensor([[4.5, 0.5]]), 3.0, (10, 10))
        tensor([[3, 0, 6, 2]])
    """
    k = torch.as_tensor(side, dtype=torch.float64, device=centres.device).floor().clamp(min=1)
    k = k.expand(centres.shape[:-1]).unsqueeze(-1)
    start = torch.floor(centres.double() - k / 2 + 0.5)
    limit = torch.tensor([size[1], size[0]], dtype=torch.float64, device=centres.device)
    low = torch.minimum(start.clamp(min=0), limit)
    high = torch.minimum((start + k).clamp(min=0), limit)
    return torch.cat([low, high], -1).long()  # in range even for points that lie absurdly far away


def nonempty(boxes: Tensor) -> Tensor:
    """(...,) bool: which of the boxes (..., 4) hold at least one pixel."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def splat(boxes: Tensor, values: Tensor, counted: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Adds each value over its box and divides by the number of hits (Eqs. 4 and 5).

    Uses difference arrays: four signed corners per box and two cumulative sums in float64, so the cost does not
    depend on the size of the patches.

    Args:
        boxes: (N, P, 4) or (1, P, 4) boxes as :func:`footprints` returns them.
        values: (N, P) one value per point.
        counted: (N, P) bool, False where a point counts nowhere. Points with an empty box never count.
        size: (H, W) of the map.

    Returns:
        Two (N, 1, H, W) float64 tensors: the mean of the values that hit each pixel (0 where none did), and the number
        of hits.

    Example::

        >>> boxes = footprints(torch.tensor([[[1.0, 1.0], [2.0, 1.0]]]), 2, (2, 3))
        >>> mean, hits = splat(boxes, torch.tensor([[1.0, 3.0]]), torch.ones(1, 2, dtype=torch.bool), (2, 3))
        >>> mean[0, 0]
        tensor([[1., 2., 3.],
                [1., 2., 3.]], dtype=torch.float64)
    """
    rows, points = values.shape
    height, width = size
    counted = counted & nonempty(boxes)
    planes = torch.stack([values.double() * counted, counted.double()])
    planes[0][~counted] = 0.0  # 0 * inf would be NaN
    left, top, right, bottom = boxes.expand(rows, points, 4).clamp(min=0).unbind(-1)
    # An uncounted box may lie anywhere: its weight is 0, its corners only have to stay in the array.
    right, bottom = right.clamp(max=width), bottom.clamp(max=height)
    left, top = torch.minimum(left, right), torch.minimum(top, bottom)
    first = torch.arange(rows, device=values.device)[:, None] * ((height + 1) * (width + 1))
    corners = [first + y * (width + 1) + x for y in (top, bottom) for x in (left, right)]
    sums = torch.zeros(2, rows * (height + 1) * (width + 1), dtype=torch.float64, device=values.device)
    for corner, sign in zip(corners, (1, -1, -1, 1), strict=True):
        sums.index_add_(1, corner.flatten(), planes.flatten(1), alpha=sign)
    # In place throughout: at this size a fresh buffer costs more (page faults) than the arithmetic.
    total, hits = sums.view(2, rows, 1, height + 1, width + 1).cumsum_(3).cumsum_(4)[..., :-1, :-1]
    hits.round_()
    total.div_(hits).masked_fill_(hits == 0, 0.0)
    return total, hits


def fill_in(
    values: Tensor, evaluated: Tensor, seen: Tensor, places: Tensor, neighbours: int = 4
) -> tuple[Tensor, Tensor]:
    """Gives seen points that were not evaluated the value interpolated from the nearest ones that were.

    Inverse-distance weighting (Shepard 1968, power 2) of the ``neighbours`` nearest evaluated points.

    Args:
        values: (N, P) values of the evaluated points.
        evaluated: (N, P) bool.
        seen: (N, P) bool, points that paint.
        places: (P, D) where the points lie on the canonical face.

    Returns:
        values (N, P), and (N, P) bool which points paint: none in rows where nothing was evaluated.
    """
    filled, paints = values.clone(), seen & evaluated.any(1, keepdim=True)
    for row in range(len(values)):
        known = torch.nonzero(evaluated[row]).flatten()
        wanted = torch.nonzero(paints[row] & ~evaluated[row]).flatten()
        if not len(known) or not len(wanted):
            continue
        distance, nearest = torch.cdist(places[wanted], places[known]).topk(min(neighbours, len(known)), largest=False)
        weights = 1 / distance.square().clamp(min=1e-12)
        filled[row, wanted] = (weights * values[row, known[nearest]]).sum(1) / weights.sum(1)
    return filled, paints
