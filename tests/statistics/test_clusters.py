"""Tests of clusters, against a loop over patterns in scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch.testing import assert_close

from captum_canonical.statistics.clusters import cluster_test
from captum_canonical.statistics.max_t import OneSample
from captum_canonical.statistics.permutation import sign_patterns


@pytest.mark.parametrize("measure", ["mass", "extent"])
def test_clusters_equal_a_loop_with_scipy(measure) -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(9, 8, 8, generator=generator, dtype=torch.float64)
    values[:, 2:5, 2:5] += 1.2
    values[:, 6:, 6:] -= 1.0
    covered = torch.ones(9, 8, 8, dtype=torch.bool)
    limit = 2.0
    patterns = sign_patterns(9, 256, 0)
    everywhere, limits = torch.ones(8, 8, dtype=torch.bool), torch.full((64,), limit).double()
    got = cluster_test(values.flatten(1), covered.flatten(1), everywhere, patterns, OneSample, limits, measure)

    def sizes(sign: np.ndarray) -> list[tuple[float, np.ndarray]]:
        t = stats.ttest_1samp(sign[:, None, None] * values.numpy(), 0).statistic
        found = []
        for side in (1, -1):
            labels, count = ndimage.label(side * t > limit, np.ones((3, 3)))
            for number in range(1, count + 1):
                inside = labels == number
                found.append((float(np.abs(t)[inside].sum() if measure == "mass" else inside.sum()), inside))
        return found

    maxima = np.array([max([size for size, _ in sizes(sign)], default=0) for sign in patterns.rows.double().numpy()])
    want = np.ones((8, 8))
    for size, inside in sizes(np.ones(9)):
        want[inside] = (maxima >= size * (1 - 1e-9)).mean()
    assert_close(got.p_values, torch.from_numpy(want))
    assert sum(cluster.pixels for cluster in got.clusters) == int((want < 1).sum())
    assert [cluster.p_value for cluster in got.clusters] == sorted(cluster.p_value for cluster in got.clusters)
    # A pixel that is not tested belongs to no cluster, and parts them.
    places = torch.ones(8, 8, dtype=torch.bool)
    places[:, 3] = False
    parted = cluster_test(
        values[:, places], covered[:, places], places, patterns, OneSample, torch.full((56,), limit).double(), measure
    )
    assert not parted.t[:, 3].any() and (parted.p_values[:, 3] == 1).all()
    assert_close(parted.t[places], got.t[places])
    assert len([each for each in parted.clusters if each.sign == 1]) > len([e for e in got.clusters if e.sign == 1])
    best = got.clusters[0]
    assert best.sign == 1 and 2 <= best.peak[0] < 5 and 2 <= best.peak[1] < 5
