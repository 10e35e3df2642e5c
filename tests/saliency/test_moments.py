"""Moments of parts add up to those of the whole."""

from __future__ import annotations

import numpy as np
import torch
from torch.testing import assert_close

from captum_canonical.saliency.moments import merge_moments


def test_merge_moments_of_many_parts_in_any_order() -> None:
    values = [torch.randn(k, 5, dtype=torch.float64) + 1e3 for k in (1, 4, 2, 9)]
    parts = [torch.stack([torch.full((5,), float(len(v))), v.mean(0), (v - v.mean(0)).square().sum(0)]) for v in values]
    parts.append(torch.zeros(3, 5))
    want = np.concatenate(values)
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        got = merge_moments(torch.stack([parts[i].double() for i in order]))
        assert_close(got[0], torch.full((5,), 16.0, dtype=torch.float64))
        assert_close(got[1].numpy(), want.mean(0), rtol=1e-14, atol=0)
        assert_close(got[2].numpy(), want.var(0) * 16, rtol=1e-11, atol=0)
    assert_close(merge_moments(torch.zeros(2, 3, 5)), torch.zeros(3, 5))
