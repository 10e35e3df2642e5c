"""DenseInference: the right score for the right row, whatever the network does with its batch or the memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import CanonicalError
from captum_canonical.inference.dense import DenseInference, OutOfMemoryRetry, Patches
from captum_canonical.inference.scorer import Scorer

SIZE = (7, 9)


def scorer(forward_func: Callable[..., object], target: object = None, args: tuple = (), images: int = 2) -> Scorer:
    return Scorer(forward_func, target, args, images)


def boxes(*sides: tuple[int, int, int, int]) -> Tensor:
    return torch.tensor(sides).reshape(-1, 4)


def weights(inputs: Tensor) -> Tensor:
    return torch.randn(1, *inputs.shape[1:], dtype=inputs.dtype)


def by_hand(forward: Callable[..., Tensor], inputs: tuple[Tensor, ...], fills: tuple, patches: Patches) -> list[float]:
    scores = []
    for job, image in enumerate(patches.image.tolist()):
        rows = []
        for x, fill, box in zip(inputs, fills, patches.boxes, strict=True):
            row = x[image : image + 1].clone()
            if box is not None:
                left, top, right, bottom = box[job].tolist()
                full = fill.expand_as(x)[image : image + 1] if isinstance(fill, Tensor) else torch.full_like(row, fill)
                row[..., top:bottom, left:right] = full[..., top:bottom, left:right]
            rows.append(row)
        scores.append(float(forward(*rows)))
    return scores


def random_patches(count: int, images: int, inputs: int) -> Patches:
    generator = torch.Generator().manual_seed(0)

    def side() -> Tensor:
        low = torch.stack([torch.randint(limit, (count,), generator=generator) for limit in (SIZE[1], SIZE[0])], 1)
        extent = torch.randint(1, 5, (count, 2), generator=generator)
        return torch.cat([low, torch.minimum(low + extent, torch.tensor([SIZE[1], SIZE[0]]))], 1)

    order = torch.randint(images, (count,), generator=generator)  # not sorted: images side by side in one batch
    return Patches(order, tuple(side() for _ in range(inputs)))


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 40, 100])
@pytest.mark.parametrize("fill", ["number", "one", "each", "channel", "image"])
def test_occluded_scores_are_the_loop(rows: int, fill: str) -> None:
    x = torch.rand(3, 2, *SIZE, dtype=torch.float64)
    shapes = {"one": (1, 2, *SIZE), "each": (3, 2, *SIZE), "channel": (1, 2, 1, 1), "image": (2, *SIZE)}
    fills = (0.3 if fill == "number" else torch.rand(*shapes[fill]),)
    w = weights(x)

    def forward(z: Tensor) -> Tensor:
        return ((z * w).flatten(1).sum(1) + z.flatten(1).square().sum(1)).sin()

    patches = random_patches(40, 3, 1)
    engine = DenseInference(scorer(forward, images=3), (x,), fills, rows)
    before = x.clone()
    assert_close(engine.clean_scores(), forward(x))
    expected = by_hand(forward, (x,), fills, patches)
    assert_close(engine.occluded_scores(patches), torch.tensor(expected, dtype=torch.float64))
    assert_close(engine.occluded_scores(patches), torch.tensor(expected, dtype=torch.float64), msg="asked twice")
    assert torch.equal(x, before)


def test_several_inputs_and_one_left_alone() -> None:
    x, y, age = torch.rand(2, 1, *SIZE), torch.rand(2, 3, *SIZE), torch.rand(2, 4)
    forward = lambda a, b, c: a.flatten(1).sum(1) * b.flatten(1).square().sum(1) + c.sum(1)  # noqa: E731
    patches = random_patches(20, 2, 2)
    patches = Patches(patches.image, (*patches.boxes, None))
    fills = (0.5, 0.0, 7.0)
    engine = DenseInference(scorer(forward), (x, y, age), fills, 6)
    expected = by_hand(forward, (x, y, age), fills, patches)
    assert_close(engine.occluded_scores(patches), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_no_patches_take_no_forward() -> None:
    calls = []
    engine = DenseInference(scorer(lambda x: calls.append(1) or x[:, 0, 0, 0]), (torch.rand(2, 1, *SIZE),), (0.0,), 4)
    patches = Patches(torch.zeros(0, dtype=torch.int64), (torch.zeros(0, 4, dtype=torch.int64),))
    assert engine.forwards(patches) == 0
    assert engine.occluded_scores(patches).shape == (0,)
    assert not calls


@pytest.mark.parametrize(("patches", "rows", "forwards"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (9, 1, 9), (3, 100, 1)])
def test_forward_calls_are_counted(patches: int, rows: int, forwards: int) -> None:
    sizes, ticks = [], []
    x = torch.rand(2, 1, *SIZE)
    engine = DenseInference(scorer(lambda z: sizes.append(len(z)) or z[:, 0, 0, 0]), (x,), (0.0,), rows)
    jobs = random_patches(patches, 2, 1)
    engine.occluded_scores(jobs, lambda: ticks.append(1))
    assert len(sizes) == len(ticks) == engine.forwards(jobs) == forwards
    assert sum(sizes) == patches
    assert max(sizes) <= rows


def writes_in_place(x: Tensor) -> None:
    x.mul_(0.5)


def writes_through_data(x: Tensor) -> None:
    x.data.mul_(0.5)


def writes_through_numpy(x: Tensor) -> None:
    array = x.detach().numpy()
    array *= 0.5


def writes_into_a_view(x: Tensor) -> None:
    x.view(-1)[::3] = 9.0


@pytest.mark.parametrize("write", [writes_in_place, writes_through_data, writes_through_numpy, writes_into_a_view])
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_a_network_may_write_into_its_input(write: Callable[[Tensor], None], rows: int) -> None:
    """Black boxes do: numpy code that subtracts a mean, an in-place activation as the first layer."""
    x, patches = torch.rand(2, 1, *SIZE, dtype=torch.float64), random_patches(12, 2, 1)
    before = x.clone()

    def forward(z: Tensor) -> Tensor:
        write(z)
        return z.flatten(1).square().sum(1)

    engine = DenseInference(scorer(forward), (x,), (0.0,), rows)
    clean = x.clone()
    write(clean)
    assert_close(engine.clean_scores(), clean.flatten(1).square().sum(1))
    expected = []
    for image, (left, top, right, bottom) in zip(patches.image.tolist(), patches.boxes[0].tolist(), strict=True):
        row = x[image : image + 1].clone()
        row[..., top:bottom, left:right] = 0
        expected.append(float(forward(row)))
    assert_close(engine.occluded_scores(patches), torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(x, before)


def test_a_network_may_return_its_input() -> None:
    """The score of a float64 network that is one pixel is a view of the reused batch."""
    x, patches = torch.rand(2, 1, *SIZE, dtype=torch.float64), random_patches(12, 2, 1)
    for forward in (lambda z: z[:, 0, 3, 3], lambda z: z.flatten(1)):
        target = None if forward(x).ndim == 1 else 3 * SIZE[1] + 3
        engine = DenseInference(scorer(forward, target), (x,), (0.25,), 4)
        expected = by_hand(lambda z: z[:, 0, 3, 3], (x,), (0.25,), patches)
        assert_close(engine.occluded_scores(patches), torch.tensor(expected, dtype=torch.float64))


def test_the_batch_is_reused() -> None:
    places, x = set(), torch.rand(2, 1, *SIZE)
    engine = DenseInference(scorer(lambda z: places.add(z.data_ptr()) or z[:, 0, 0, 0]), (x,), (0.0,), 4)
    engine.occluded_scores(random_patches(30, 2, 1))
    assert len(places) == 1


def test_the_batch_is_no_larger_than_the_work() -> None:
    """A generous perturbations_per_eval must not cost memory that is never used."""
    x = torch.rand(1, 3, *SIZE)
    engine = DenseInference(scorer(lambda z: z[:, 0, 0, 0], images=1), (x,), (0.0,), 10**9)
    assert engine.occluded_scores(random_patches(3, 1, 1)).shape == (3,)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_name_the_images(bad: float) -> None:
    x = torch.rand(3, 1, *SIZE)
    clean = DenseInference(scorer(lambda z: torch.tensor([1.0, bad, 1.0]), images=3), (x,), (0.0,), 4)
    with pytest.raises(CanonicalError, match=r"clean.*\[1\]"):
        clean.clean_scores()
    patches = Patches(torch.tensor([0, 2]), (boxes((0, 0, 2, 2), (0, 0, 2, 2)),))
    occluded = DenseInference(scorer(lambda z: torch.tensor([1.0, bad]), images=3), (x,), (0.0,), 4)
    with pytest.raises(CanonicalError, match=r"occluded.*\[2\]"):
        occluded.occluded_scores(patches)


def test_an_error_of_the_network_passes_and_leaves_the_inputs() -> None:
    x = torch.rand(2, 1, *SIZE)
    before = x.clone()

    def fails(z: Tensor) -> Tensor:
        raise ZeroDivisionError("of the network")

    engine = DenseInference(scorer(fails), (x,), (0.0,), 4)
    with pytest.raises(ZeroDivisionError):
        engine.occluded_scores(random_patches(5, 2, 1))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_types_are_kept_for_the_network(dtype: torch.dtype) -> None:
    seen = set()
    x = (torch.rand(2, 1, *SIZE) * 200).to(dtype)
    engine = DenseInference(scorer(lambda z: seen.add(z.dtype) or z.double().flatten(1).sum(1)), (x,), (1.0,), 4)
    patches = Patches(torch.tensor([1]), (boxes((0, 0, 2, 3)),))
    score = engine.occluded_scores(patches)
    assert seen == {dtype}
    expected = x[1].double().sum() - x[1, 0, :3, :2].double().sum() + 6
    assert_close(score[0], expected)


def test_under_inference_mode() -> None:
    x, w = torch.rand(2, 1, *SIZE), torch.randn(1, *SIZE)
    patches = random_patches(9, 2, 1)
    engine = DenseInference(scorer(lambda z: (z * w).flatten(1).sum(1)), (x,), (0.0,), 4)
    expected = engine.occluded_scores(patches)
    with torch.inference_mode():
        assert_close(engine.occluded_scores(patches), expected)


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
