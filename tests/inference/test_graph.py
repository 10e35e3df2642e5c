"""Networks that cannot be run incrementally, and what a trace must leave alone."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.costs import VARIABLE
from captum_canonical.inference.dense import DenseInference
from captum_canonical.inference.graph import NotIncrementalError, trace
from captum_canonical.inference.scorer import Scorer
from captum_canonical.restore import ModuleContents
from incremental_tools import MANY, SIZE, Call, Conv, engines, images, patches


def test_a_trace_leaves_no_stand_in_behind() -> None:
    for net in (Counts().eval(), Remembers().eval()):
        calls = net.calls
        with pytest.raises(NotIncrementalError, match="changes its own attributes"):
            engines(net, images())
        assert net.calls is calls


KEPT: list[Tensor] = []
DEFAULT: list[Tensor] = []


class Keeps(nn.Module):
    """Keeps what it computes, in containers of all sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Conv()
        self.features: list[Tensor] = []
        self.by_name: dict[str, list[Tensor]] = {"all": []}
        self.last: deque[Tensor] = deque(maxlen=2)
        self.store, self.slots = Store(), Slots()

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        getattr(self, self.kept)(x)
        return x

    def into_a_list(self, x: Tensor) -> None:
        self.features.append(x)

    def into_a_dictionary(self, x: Tensor) -> None:
        self.by_name["all"] += [x]

    def into_a_deque(self, x: Tensor) -> None:
        self.last.append(x)

    def into_an_object(self, x: Tensor) -> None:
        self.store.values.add(x)

    def into_a_list_of_the_class(self, x: Tensor) -> None:
        self.shared.append(x)

    def into_a_global_list(self, x: Tensor) -> None:
        KEPT.append(x)

    def into_a_default_argument(self, x: Tensor, kept: list[Tensor] = DEFAULT) -> None:
        kept.append(x)

    def into_slots(self, x: Tensor) -> None:
        self.slots.values.append(x)

    shared: ClassVar[list[Tensor]] = []


class Store:
    def __init__(self) -> None:
        self.values: set[Tensor] = set()


class Slots:
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[Tensor] = []


@pytest.mark.parametrize("kept", [name for name in vars(Keeps) if name.startswith("into_")])
def test_a_trace_leaves_no_stand_in_in_containers(kept: str) -> None:
    net = Keeps().eval()
    net.kept = kept
    before = torch.zeros(1)
    shared = (net.shared, KEPT, DEFAULT)
    for container in shared:
        container[:] = [before]
    with pytest.raises(NotIncrementalError, match="changes its own attributes"):
        engines(net, images())
    own = [*net.features, *net.by_name["all"], *net.last, *net.store.values, *net.slots.values]
    assert not any(isinstance(value, torch.fx.Proxy) for value in own)
    assert all(len(container) == 1 and container[0] is before for container in shared)


def test_what_others_put_into_a_shared_container_stays() -> None:
    """Of a list that is not the network's own only stand-ins go."""
    net = Keeps().eval()
    net.kept = "into_a_list"
    contents, added = ModuleContents(net), torch.ones(1)
    net.shared[:] = [added]
    net.features.append(added)
    assert contents.restore() and net.features == [] and net.shared == [added]


def test_networks_can_be_traced_and_run_in_several_threads() -> None:
    nets = [Conv().eval() for _ in range(2)]
    x = images()
    expected = [net(x) for net in nets]
    call, get = nn.Module.__call__, nn.Module.__getattr__
    stop = threading.Event()

    def run(number: int) -> bool:
        good = True
        while not stop.is_set():
            result = nets[number](x)
            good = good and isinstance(result, Tensor) and bool((result - expected[number]).abs().max() < 1e-5)
        return good

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run, number) for number in range(2)]
        traces = [pool.submit(lambda net: [trace(net, (None,)) for _ in range(10)], net) for net in nets]
        try:
            for each in traces:
                each.result()
        finally:
            stop.set()
        assert all(each.result() for each in runs)
    assert nn.Module.__call__ is call and nn.Module.__getattr__ is get


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
    "data parallel": (lambda: nn.DataParallel(Conv()), "either"),
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
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "little gain":
        monkeypatch.delenv(VARIABLE)  # by what operators really cost
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


def test_not_incremental_is_an_error_of_the_package() -> None:
    assert issubclass(NotIncrementalError, CanonicalError)
    with pytest.raises(NotIncrementalError, match="not images"):
        engines(nn.Linear(4, 2).eval(), torch.rand(2, 4), hidden=(True,))
