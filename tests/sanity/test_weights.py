"""Random weights: what is drawn, what is left alone, and that all of it comes back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.sanity.randomization import model_randomization
from randomization_tools import Net, Spy, changed_layers, exactly, state, unchanged


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("run", [0, 1, 2, 5])
def test_everything_is_put_back_after_an_error(net: Net, images: Tensor, error: type[BaseException], run: int) -> None:
    before, objects = state(net), [id(tensor) for tensor in (*net.parameters(), *net.buffers())]
    runs = iter(range(99))

    def method(x: Tensor) -> Tensor:
        if next(runs) == run:
            raise error("stop")
        return Saliency(net).attribute(x, target=0)

    torch.manual_seed(6)
    with pytest.raises(error, match="stop"):
        model_randomization(method, images, model=net)
    drawn = torch.rand(3)
    torch.manual_seed(6)
    exactly(drawn, torch.rand(3))
    unchanged(net, before)
    assert [id(tensor) for tensor in (*net.parameters(), *net.buffers())] == objects


def test_no_hook_stays_and_a_failing_network_says_so(net: Net, images: Tensor) -> None:
    before = state(net)
    model_randomization(Saliency(net), images, seeds=[0], target=0)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model_randomization(Saliency(net), torch.rand(2, 1, 11, 10), target=0)
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert not net.training and all(parameter.requires_grad for parameter in net.parameters())
    unchanged(net, before)


def test_statistics_of_a_network_in_training_mode_come_back(net: Net, images: Tensor) -> None:
    net.train()
    before = state(net)
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, seeds=[0, 1])
    unchanged(net, before)
    assert spy.runs(test)[1][0]["norm.num_batches_tracked"] == 0


class Rebinding(nn.Module):
    """Makes new parameters, resets a submodule as well, and forgets one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(100, 4)
        self.forgotten = nn.Parameter(torch.randn(4))
        self.constant = nn.Parameter(torch.ones(4))
        self.register_buffer("table", torch.arange(4.0).expand(3, 4))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.weight = nn.Parameter(torch.randn(1, 4))
        self.inner.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear((self.inner(x.flatten(1)) + self.forgotten * self.constant + self.table[0]).tanh(), self.weight)


def test_a_reset_that_makes_new_parameters_resets_others_and_forgets_some(images: Tensor) -> None:
    net = Rebinding()
    before, objects = state(net), dict(net.named_parameters())
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, order="bottom_up", layers=["", "inner"][:1], seeds=[0])
    assert test.reinitialised == {"(model)": "reset_parameters and normal for forgotten, reset_parameters"}
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, order="bottom_up", seeds=[0, 1])
    assert test.layers == ("(model)", "inner")
    for steps in spy.runs(test):
        assert {n for n in before if not torch.equal(before[n], steps[0][n])} == {"weight", "forgotten"}
        assert changed_layers(steps[0], steps[1]) == {"inner"}
    unchanged(net, before)
    assert all(parameter is objects[name] for name, parameter in net.named_parameters())


def test_tied_parameters_are_drawn_once(images: Tensor) -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 100, bias=False), nn.Linear(100, 1)
    )
    net[3].weight = net[1].weight
    before = state(net)
    for order, layers, shared in (("bottom_up", ("1", "4"), {"3"}), ("top_down", ("4", "3", "1"), set())):
        spy = Spy(net)
        test = model_randomization(spy, images, model=net, order=order, seeds=[0])
        assert test.layers == layers
        assert {name for name, how in test.reinitialised.items() if how == "shared"} == shared
        for steps in spy.runs(test):
            for weights in steps:
                exactly(weights["1.weight"], weights["3.weight"])
            exactly(steps[-2]["1.weight"], steps[-1]["1.weight"])  # the last layer only draws what is left
        assert net[3].weight is net[1].weight
        unchanged(net, before)


def test_normal_and_permutation(net: Net, images: Tensor) -> None:
    before = state(net)
    for how in ("normal", "permutation"):
        spy = Spy(net)
        test = model_randomization(spy, images, model=net, layers=["head", "norm"], reinitialise=how, seeds=[0])
        assert test.reinitialised == {"norm": how, "head": how} and test.layers == ("norm", "head")
        after = spy.states[-1]
        exactly(after["norm.running_var"].sort().values, before["norm.running_var"].sort().values)
        assert after["norm.num_batches_tracked"] == before["norm.num_batches_tracked"]
        old, new = before["head.weight"].flatten(), after["head.weight"].flatten()
        if how == "permutation":
            exactly(new.sort().values, old.sort().values)
        else:
            assert_close(new.mean(), old.mean(), rtol=0, atol=0.2 * float(old.std()))
            assert_close(new.std(), old.std(), rtol=0.15, atol=0)
        assert abs(np.corrcoef(old, new)[0, 1]) < 0.3
        unchanged(net, before)


class Scale(nn.Module):
    """A module without ``reset_parameters``, with a buffer that must stay."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(values)
        self.register_buffer("mask", torch.arange(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale * self.mask).flatten(1)


def test_modules_without_a_reset_of_their_own(images: Tensor) -> None:
    net = nn.Sequential(Scale(torch.randn(10, 10)), nn.Dropout(), nn.Linear(100, 1)).eval()
    before, spy = state(net), Spy(net)
    test = model_randomization(spy, images, model=net, order="bottom_up", seeds=[0])
    assert dict(test.reinitialised) == {"0": "normal", "2": "reset_parameters"}
    after = spy.states[-1]
    assert not torch.equal(after["0.scale"], before["0.scale"])
    exactly(after["0.mask"], before["0.mask"])
    # A constant has no spread to draw from.
    net = nn.Sequential(Scale(torch.ones(())), nn.Linear(100, 1))
    test = model_randomization(Saliency(net), images, seeds=[0])
    assert test.reinitialised["0"] == "normal, unchanged"
    assert "0: normal, unchanged." in test.table()


def test_statistics_without_parameters_are_a_layer(images: Tensor) -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(100, affine=False), nn.Linear(100, 1)).eval()
    nn.init.uniform_(net[1].running_var, 0.5, 2)
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, order="bottom_up", seeds=[0])
    assert test.layers == ("1", "2")
    exactly(spy.states[2]["1.running_var"], torch.ones(100))


@pytest.mark.parametrize(
    "normalise", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["hook", "parametrization"]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_norm_is_randomised(images: Tensor, normalise: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.Sequential(nn.Flatten(), normalise(nn.Linear(100, 20)), nn.Tanh(), nn.Linear(20, 1))
    clean, spy = Saliency(net).attribute(images), Spy(net)
    test = model_randomization(spy, images, model=net, layers=["1"], seeds=[0])
    assert all(len(v) == 1 for v in spy.runs(test))
    learned = [name for name in spy.states[0] if name.startswith("1.") and not name.endswith("bias")]
    assert len(learned) == 2
    for name in learned:
        assert not torch.equal(spy.states[0][name], spy.states[2][name])
    exactly(Saliency(net).attribute(images), clean)


def test_attention_has_weights_of_a_module_that_is_never_called(images: Tensor) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(10, 1)
            self.attention = nn.MultiheadAttention(10, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, 0]
            return self.last(self.attention(x, x, x)[0].mean(1))

    test = model_randomization(Saliency(Attention().eval()), images, order="bottom_up", seeds=[0])
    assert test.layers == ("attention", "attention.out_proj", "last")
    assert test.reinitialised["attention"] == "normal"
