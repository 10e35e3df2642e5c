"""What descriptions and fingerprints tell apart, and what they do not."""

from __future__ import annotations

import enum
import functools
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import nn

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.fingerprint import array_digest, describe, fingerprint, network_digest

FACE = CanonicalFace.default(16)


@dataclass
class Options:
    scale: float
    names: Any = None


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Plain:
    def __init__(self, value: object) -> None:
        self.value = value
        self._hidden = 1

    @functools.cached_property
    def computed(self) -> int:
        return 5


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Says(Plain):
    def __fingerprint__(self) -> object:
        return self.value


def network(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def changed_buffer() -> nn.Module:
    made = network()
    made[1].running_mean[0] = 1.0
    return made


DIFFERENT = {
    "plain": [None, True, 1, 1.0, "1", 1 + 0j, b"1", math.nan, math.inf, "nan", "", torch.float32, torch.device("cpu")],
    "containers": [[], (), {}, set(), [1], (1,), {1}, {1: 1}, {"1": 1}, [[1]], [1, 2], [2, 1], {(1, 2): 1}],
    "arrays": [
        *[torch.zeros(2), torch.zeros(2, 1), torch.zeros(2).double(), torch.zeros(2).bfloat16(), torch.tensor(0.0)],
        *[torch.zeros(0), torch.zeros(0, 2), np.array(["a", "b"]), np.array(["a", "c"])],
        f"float32 (2,) {array_digest(torch.zeros(2))[:16]}",
    ],
    "enums": [Color.RED, Color.GREEN, 1, "RED", "Color.RED"],
    "dataclasses": [Options(1.0), Options(1), Options(1.0, {"a": 1}), Options(1.0, torch.zeros(1))],
    "own": [Says(1), Says(2), FACE, CanonicalFace.default(17)],
    "networks": [
        *[network(), network(scale=1), network(scale=[1, torch.ones(1)]), network(config=Options(1.0))],
        *[network().train(), changed_buffer(), network().double(), nn.Sequential(network())],
    ],
    "objects": [Plain(1), Plain(2), Plain(Plain(1)), Slots(1), Slots(2), [1].append, [2].append],
    "functions": [
        abs,
        len,
        lambda: 1,
        lambda: 2,
        Color,
        functools.partial(round, 1.5),
        functools.partial(round, 2.5),
        Plain,
    ],
    "methods": [
        *[IntegratedGradients(abs), IntegratedGradients(abs, multiply_by_inputs=False)],
        *[LayerGradCam(network(), nn.Linear(2, 2)), LayerGradCam(network(), nn.Conv2d(2, 2, 1))],
    ],
    "paths": [Path("here"), Path("there"), "path here", Path(__file__)],
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_has_another_fingerprint(kind: str) -> None:
    values = DIFFERENT[kind]
    assert len({fingerprint(value) for value in values}) == len(values)
    json.dumps([describe(value) for value in values], allow_nan=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (torch.arange(6.0).view(2, 3).T, np.array([[0, 3], [1, 4], [2, 5]], np.float32)),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (torch.tensor([1 - 1j]), torch.tensor([1 + 1j]).conj()),
        (network(), network()),
        (IntegratedGradients(network()), IntegratedGradients(changed_buffer())),  # the network is not the method's
        (Plain(1), Plain(1)),
        (lambda: 1, lambda: 1),
        (torch.device("cuda:0"), torch.device("cuda:1")),
    ],
)
def test_what_does_not_count(one: object, other: object) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_the_image_of_a_canonical_face_does_not_count() -> None:
    from dataclasses import replace

    assert fingerprint(FACE) == fingerprint(replace(FACE, image=1 - FACE.image))
    assert fingerprint(FACE) != fingerprint(replace(FACE, point_weights=FACE.point_weights.flip(1)))


def test_layers_of_the_network_are_described_by_their_names() -> None:
    made = network()
    described = describe({"method": LayerGradCam(made, made[1]), "baselines": made}, network=made)
    assert described["method"]["class"] == "LayerGradCam" and described["method"]["layer"] == "layer 1"
    assert described["baselines"] == "layer (the network)" and "forward_func" not in described["method"]
    assert describe(nn.Linear(2, 2), network=made).startswith("network ")


def test_a_file_counts_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b").write_text("other")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_values_that_hold_themselves_have_an_end() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    made = network(outer=[1])
    made.outer.append(made)
    made[0].siblings = [made[0], made[1]]
    assert fingerprint(loop) == fingerprint(loop) and network_digest(made) == network_digest(made)


def test_strict_looks_into_objects_and_refuses_what_it_does_not_know() -> None:
    assert fingerprint(Plain(1), strict=True) != fingerprint(Plain(2), strict=True)
    seen = Plain(1)
    assert seen.computed == 5
    assert fingerprint(seen, strict=True) == fingerprint(Plain(1), strict=True)
    for value in (abs, lambda: 1, nn.Linear(1, 1), functools.partial(abs), iter([]), Plain, np.array([None])):
        with pytest.raises(CanonicalError, match=r"^it\.value\[0\]\['key'\] is .*no stable description"):
            fingerprint(Plain([{"key": value}]), strict=True, place="it")
    with pytest.raises(CanonicalError, match="no stable description"):
        fingerprint(Says(abs), strict=True)


SCRIPT = """
import torch, numpy as np
from captum_canonical.fingerprint import fingerprint
from captum_canonical.faces.canonical_face import CanonicalFace
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
print(fingerprint([net, CanonicalFace.default(16), {"a", "b", "c"}, {"x": np.arange(3)}, lambda: 1, object()]))
"""


def test_another_process_finds_the_same() -> None:
    said = {
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(said) == 1 and len(said.pop().strip()) == 64


class Holds(nn.Module):
    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function


class CallableList(list):  # type: ignore[type-arg]
    def __call__(self, x: object) -> object:
        return self[0](x)


class CallableDict(dict):  # type: ignore[type-arg]
    def __call__(self, x: object) -> object:
        return self["f"](x)


class Forgetful:
    def __init__(self, function: object) -> None:
        self.function = function

    def __reduce__(self) -> object:
        return Forgetful, (None,)


def graph_of(function: object) -> nn.Module:
    graph = torch.fx.Graph()
    graph.output(graph.call_function(function, (graph.placeholder("x"),)))
    return torch.fx.GraphModule(nn.Module(), graph)


WRAPPERS = {
    "a module": Holds,
    "a list": lambda function: CallableList([function]),
    "a dictionary": lambda function: CallableDict(f=function),
    "an object with a pickle of its own": Forgetful,
    "a graph": graph_of,
    "a method of Captum inside": lambda function: Holds(IntegratedGradients(function)),
    "partial": functools.partial,
    "no_grad": lambda function: torch.no_grad()(function),
    "a hook": lambda function: hooked(function),
    "forward": lambda function: network(forward=function),
}


def hooked(function: object) -> nn.Module:
    made = network()
    made.register_forward_hook(function)
    return made


def functions() -> list[Any]:
    """Two functions of one name, made anew."""

    def first() -> Any:
        def pick(x: Any) -> Any:
            return x["logits"]

        return pick

    def second() -> Any:
        def pick(x: Any) -> Any:
            return x["other"]

        return pick

    return [first(), second()]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_two_functions_in_one_wrapper_are_two_networks(wrapper: str) -> None:
    one, other, again, _ = (network_digest(WRAPPERS[wrapper](each)) for each in functions() + functions())
    assert one != other
    assert one == again


def test_patterns_that_a_network_keeps() -> None:
    """As networks of transformers do, for the names of their weights."""

    def digest(*given: Any) -> str:
        net = nn.ReLU()
        net.pattern = re.compile(*given)
        return network_digest(net)

    assert digest("a+") == digest("a+")
    assert len({digest("a+"), digest("b+"), digest("a+", re.IGNORECASE)}) == 3


def test_a_compiled_network_inside_another_is_the_one_that_was_compiled() -> None:
    """What torch.compile adds is made anew in each process, so a run of it could never go on."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    expected = fingerprint(Holds(net))
    assert fingerprint(Holds(torch.compile(net))) == fingerprint(Holds(torch.compile(net))) == expected
    with torch.no_grad():
        net[0].weight += 1
    assert fingerprint(Holds(torch.compile(net))) != expected
