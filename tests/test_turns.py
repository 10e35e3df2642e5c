"""Threads that explain one network at the same time get the maps that they get alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from captum.attr import GuidedBackprop, LayerGradCam
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.inference.choose import choose_inference
from captum_canonical.restore import network_kept
from captum_canonical.turns import turn_at

SIZE, CALLS = 32, 4


class Net(nn.Module):
    """Two convolutions, three classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu, self.second = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.relu(self.first(x))).relu().mean((2, 3)))


@pytest.fixture(autouse=True)
def threads_that_alternate() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def methods(net: Net) -> dict[str, Callable[[Tensor], Tensor]]:
    face = CanonicalFace.default()
    mesh = FaceMesh(face.resized((SIZE, SIZE)).vertices[None], image_size=(SIZE, SIZE), topology=face.topology)
    projected = {"guided": GuidedBackprop(net), "Grad-CAM": LayerGradCam(net, net.second)}
    occlusion = CanonicalOcclusion(net, mesh)
    return {
        "Grad-CAM++": lambda x: LayerGradCamPlusPlus(net, net.second).attribute(x, target=1),
        "Grad-CAM++ of a function": lambda x: LayerGradCamPlusPlus(lambda y: net(y), net.second).attribute(x, target=1),
        "guided Grad-CAM++": lambda x: GuidedGradCamPlusPlus(net, net.second).attribute(x, target=1),
        "Score-CAM": lambda x: LayerScoreCam(net, net.second).attribute(x, target=1),
        "occlusion": lambda x: occlusion.attribute(x, target=1, num_points=4),
    } | {
        name: lambda x, method=method: CanonicalProjector(method, mesh).attribute(x, target=1)
        for name, method in projected.items()
    }


@pytest.mark.parametrize("others", ["the same", "occlusion"])
def test_maps_are_those_of_one_thread(others: str) -> None:
    net = Net().eval()
    images = [torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(i)) for i in range(CALLS)]
    for name, explain in methods(net).items():
        beside = explain if others == "the same" else methods(net)[others]
        alone = [[each(x) for x in images] for each in (explain, beside)]
        start = threading.Barrier(2)

        def run(each: Callable[[Tensor], Tensor], start: threading.Barrier = start) -> list[Tensor]:
            start.wait()
            return [each(x) for x in images]

        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(run, (explain, beside)))
        for expected, got in zip(alone, together, strict=True):
            assert_close(got, expected, rtol=1e-4, atol=1e-6, msg=f"{name} beside {others}")


def test_uses_that_are_not_alone_go_side_by_side_and_others_wait() -> None:
    net, other, events = Net(), Net(), []
    inside, go_on = threading.Event(), threading.Event()

    def hold(alone: bool) -> None:
        with turn_at(net, alone=alone):
            inside.set()
            go_on.wait(10)
            events.append("first")

    def second(network: object, alone: bool) -> None:
        with turn_at(network, alone=alone):
            events.append("second")

    cases: list[tuple[bool, object, bool, str]] = [
        (False, net, False, "second"),
        (True, other, True, "second"),
        (True, net, False, "first"),
        (False, net.first, True, "first"),
        (True, net.forward, False, "first"),
        (True, lambda x: x, False, "first"),
    ]
    for alone, network, second_alone, first in cases:
        events.clear(), inside.clear(), go_on.clear()
        threads = [
            threading.Thread(target=hold, args=(alone,)),
            threading.Thread(target=second, args=(network, second_alone)),
        ]
        threads[0].start()
        inside.wait(10)
        threads[1].start()
        threads[1].join(0.1)
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert events[0] == first, (alone, network, second_alone)


def test_a_trace_is_made_within_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a thread that has hooks on the network it would take them for its own, and remove them."""
    net, x = Net().eval(), torch.rand(1, 3, SIZE, SIZE)
    face = CanonicalFace.default()
    mesh = FaceMesh(face.resized((SIZE, SIZE)).vertices[None], image_size=(SIZE, SIZE), topology=face.topology)
    other_has_it, chosen = threading.Event(), []

    def take() -> None:
        with turn_at(net, alone=True):
            other_has_it.set()

    def choose(*arguments: object) -> object:
        thread.start()
        chosen.append(other_has_it.wait(0.2))
        return choose_inference(*arguments)

    thread = threading.Thread(target=take)
    monkeypatch.setattr("captum_canonical.attributions.occlusion.choose_inference", choose)
    CanonicalOcclusion(net, mesh).attribute(x, target=1, num_points=4)
    thread.join(10)
    assert chosen == [False] and other_has_it.is_set()


def test_a_thread_may_take_its_turn_again_and_gives_it_back_after_an_error() -> None:
    net = Net()
    with pytest.raises(ZeroDivisionError), network_kept(net), turn_at(net, alone=False), turn_at(net, alone=True):
        raise ZeroDivisionError
    thread = threading.Thread(target=lambda: turn_at(net, alone=True).__enter__(), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    from captum_canonical import turns

    turns._after_fork()
