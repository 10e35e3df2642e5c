"""Points of the face in disjoint sets, each of which is spread evenly over it."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def point_sets(places: Tensor, count: int, seed: int) -> Tensor:
    """Deals points out to ``count`` sets that are equally large and evenly spread.

    Neighbours go to different sets: the points are halved along their longer side until ``count`` of them are left
    together, and those are dealt out, one to each set, so that every set keeps its points far apart (the smallest sum
    of 1 / (1 + squared distance in spacings), solved as an assignment problem).

    Args:
        places: (P, D) where the points lie; the first two coordinates count.
        count: of sets, 1 to P.
        seed: of the choice among equally good sets.

    Returns:
        (P,) int64, the set of each point, 0 to ``count`` - 1; sets differ by at most one point.

    Example::

        >>> corners = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
        >>> twice = torch.cat([corners, corners + 0.1])
        >>> sets = point_sets(twice, 2, seed=0)
        >>> bool((sets[:4] != sets[4:]).all()), sets.bincount()
        (True, tensor([4, 4]))
    """
    flat = places[:, :2].detach().cpu().double()
    generator = torch.Generator().manual_seed(seed)
    sets = torch.zeros(len(flat), dtype=torch.int64)
    member = torch.zeros(len(flat), count, dtype=torch.float64)
    spacing = _spacing(flat)
    for group in _groups(flat, torch.arange(len(flat)), count):
        near = 1 / (1 + ((flat[group][:, None] - flat[None]) / spacing).square().sum(2))
        cost = near @ member + 1e-3 * torch.rand(len(group), count, dtype=torch.float64, generator=generator)
        row, chosen = linear_sum_assignment(cost.numpy())
        sets[group[row]] = torch.from_numpy(chosen)
        member[group[row], chosen] = 1
    return sets


def _spacing(flat: Tensor) -> float:
    """Side of the square that each point would have in the box around them; 1 if that has no area."""
    sides = flat.amax(0) - flat.amin(0)
    return float((sides.prod() / len(flat)).sqrt()) or 1.0


def _groups(flat: Tensor, index: Tensor, count: int) -> list[Tensor]:
    """Neighbours in groups of ``count``; one of them may be smaller."""
    if len(index) <= count:
        return [index]
    axis = int((flat[index].amax(0) - flat[index].amin(0)).argmax())
    order = index[flat[index, axis].argsort(stable=True)]
    half = max(1, -(-len(index) // count) // 2) * count
    return _groups(flat, order[:half], count) + _groups(flat, order[half:], count)
