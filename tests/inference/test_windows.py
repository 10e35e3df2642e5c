"""Geometry of windows against brute force."""

from __future__ import annotations

from random import Random

import pytest
import torch

from captum_canonical.inference.windows import Reach, Span, Windows


@pytest.mark.parametrize("seed", range(40))
def test_changed_and_needed_by_brute_force(seed: int) -> None:
    """Along one axis: the outputs that read a changed input, and the inputs that these outputs read."""
    r = Random(seed)
    kernel, stride, dilation, size = r.randint(1, 4), r.randint(1, 3), r.randint(1, 3), r.randint(9, 20)
    padding = r.randint(0, kernel // 2)
    reach = Reach((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    low = r.randint(0, size - 1)
    high = r.randint(low + 1, size)
    span = reach.changed(Span.of([[low, 0]], [[high, 1]]), (outputs, 1))
    reads = [{o * stride - padding + i * dilation for i in range(kernel)} for o in range(outputs)]
    gap_free = [range(min(r), max(r) + 1) for r in reads]
    touched = [o for o in range(outputs) if set(gap_free[o]) & set(range(low, high))]
    if touched:
        assert (int(span.low[0, 0]), int(span.high[0, 0])) == (touched[0], touched[-1] + 1)
    else:
        assert 0 <= int(span.low[0, 0]) == int(span.high[0, 0]) - 1 < outputs
    starts, sizes = reach.needed(span.low, span.extents())
    first, last = int(span.low[0, 0]), int(span.high[0, 0]) - 1
    assert int(starts[0, 0]) == min(reads[first])
    assert int(starts[0, 0] + sizes[0, 0]) == max(reads[last]) + 1


def test_windows_hold_their_spans_and_stay_inside() -> None:
    low = torch.randint(0, 10, (50, 2))
    high = torch.minimum(low + torch.randint(1, 6, (50, 2)), torch.tensor([12, 11]))
    low = torch.minimum(low, high - 1)
    batch = torch.arange(50) // 7
    windows = Windows.around(Span(low, high), batch, 8, (12, 11))
    ends = windows.starts + windows.sizes[batch]
    assert (windows.starts >= 0).all() and (ends <= torch.tensor([12, 11])).all()
    assert (windows.starts <= low).all() and (ends >= high).all()
    assert all((windows.sizes[b] == (high - low)[batch == b].amax(0)).all() for b in range(8))
