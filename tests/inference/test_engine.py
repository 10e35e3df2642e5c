"""Incremental inference as a whole: patches, inputs, batches, memory, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.inference.batch import Batch
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer
from incremental_tools import MANY, SIZE, Conv, assert_equal_to_dense, engines, images, patches


@pytest.mark.parametrize("boxes", [[0, 0, 1, 1], [31, 31, 32, 32], [0, 0, 32, 32], [0, 10, 32, 11], [0, 30, 2, 32]])
def test_patches_at_borders(boxes: list[int]) -> None:
    hidden = Patches(torch.tensor([1, 0]), (torch.tensor([boxes, [3, 4, 9, 7]]),))
    assert_equal_to_dense(Conv(nn.MaxPool2d(3, 2, 1)), images(), hidden)


def test_fills_types_and_memory_formats() -> None:
    net, x = Conv(nn.ReLU()), images()
    assert_equal_to_dense(net, x, fills=(0.7,))
    assert_equal_to_dense(net, x, fills=(torch.rand(3, 1, 1),))
    assert_equal_to_dense(net, x, fills=(torch.rand_like(x),))
    assert_equal_to_dense(net, x, fills=(torch.rand(1, 3, SIZE, SIZE),))
    assert_equal_to_dense(net, x.contiguous(memory_format=torch.channels_last))
    assert_equal_to_dense(net, images(4, 6)[::2, ::2])
    assert_equal_to_dense(net, x.requires_grad_())
    assert_equal_to_dense(Conv(nn.ReLU()).double(), images(dtype=torch.float64))


def test_many_images_in_groups() -> None:
    """With few rows the clean maps of few images are kept at once; patches come in any order."""
    net, x = Conv(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(6))), images(7)
    engine = assert_equal_to_dense(net, x, patches(50, 7), rows=8)
    assert 1 < engine.clean.images_at_once < 7
    assert engine.plan(patches(50, 7)).ratio > 1.3


def test_several_inputs_and_arguments_per_image() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(7, 1)

        def forward(self, x: Tensor, y: Tensor, data: Tensor, scale: Tensor, factor: float) -> Tensor:
            both = (self.first(x).relu() + self.second(y).relu()).mean((2, 3))
            return self.fc(torch.cat([both, data], 1)) * scale * factor

    net, x, y = Two().eval(), images(3), images(3)
    args = (torch.rand(3, 3), torch.tensor([1.0, 2.0]), 1.5)
    args = (args[0], args[1][:1], args[2])
    image, first = patches(40, 3).image, patches(40, 3).boxes[0]
    for boxes in ((first, patches(40, 3).boxes[0]), (first, None), (None, first)):
        for hidden in (None, tuple(box is not None for box in boxes)):
            incremental, dense = engines(net, (x, y), None, args, hidden=hidden)
            expected = dense.occluded_scores(Patches(image, boxes))
            assert_close(incremental.occluded_scores(Patches(image, boxes)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fault", [False, True])
def test_windows_of_equal_size_at_other_places(fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second row the window of the union is as large as the first input's, but starts elsewhere."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 5)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x + y).square().flatten(1)[:, ::7].sum(1)

    boxes = (torch.tensor([[0, 0, 8, 8], [10, 10, 12, 12]]), torch.tensor([[2, 2, 4, 4], [6, 6, 14, 14]]))
    hidden = Patches(torch.tensor([0, 1]), boxes)
    incremental, dense = engines(Both().eval(), (images(), images()), None)
    if fault:
        monkeypatch.setattr(Batch, "_same", lambda self, a, b: bool((a.sizes == b.sizes).all()))
    difference = (incremental.occluded_scores(hidden) / dense.occluded_scores(hidden) - 1).abs().max()
    assert difference > 1e-3 if fault else difference < 1e-5


def test_targets_per_image() -> None:
    for target in (torch.tensor([3, 0]), [2, 1], 2):
        assert_equal_to_dense(Conv(nn.ReLU()), images(), target=target)


def test_the_users_things_are_left_alone() -> None:
    net, x = Conv(nn.ReLU(inplace=True), nn.BatchNorm2d(8)), images()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    versions = {name: value._version for name, value in net.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in net.named_modules()}
    clean, state = x.clone(), torch.random.get_rng_state()
    scorer = Scorer(net, 1, (), 2)
    assert isinstance(
        choose_inference("auto", scorer, (x,), (0.0,), None, patches_of(state, MANY)), IncrementalInference
    )
    torch.random.set_rng_state(state)
    hidden = patches(MANY)
    after = torch.random.get_rng_state()
    engine = choose_inference("auto", scorer, (x,), (0.0,), None, hidden)
    scores = engine.occluded_scores(hidden)
    assert torch.equal(torch.random.get_rng_state(), after)
    assert torch.equal(x, clean)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) and value._version == versions[name]
    assert attributes == {name: dict(vars(module)) for name, module in net.named_modules()}
    assert net[1].inplace and all(not module._forward_hooks for module in net.modules())
    assert not scores.is_inference() and not engine.clean_scores().is_inference()
    scores += 1  # an ordinary tensor


def patches_of(state: Tensor, count: int) -> Patches:
    torch.random.set_rng_state(state)
    return patches(count)


def test_rows_and_ticks() -> None:
    net, x, hidden = Conv(nn.ReLU()), images(), patches(50)
    engine, _ = engines(net, x, rows=16)
    ticks: list[int] = []
    engine.occluded_scores(hidden, lambda: ticks.append(1))
    assert len(ticks) == engine.forwards(hidden) == 4
    assert max(engine.plan(hidden).counts) - min(engine.plan(hidden).counts) <= 1
    assert len(engine.occluded_scores(Patches(hidden.image[:0], (hidden.boxes[0][:0],)))) == 0


def test_grouping_puts_equal_windows_side_by_side() -> None:
    net = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1) for i in range(3)), nn.Flatten(), nn.Linear(64, 2))
    scorer, hidden = Scorer(net.eval(), 1, (), 2), patches(400)
    engine = IncrementalInference(scorer, (images(),), (0.0,), 16)
    alone = engine.plan(hidden, rows=1).ratio
    mixed = sum(1 / engine.plan(Patches(hidden.image[i::25], (hidden.boxes[0][i::25],)), 16).ratio for i in range(25))
    assert alone >= engine.plan(hidden).ratio > 1.05 * 25 / mixed


def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    net, x, hidden = Conv(nn.MaxPool2d(2)), images(), patches(40)
    engine, dense = engines(net, x, rows=16)
    right = Batch.results

    def results(self: Batch) -> list[Tensor]:
        if self.part.stop - self.part.start > 5:
            raise torch.cuda.OutOfMemoryError("injected")
        return right(self)

    monkeypatch.setattr(Batch, "results", results)
    scores = engine.occluded_scores(hidden)
    assert_close(scores, dense.occluded_scores(hidden), rtol=0, atol=1e-6)
    assert [r.message for r in caplog.records if "out of memory" in r.message] == [
        "out of memory with 14 rows at once: going on with half as many."
    ]
    monkeypatch.setattr(Batch, "results", lambda self: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError("injected")))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        engine.occluded_scores(hidden)
