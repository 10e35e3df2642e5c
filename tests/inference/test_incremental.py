"""Incremental inference: its geometry, its operators, what it must refuse, and when it is chosen."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical import CanonicalError
from captum_canonical.inference.batch import Batch
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import DenseInference, Patches, Scorer
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.graph import NotIncrementalError
from captum_canonical.inference.operators import linear
from captum_canonical.inference.windows import Reach, Span, Windows

SIZE = 32
MANY = 500  # patches that are worth it whatever the network


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Maps this small gain nothing by threads, and lose much when other processes need the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(count: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, channels, SIZE, SIZE, dtype=dtype)


def patches(count: int = 60, num_images: int = 2, side: int = 4) -> Patches:
    """Anywhere, cut off at the borders."""
    corner = torch.randint(1 - side, SIZE, (count, 2))
    boxes = torch.cat([corner.clamp(min=0), (corner + side).clamp(max=SIZE)], 1)
    return Patches(torch.randint(0, num_images, (count,)), (boxes,))


class Conv(nn.Sequential):
    """Two convolutions and a classifier, with something in between and at the end."""

    def __init__(self, *between: nn.Module, after: nn.Module | None = None, channels: int = 8) -> None:
        end = [after] if after is not None else []
        first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(channels, 8, 3, 2)
        super().__init__(
            first, *between, second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), *end
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not hasattr(module, "parametrizations"):
                nn.init.kaiming_normal_(module.weight)  # or hardly anything of a patch arrives at the scores
        self.eval()


class Call(nn.Module):
    """A function as a module, traced through."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def engines(
    net: Callable[..., object],
    x: Tensor | tuple[Tensor, ...],
    target: object = 1,
    args: tuple = (),
    rows: int = 16,
    fills: tuple[Tensor | float, ...] = (0.0,),
    hidden: tuple[bool, ...] | None = None,
) -> tuple[IncrementalInference, DenseInference]:
    inputs = (x,) if isinstance(x, Tensor) else x
    scorer = Scorer(net, target, args, len(inputs[0]))
    fills = fills * len(inputs) if len(fills) < len(inputs) else fills
    return IncrementalInference(scorer, inputs, fills, rows, hidden), DenseInference(scorer, inputs, fills, 8)


def assert_equal_to_dense(
    net: nn.Module, x: Tensor, hidden: Patches | None = None, **arguments: object
) -> IncrementalInference:
    hidden = patches() if hidden is None else hidden
    incremental, dense = engines(net, x, **arguments)  # type: ignore[arg-type]
    largest = float(dense.clean_scores().abs().max())
    if isinstance(net, cc.ZeroShotConfidence):  # cosines: rounding is relative to 1
        largest = 1.0
    tolerance = {"rtol": 0.0, "atol": 1e-5 * largest}
    assert_close(incremental.clean_scores(), dense.clean_scores(), **tolerance)
    scores = dense.occluded_scores(hidden)
    assert (scores - dense.clean_scores()[hidden.image]).abs().max() > 100 * tolerance["atol"]  # else nothing is tested
    assert_close(incremental.occluded_scores(hidden), scores, **tolerance)
    return incremental


# ----------------------------------------------------------------------------------------------------------- geometry
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


# ---------------------------------------------------------------------------------------------------------- operators
torch.manual_seed(0)  # the networks below are made on import
LEARNED = torch.linspace(-1.5, 1.5, 8).view(8, 1, 1)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = x.chunk(2, 1)
    return first, second


ON_WINDOWS = {
    "relu": nn.ReLU(),
    "inplace": nn.ReLU(inplace=True),
    "batch norm": nn.BatchNorm2d(8),
    "batch norm in front": nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)),
    "batch norm without weights": nn.BatchNorm2d(8, affine=False),
    "functional batch norm": Call(lambda x: F.batch_norm(x, LEARNED.flatten(), LEARNED.flatten() ** 2 + 1)),
    "prelu": nn.PReLU(8),
    "functional prelu": Call(lambda x: F.prelu(x, LEARNED.flatten())),
    "gelu": nn.GELU(),
    "hardswish": nn.Hardswish(inplace=True),
    "dropout": nn.Sequential(nn.Dropout(0.9), nn.Dropout2d(inplace=True)),
    "functional dropout": Call(lambda x: F.dropout(x, 0.9, training=False)),
    "scalars": Call(lambda x: (2 - x * 3 + 1) / 2),
    "constants": Call(lambda x: x * LEARNED + LEARNED),
    "softmax over channels": Call(lambda x: x.softmax(1)),
    "same padding": nn.Conv2d(8, 8, (4, 3), padding="same", dilation=(1, 2)),
    "even kernel": nn.Conv2d(8, 8, (4, 2), padding=(2, 1)),
    "long kernel": nn.Sequential(nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), nn.Conv2d(8, 8, (7, 1), padding=(3, 0))),
    "dilated": nn.Conv2d(8, 8, 3, dilation=3, padding=3),
    "groups": nn.Conv2d(8, 8, 3, groups=4),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8, stride=2, bias=False),
    "strided pixel": nn.Conv2d(8, 8, 1, stride=2),
    "padded pixel": nn.Conv2d(8, 8, 1, padding=1),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool of negative numbers": nn.Sequential(Call(lambda x: -x.abs() - 1), nn.MaxPool2d(3, 2, 1)),
    "max pool, ceil": nn.MaxPool2d(3, 2, ceil_mode=True),
    "dilated max pool": nn.MaxPool2d(2, 1, dilation=2),
    "functional max pool": Call(lambda x: F.max_pool2d(x, 2)),
    "average": nn.AvgPool2d(2),
    "average, padded": nn.AvgPool2d(3, 2, 1),
    "average, padding not counted": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average, ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average, divisor": nn.AvgPool2d(3, divisor_override=2),
    "functional average": Call(lambda x: F.avg_pool2d(x, 3, stride=1)),
    "adaptive, divisible": nn.AdaptiveAvgPool2d(16),
    "adaptive, same": nn.AdaptiveAvgPool2d(32),
    "asymmetric padding": nn.ZeroPad2d((0, 2, 1, 0)),
    "constant padding": Call(lambda x: F.pad(x, (2, 0, 0, 1), value=0.5)),
    "channels padded": Call(lambda x: F.pad(x[:, :6], (0, 0, 0, 0, 1, 1))),
    "upsampling": nn.Upsample(scale_factor=2),
    "interpolation": Call(lambda x: F.interpolate(x, scale_factor=(2, 1))),
    "concatenation": Call(lambda x: torch.cat([x[:, :3], F.max_pool2d(x, 3, 1, 1)[:, 3:]], dim=1)),
    "difference of windows": Call(lambda x: x - F.avg_pool2d(x, 5, 1, 2)),
    "chunks": Call(lambda x: torch.cat([part * 2 for part in _halves(x)], 1)),
    "clone": Call(lambda x: x.clone().contiguous() + 0 * x.detach()),
    "added in place": Call(lambda x: x.relu().add_(x)),
    "one tensor twice": Call(lambda x: x * x),
    "weight parametrized": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)),
}
IN_FULL = {
    "reflected": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    "reflect pad": nn.ReflectionPad2d(1),
    "cropped": Call(lambda x: F.pad(x, (-1, 0, 0, 0))),
    "rows picked": Call(lambda x: x[:, :, ::2]),
    "squeeze and excitation": Call(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "group norm": nn.GroupNorm(2, 8),
    "instance norm": nn.InstanceNorm2d(8),
    "local response": nn.LocalResponseNorm(3),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "transposed": nn.ConvTranspose2d(8, 8, 2, 2),
    "adaptive": nn.AdaptiveAvgPool2d(5),
    "adaptive max": nn.AdaptiveMaxPool2d(4),
    "shuffle": nn.ChannelShuffle(2),
    "shuffle by view": Call(lambda x: x.view(x.size(0), 2, 4, x.shape[2], x.size()[3]).transpose(1, 2).flatten(1, 2)),
    "flipped": Call(lambda x: x.flip(3)),
    "positions": Call(lambda x: x + torch.linspace(0, 1, SIZE)),
    "dynamic kernel": Call(lambda x: F.conv2d(x, x.mean(0, keepdim=True)[:, :, :1, :1] * 0 + LEARNED[None] ** 2)),
    "running maximum": Call(lambda x: x.cummax(2)[0]),
}


@pytest.mark.parametrize("name", ON_WINDOWS)
def test_operators_on_windows(name: str) -> None:
    net = Conv(ON_WINDOWS[name])
    nn.init.uniform_(net[0].bias, -1, 1)
    engine = assert_equal_to_dense(net, images())
    assert engine.plan(patches()).ratio > 1.3, engine.plan(patches()).report()


@pytest.mark.parametrize("name", IN_FULL)
def test_operators_in_full(name: str) -> None:
    channels = 1 if name == "dynamic kernel" else 8
    engine = assert_equal_to_dense(Conv(IN_FULL[name], channels=channels), images(), rows=1 if channels == 1 else 16)
    assert "complete maps from" in engine.plan(patches()).report()


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


def confidences(net: nn.Module) -> dict[str, tuple[nn.Module, object, tuple]]:
    gallery = torch.randn(5, 4)
    return {
        "class": (cc.ClassConfidence(net), 1, ()),
        "log odds": (cc.ClassConfidence(net, link="log_odds"), torch.tensor([0, 3]), ()),
        "gallery": (cc.ZeroShotConfidence(net, gallery, list("aabbc")), 3, ()),
        "bins": (cc.BinnedConfidence(nn.Sequential(net, nn.Linear(4, 1)).eval(), bins=(-1, 0, 1)), 0, ()),
        "regression": (cc.RegressionConfidence(net), None, (torch.randn(2, 4),)),
        "inside": (nn.Sequential(nn.Identity(), cc.ClassConfidence(net), nn.Identity()).eval(), 1, ()),
        "of a confidence": (cc.ZeroShotConfidence(cc.ClassConfidence(net), gallery, list("aabbc")), 3, ()),
    }


@pytest.mark.parametrize("name", confidences(nn.Identity()))
def test_confidences_are_looked_through(name: str) -> None:
    wrapper, target, args = confidences(Conv(nn.ReLU(inplace=True)))[name]
    engine = assert_equal_to_dense(wrapper, images(), target=target, args=args)
    assert engine.plan(patches()).ratio > 1.3


def test_verification_of_pairs() -> None:
    wrapper = cc.VerificationConfidence(Conv(nn.ReLU()), 0.2)
    pair, same = (images(), images()), torch.tensor([True, False])
    hidden = Patches(patches().image, (patches().boxes[0], patches().boxes[0]))
    incremental, dense = engines(wrapper, pair, None, (same,))
    assert_close(incremental.occluded_scores(hidden), dense.occluded_scores(hidden), rtol=0, atol=1e-6)
    assert incremental.plan(hidden).ratio > 1.3


# --------------------------------------------------------------------------------------------------- nothing is touched
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


def test_a_trace_leaves_no_stand_in_behind() -> None:
    for net in (Counts().eval(), Remembers().eval()):
        calls = net.calls
        with pytest.raises(NotIncrementalError, match="changes its own attributes"):
            engines(net, images())
        assert net.calls is calls


# ------------------------------------------------------------------------------------------------------------ refusals
class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.net = Conv()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x)


class BufferInPlace(Counts):
    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.net(x)


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = Conv(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x) * self.calls


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x


class Backbone(nn.Module):
    """Where the reason must point to."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = Conv(stage)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


def aliased(x: Tensor) -> Tensor:
    y = x.view(-1)
    x.add_(1)
    return x + y.view(x.shape)


def hooked() -> nn.Module:
    net = Backbone(nn.ReLU())
    net.stage[1].register_forward_hook(lambda module, args, output: output * 2)
    return net


def replaced() -> nn.Module:
    net = Backbone(nn.ReLU())
    net.stage[1].forward = lambda x: x * 2
    return net


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return Backbone(nn.utils.weight_norm(nn.Conv2d(8, 8, 3)))


REFUSED = {
    "function": (lambda: lambda x: x.mean((1, 2, 3))[:, None].expand(-1, 4), "function is not a torch.nn.Module"),
    "hook": (hooked, r"stage\.1 \(ReLU\) has hooks"),
    "old weight norm": (old_weight_norm, r"stage\.1 \(Conv2d\) has hooks"),
    "forward replaced": (replaced, r"stage\.1 \(ReLU\) has its forward method replaced"),
    "training": (lambda: Backbone(nn.Dropout()).train(), r"stage\.0 \(Conv2d\) is in training mode"),
    "one in training": (lambda: (n := Backbone(nn.Dropout()), n.stage[1].train())[0], r"stage\.1 \(Dropout\) is in tr"),
    "scripted": (lambda: torch.jit.script(Conv()), "scripted"),
    "data parallel": (lambda: nn.DataParallel(Conv()), "parallel"),
    "control flow": (lambda: Backbone(Call(lambda x: x if x.sum() > 0 else -x)), r"stage\.1 \(Call\) cannot be traced"),
    "loop": (lambda: Backbone(Call(lambda x: torch.stack([row * 2 for row in x]))), r"stage\.1 \(Call\) cannot be"),
    "item written": (lambda: Backbone(Call(lambda x: x.__setitem__(0, 1) or x)), r"stage\.1 \(Call\) cannot be traced"),
    "custom function": (lambda: Backbone(Call(Double.apply)), "either"),
    "numpy": (lambda: Backbone(Call(lambda x: torch.from_numpy(x.numpy()))), r"stage\.1 \(Call\)|TypeError"),
    "buffer counts": (Counts, r"the network \(Counts\) changes its own attributes"),
    "buffer in place": (BufferInPlace, "in place"),
    "aliases": (lambda: Backbone(Call(aliased)), "in place"),
    "strides": (lambda: Backbone(Call(lambda x: x.as_strided((1,), (1,)) + x)), "memory"),
    "batch mixed": (lambda: Backbone(Call(lambda x: x - x.mean(0))), "differ"),
    "batch flattened": (lambda: Backbone(Call(lambda x: x - x.mean())), "differ"),
    "rows": (lambda: Backbone(Call(lambda x: x * x.shape[0])), "differ"),
    "remembers": (Remembers, r"the network \(Remembers\) changes its own attributes"),
    "random": (lambda: Backbone(Call(lambda x: x * torch.rand(()))), "differ"),
    "augmented in place": (lambda: Backbone(Call(lambda x: [y := x, x := x.add_(1), y * x][2])), "either"),
    "little gain": (lambda: Conv(nn.Conv2d(8, 8, 31, padding=15)), "gain"),
    "global at once": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4)).eval(), "gain"),
    "half": (lambda: Conv().bfloat16(), "rounding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_incrementally_runs_densely_and_says_why(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = REFUSED[name]
    net, hidden = make(), patches(MANY)
    x = images(dtype=torch.bfloat16) if name == "half" else images()
    scorer = Scorer(net, 1, (), 2)
    with caplog.at_level(logging.INFO, "captum_canonical"):
        engine = choose_inference("auto", scorer, (x,), (0.0,), None, hidden)
    told = [r.message for r in caplog.records if r.name == "captum_canonical"]
    if reason == "either":  # right on windows, or dense
        scores = DenseInference(scorer, (x,), (0.0,), 1).occluded_scores(hidden)
        assert_close(engine.occluded_scores(hidden), scores, rtol=1e-5, atol=1e-5)
        return
    assert isinstance(engine, DenseInference)
    assert len(told) == 1 and told[0].startswith("inference is dense: ")
    assert re.search(reason, told[0]), told[0]
    if name not in ("half", "little gain", "global at once"):
        with pytest.raises(CanonicalError, match='inference="incremental" is not possible') as error:
            choose_inference("incremental", scorer, (x,), (0.0,), None, hidden)
        assert re.search(reason, str(error.value))


def test_captums_own_error_for_tuples() -> None:
    net = nn.Sequential(Conv(), Call(lambda x: (x, x))).eval()
    hidden = patches()
    engine = choose_inference("auto", Scorer(net, 1, (), 2), (images(),), (0.0,), None, hidden)
    with pytest.raises(CanonicalError, match="must return one tensor, got tuple"):
        engine.occluded_scores(hidden)


def test_choice() -> None:
    net, x, hidden = Conv(nn.ReLU()), images(), patches(MANY)

    def chosen(inference: str, patches: Patches = hidden, net: nn.Module = net) -> type:
        return type(choose_inference(inference, Scorer(net, 1, (), 2), (x,), (0.0,), None, patches))

    assert chosen("auto") is IncrementalInference
    assert chosen("incremental") is IncrementalInference
    assert chosen("dense") is DenseInference
    for count in (5, 40, 130):  # too few for a trace, and too few to pay for the check
        assert chosen("auto", hidden[:count]) is DenseInference
    few = hidden[:5]
    assert chosen("incremental", few) is IncrementalInference
    assert chosen("incremental", Patches(hidden.image[:0], (hidden.boxes[0][:0],))) is IncrementalInference
    with pytest.raises(CanonicalError, match='"auto", "incremental" or "dense", got \'fast\''):
        chosen("fast")
    with torch.autocast("cpu"):
        assert chosen("auto") is DenseInference


def test_half_precision_where_it_is_asked_for() -> None:
    net, x, hidden = Conv(nn.ReLU()), images(dtype=torch.bfloat16), patches()
    nn.init.constant_(net[-1].bias, 1.0)
    net.bfloat16()
    scorer = Scorer(net, 1, (), 2)
    engine = choose_inference("incremental", scorer, (x,), (0.0,), None, hidden)
    assert isinstance(engine, IncrementalInference)
    assert_close(
        engine.occluded_scores(hidden),
        DenseInference(scorer, (x,), (0.0,), 8).occluded_scores(hidden),
        atol=0.03,
        rtol=0,
    )


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


def test_not_incremental_is_an_error_of_the_package() -> None:
    assert issubclass(NotIncrementalError, CanonicalError)
    with pytest.raises(NotIncrementalError, match="not images"):
        engines(nn.Linear(4, 2).eval(), torch.rand(2, 4), hidden=(True,))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [3, 200])
def test_linear_layers_of_many_rows(rows: int, bias: bool) -> None:
    layer, x = nn.Linear(37, 11, bias), torch.randn(rows, 37)
    result = linear(x, layer.weight, layer.bias)
    assert_close(result, layer(x), rtol=0, atol=1e-5)
    assert result.is_contiguous()
