"""Which networks and callables count as the same, and which as others."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.errors import CanonicalError
from captum_canonical.fingerprint import describe, network_digest

SCALE = 1.0


def helper(x: Tensor) -> Tensor:
    return x * SCALE


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval()


class Net(nn.Module):
    gain = 1.0

    def __init__(self, act: Callable[[Tensor], Tensor] = torch.relu, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 2)
        self.act = act
        self._scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """One."""
        return self.act(self.layer(x)) * self._scale * self.gain


def made(body: str, **names: Any) -> Any:
    """A class or function ``Made`` of this source."""
    space: dict[str, Any] = {"nn": nn, "torch": torch, "__name__": "made_by_a_test", **names}
    exec(body, space)
    return space["Made"]


def network_of(forward: str, more: str = "", **names: Any) -> nn.Module:
    """A network of a class of always the same name."""
    return made(f"class Made(nn.Module):\n {more or 'pass'}\n def forward(self, x):\n  {forward}\n", **names)()


def hooked(scale: float, kind: str = "register_forward_hook") -> nn.Module:
    network = layers()
    if kind == "register_forward_hook":
        network[0].register_forward_hook(lambda module, inputs, output: output * scale)
    else:
        network[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * scale,))
    return network


def replaced_forward(scale: float) -> nn.Module:
    network = layers()
    network.forward = lambda x: x * scale
    return network


def closure(network: nn.Module, scale: float) -> Callable[[Tensor], Tensor]:
    def inner(x: Tensor) -> Tensor:
        return network(x) * scale

    return inner


def changed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-3
    return network


class Service:
    def __init__(self, factor: float, network: nn.Module) -> None:
        self._factor, self.network = factor, network

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x) * self._factor

    def predict(self, x: Tensor) -> Tensor:
        return self(x)


def script(scale: float) -> nn.Module:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    return torch.jit.script(Scripted())


@functools.cache
def remembered(x: float) -> float:
    return x


def held(source: str) -> nn.Module:
    """A network that uses the ``k`` of this source."""
    space: dict[str, Any] = {"__name__": "made_by_a_test", "collections": collections, "dataclasses": dataclasses}
    exec(f"import enum, types\n{source}", space)
    return network_of("return x * float(k)", k=space["k"])


def quantised(scale: float) -> nn.Module:
    network = layers()
    with torch.no_grad():
        network[0].weight.mul_(scale)
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, torch.qint8)


HELD = {  # what a value is of beside its number, its members or its name
    "an enumeration's value": "class E(enum.Enum):\n  A = {}\nk = E.A",
    "an enumeration's method": "class E(enum.Enum):\n  A = 1\n  def f(self): return {}\nk = E.A",
    "a method of a number": "class S(float):\n  def f(self): return {}\nk = S(1)",
    "a method of a tuple": "class S(collections.namedtuple('S', 'a')):\n  def f(self): return {}\nk = S(1)",
    "an attribute of a dict": "class S(dict): pass\nk = S(a=1)\nk.z = {}",
    "no field of a dataclass": "k = dataclasses.make_dataclass('S', ['a'])(1)\nk.z = {}",
    "the order of a dict": "k = dict([(1, abs), (2, min)][::-1 if {} == 2 else 1])",
    "the default of a dict": "k = collections.defaultdict(lambda: {})",
    "a module": "k = types.ModuleType('of_a_test')\nk.z = {}",
    "a metaclass": "class T(type):\n  def f(c): return {}\nclass k(metaclass=T): pass",
    "what an instance made later holds": "class k:\n  def __init__(self): self.z = {}",
    "what is equal": "class S:\n  def __eq__(self, o): return {}\nk = S()",
}


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    **{
        name: (lambda code=code: held(code.format(1)), lambda code=code: held(code.format(2)))
        for name, code in HELD.items()
    },
    "scale of quantised weights": (lambda: quantised(1.0), lambda: quantised(2.0)),
    "sparse tensor": (lambda: Net(scale=torch.eye(2).to_sparse()), lambda: Net(scale=2 * torch.eye(2).to_sparse())),
    "function in an attribute": (Net, lambda: Net(torch.tanh)),
    "lambda in an attribute": (lambda: Net(lambda x: x * 2), lambda: Net(lambda x: x * 3)),
    "private number": (Net, lambda: Net(scale=2.0)),
    "private list of objects": (lambda: Net(scale=[Service(1, layers())]), lambda: Net(scale=[Service(2, layers())])),
    "forward hook": (lambda: hooked(1.0), lambda: hooked(2.0)),
    "no hook": (layers, lambda: hooked(1.0)),
    "pre-hook": (lambda: hooked(1.0, "pre"), lambda: hooked(2.0, "pre")),
    "forward of the instance": (lambda: replaced_forward(1.0), lambda: replaced_forward(2.0)),
    "forward of the class": (lambda: network_of("return x * 1"), lambda: network_of("return x * 2")),
    "another method": (
        lambda: network_of("return self.f(x)", "def f(self, x): return x"),
        lambda: network_of("return self.f(x)", "def f(self, x): return -x"),
    ),
    "attribute of the class": (lambda: network_of("return x", "a = 1"), lambda: network_of("return x", "a = 2")),
    "a global number": (lambda: network_of("return x * S", S=1), lambda: network_of("return x * S", S=2)),
    "a global function": (
        lambda: network_of("return f(x)", f=made("def Made(x): return x")),
        lambda: network_of("return f(x)", f=made("def Made(x): return -x")),
    ),
    "a global function in an inner one": (
        lambda: network_of("return [f(y) for y in x]", f=made("def Made(x): return x")),
        lambda: network_of("return [f(y) for y in x]", f=made("def Made(x): return -x")),
    ),
    "inside a confidence": (
        lambda: cc.ClassConfidence(closure(layers(), 1.0)),
        lambda: cc.ClassConfidence(closure(layers(), 2.0)),
    ),
    "network inside a confidence": (
        lambda: cc.ClassConfidence(closure(layers(), 1.0)),
        lambda: cc.ClassConfidence(closure(changed(layers()), 1.0)),
    ),
    "link of a confidence": (
        lambda: cc.ClassConfidence(layers()),
        lambda: cc.ClassConfidence(layers(), link="log_odds"),
    ),
    "lambda": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    "names of attributes in code": (lambda: lambda x: x.sin(), lambda: lambda x: x.cos()),
    "default argument": (lambda: made("def Made(x, a=1): return a"), lambda: made("def Made(x, a=2): return a")),
    "captured network": (lambda: closure(layers(), 1.0), lambda: closure(changed(layers()), 1.0)),
    "captured number": (lambda: closure(layers(), 1.0), lambda: closure(layers(), 2.0)),
    "partial": (lambda: functools.partial(helper, a=layers()), lambda: functools.partial(helper, a=changed(layers()))),
    "bound method": (lambda: Service(1, layers()).predict, lambda: Service(2, layers()).predict),
    "object that is called": (lambda: Service(1, layers()), lambda: Service(1, changed(layers()))),
    "cached function": (lambda: remembered, lambda: functools.cache(math.sqrt)),
    "TorchScript": (lambda: script(1.0), lambda: script(2.0)),
    "traced graph": (lambda: torch.fx.symbolic_trace(Net()), lambda: torch.fx.symbolic_trace(Net(torch.tanh))),
    "weights of a traced graph": (
        lambda: torch.fx.symbolic_trace(Net()),
        lambda: torch.fx.symbolic_trace(changed(Net())),
    ),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(layers()[0]),
        lambda: nn.utils.parametrizations.weight_norm(layers()[0], dim=1),
    ),
    "decorated": (lambda: torch.no_grad()(lambda x: x), lambda: torch.no_grad()(lambda x: -x)),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_another_network_is_told_from_the_first_and_the_same_one_is_recognised(kind: str) -> None:
    one, other = PAIRS[kind]
    assert network_digest(one()) == network_digest(one())
    assert network_digest(other()) == network_digest(other())
    assert network_digest(one()) != network_digest(other())


def test_words_for_people_do_not_count() -> None:
    one = network_of("return x  # one")
    other = network_of('"""Two."""\n\n  return x')
    assert network_digest(one) == network_digest(other)
    where = [torch.nn.Identity(), torch.nn.Identity()]
    for number, network in enumerate(where):
        network._device = torch.device("cuda", number)  # of one process each
    assert network_digest(where[0]) == network_digest(where[1])


def test_compiled_networks_are_those_that_were_compiled() -> None:
    assert network_digest(torch.compile(layers())) == network_digest(layers())


@pytest.mark.parametrize(
    ("network", "part"),
    [
        (lambda: Net(scale=threading.Lock()), r"forward_func\._scale is _thread\.lock"),
        (lambda: closure(layers(), iter([1.0]) and (x for x in [1])), r"forward_func\.captured\.scale|\['scale'\]"),
        (lambda: cc.ClassConfidence(Service(threading.Lock(), layers())), r"_factor'?\]? is _thread\.lock"),
    ],
)
def test_what_cannot_be_compared_is_named_and_needs_a_key(network: Callable[[], Any], part: str) -> None:
    with pytest.raises(CanonicalError, match=part) as caught:
        network_digest(network())
    assert "network_key=" in str(caught.value)


def test_networks_that_hold_themselves_have_an_end() -> None:
    def looped(scale: float) -> nn.Module:
        network = Net(scale=scale)
        network._outer = [network]
        network._again = lambda x: network(x) * scale
        network.layer.register_forward_hook(lambda *_: network._again)
        return network

    assert network_digest(looped(1.0)) == network_digest(looped(1.0)) != network_digest(looped(2.0))


def test_functions_in_settings_of_a_method_count_by_their_code() -> None:
    methods = [cc.CanonicalOcclusion(abs) for _ in range(3)]
    for number, method in enumerate(methods):
        method.fill = (lambda x: x) if number < 2 else (lambda x: -x)
    described = [repr(describe(method)) for method in methods]
    assert described[0] != described[2] and described[0].count("lambda") == 1


SCRIPT = f"""
import sys
sys.path += {[str(Path(__file__).parent), str(Path(__file__).parent / "helpers")]}
from test_functions import PAIRS, network_digest
print([network_digest(one()) for one, _ in PAIRS.values()])
"""


@pytest.mark.slow
def test_another_process_finds_the_same() -> None:
    said = {
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(said) == 1
