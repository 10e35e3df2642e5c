"""Clusters of neighbouring pixels that point the same way, tested by their mass or extent.

References:
    Maris, Oostenveld: Nonparametric statistical testing of EEG- and MEG-data, J. Neuroscience Methods 164, 2007.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.statistics.max_t import AT_ONCE, Statistic, dtype_for, p_values_of
from captum_canonical.statistics.permutation import Patterns

ClusterMeasure = Literal["mass", "extent"]


@dataclass(frozen=True)
class Cluster:
    """Neighbouring pixels whose t is beyond the forming threshold on the same side.

    Attributes:
        sign: 1 or -1, of t.
        pixels: how many.
        mass: sum of abs(t) over them.
        peak: (row, column) of the largest abs(t).
        p_value: corrected for all clusters of a map, above 0 and at most 1.
    """

    sign: int
    pixels: int
    mass: float
    peak: tuple[int, int]
    p_value: float


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """Result of a test of clusters.

    Attributes:
        clusters: of the observed map, those with the smallest p value first.
        t: (H, W) observed statistics, 0 where not tested.
        p_values: (H, W) of the pixel's cluster; 1 outside of all.
        exhaustive: whether all patterns there are were tried.
    """

    clusters: tuple[Cluster, ...]
    t: Tensor
    p_values: Tensor
    exhaustive: bool


def cluster_test(
    values: Tensor,
    covered: Tensor,
    places: Tensor,
    patterns: Patterns,
    statistic: type[Statistic],
    thresholds: Tensor,
    measure: ClusterMeasure,
    share: float = 0.5,
) -> ClusterTest:
    """Compares the clusters of the observed map with the largest cluster of each pattern.

    A significant cluster says that there is an effect somewhere in it, not that there is one at each of its pixels.

    Args:
        values, covered: (U, P) values, 0 where not covered, and whether they are, of some pixels.
        places: (H, W) bool, where these pixels are.
        patterns, statistic, share: as in :func:`max_t`.
        thresholds: (P,) magnitude of t above which a pixel belongs to a cluster.
        measure: of a cluster: the sum of abs(t), or the number of pixels. Pixels touch at corners, too.
    """
    made = statistic(values.to(dtype_for(patterns)), covered, share)
    limit = thresholds.new_full(places.shape, torch.inf).masked_scatter_(places, thresholds).numpy()
    step = max(1, AT_ONCE // places.numel())
    largest = np.zeros(len(patterns))

    def grids(rows: Tensor) -> Tensor:
        t = made.of(rows)
        grid = t.new_zeros(len(rows), *places.shape)
        grid[:, places] = t
        return grid

    for start in range(0, len(patterns), step):
        for place, t in enumerate(grids(patterns.rows[start : start + step]).numpy(), start):
            largest[place] = max((sizes.max(initial=0) for _, sizes, _ in _labelled(t, limit, measure)), default=0)
    t = grids(patterns.rows[:1])[0].double()
    clusters, p_values = _observed(t.numpy(), limit, measure, torch.from_numpy(largest), patterns)
    return ClusterTest(tuple(clusters), t, torch.from_numpy(p_values), patterns.exhaustive)


def _observed(
    t: np.ndarray, limit: np.ndarray, measure: ClusterMeasure, largest: Tensor, patterns: Patterns
) -> tuple[list[Cluster], np.ndarray]:
    p_values, clusters = np.ones(t.shape), []
    for sign, sizes, labels in _labelled(t, limit, measure):
        found = p_values_of(torch.from_numpy(sizes), largest, patterns).tolist()
        for number, p_value in enumerate(found, 1):
            inside = labels == number
            magnitude = np.where(inside, np.abs(t), -1)
            row, column = (int(place) for place in np.unravel_index(int(magnitude.argmax()), t.shape))
            mass = float(magnitude[inside].sum())
            clusters.append(Cluster(sign, int(inside.sum()), mass, (row, column), p_value))
            p_values[inside] = p_value
    return sorted(clusters, key=lambda cluster: (cluster.p_value, -cluster.mass)), p_values


def _labelled(t: np.ndarray, limit: np.ndarray, measure: ClusterMeasure) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """For each sign of which there is a cluster: the sign, the sizes of its clusters and their numbers from 1 on."""
    found = []
    for sign in (1, -1):
        beyond = sign * t > limit
        if beyond.any():
            count, labels = cv2.connectedComponents(beyond.view(np.uint8), connectivity=8)
            weights = np.abs(t[beyond]) if measure == "mass" else None
            sizes = np.bincount(labels[beyond], weights, count)[1:].astype(np.float64)
            found.append((sign, sizes, labels))
    return found
