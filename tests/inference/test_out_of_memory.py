"""Batches that do not fit into a GPU's memory; the errors are injected."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.inference.dense import DenseInference, Patches, Scorer
from captum_canonical.inference.out_of_memory import OutOfMemoryRetry


class Memory:
    """Holds so many rows; records what was tried."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.tried: list[int] = []

    def work(self, part: slice) -> list[int]:
        count = part.stop - part.start
        self.tried.append(count)
        if count > self.rows:
            raise torch.cuda.OutOfMemoryError("injected")
        return list(range(part.start, part.stop))


@given(st.integers(0, 9), st.integers(1, 40), st.integers(1, 50))
def test_every_row_is_run_once_and_in_order(start: int, count: int, room: int) -> None:
    memory = Memory(room)
    found = list(OutOfMemoryRetry().run(slice(start, start + count), memory.work))
    assert [row for _, rows in found for row in rows] == list(range(start, start + count))
    assert all(list(range(part.start, part.stop)) == rows for part, rows in found)


def test_what_has_been_learnt_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    memory, room = Memory(3), []
    retry = OutOfMemoryRetry(lambda: room.append(1))
    list(retry.run(slice(0, 8), memory.work))
    assert memory.tried == [8, 4, 2, 2, 2, 2]
    memory.tried.clear()
    list(retry.run(slice(8, 16), memory.work))
    assert memory.tried == [2, 2, 2, 2]
    assert len(room) == 2
    assert [record.message for record in caplog.records] == [
        "out of memory with 8 rows at once: going on with half as many."
    ]


def test_a_single_row_that_does_not_fit() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(OutOfMemoryRetry().run(slice(0, 2), Memory(0).work))


def test_other_errors_are_not_touched() -> None:
    memory = Memory(4)
    with pytest.raises(ZeroDivisionError):
        list(OutOfMemoryRetry().run(slice(0, 4), lambda part: memory.work(part)[0] // 0))
    assert memory.tried == [4]


def test_dense_inference_goes_on_with_smaller_batches() -> None:
    tried = []

    def forward(x: Tensor) -> Tensor:
        tried.append(len(x))
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError("injected")
        return x.mean((1, 2, 3))

    x = torch.rand(1, 3, 8, 8)
    corner = torch.tensor([[i % 4, i // 4] for i in range(16)])
    patches = Patches(torch.zeros(16, dtype=torch.int64), (torch.cat([corner, corner + 3], 1),))
    engine = DenseInference(Scorer(forward, None, (), 1), (x,), (0.0,), 8)
    expected = DenseInference(Scorer(lambda z: z.mean((1, 2, 3)), None, (), 1), (x,), (0.0,), 8)
    assert_close(engine.occluded_scores(patches), expected.occluded_scores(patches), rtol=0, atol=0)
    assert tried == [8, 4] + [2] * 8
