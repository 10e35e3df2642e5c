"""Model randomisation: similarities against other packages and by hand, weights that come back, layers in order."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedGradCam, LayerGradCam, NoiseTunnel, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.adapters.prnet import load_prnet_mesh
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.sanity.randomization import model_randomization
from captum_canonical.sanity.result import RandomizationTest
from captum_canonical.sanity.similarity import MEASURES, mass_overlap, spearman, structural_similarity, top_share

nan = float("nan")


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def doubles(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


class Net(nn.Module):
    """Registered in another order than it runs; the head ``unused`` does not run at all."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4 * 36, 3)
        self.unused = nn.Linear(5, 2)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)).tanh().flatten(1))


CALLED = ("body.0", "body.2", "norm", "head", "unused")


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, 10, 10)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> None:
    after = model.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        exactly(after[name], tensor)


class Spy:
    """A method that returns gradients, and remembers the network's weights in each run."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.states = model, []

    def __call__(self, inputs: Tensor, target: int = 0) -> Tensor:
        self.states.append(state(self.model))
        return Saliency(self.model).attribute(inputs, target=target, abs=False)

    def runs(self, test: RandomizationTest) -> list[list[dict[str, Tensor]]]:
        """The weights for each seed and step, without those of the two runs of the network as it was."""
        steps, states = len(test.layers), self.states[2:]
        assert len(states) == steps * len(test.seeds)
        return [states[i : i + steps] for i in range(0, len(states), steps)]


def changed_layers(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}


# ----------------------------------------------------------------------------------------------------------- measures
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_is_scipys_with_ties(pairs: list[tuple[int, int]]) -> None:
    first, second = torch.tensor(pairs, dtype=torch.float64).T
    if len(first.unique()) < 2 or len(second.unique()) < 2:
        assert math.isnan(spearman(first, second))
    else:
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_spearman_of_float32_maps() -> None:
    first, second = torch.randn(5000), torch.randn(5000)
    assert spearman(first, first + second) == pytest.approx(spearmanr(first, first + second).statistic, abs=1e-12)
    assert spearman(first, first.double().exp()) == 1 and spearman(first, -first) == -1


def ssim_loop(x: np.ndarray, y: np.ndarray, data_range: float, area: np.ndarray, size: int) -> float:
    half = size // 2
    bell = np.array([math.exp(-((i - half) ** 2) / (2 * 1.5**2)) for i in range(size)])
    weights = np.outer(bell, bell) / np.outer(bell, bell).sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for c, r, s in np.ndindex(x.shape):
        if area[c, r, s] and half <= r < x.shape[1] - half and half <= s < x.shape[2] - half:
            window = (c, slice(r - half, r + half + 1), slice(s - half, s + half + 1))
            mean_x, mean_y = (weights * x[window]).sum(), (weights * y[window]).sum()
            var_x, var_y = (weights * (x[window] - mean_x) ** 2).sum(), (weights * (y[window] - mean_y) ** 2).sum()
            covariance = (weights * (x[window] - mean_x) * (y[window] - mean_y)).sum()
            luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
            structure = (2 * covariance + c2) / (var_x + var_y + c2)
            values.append(-abs(luminance * structure) if min(luminance, structure) < 0 else luminance * structure)
    return float(np.mean(values)) if values else nan


@pytest.mark.parametrize(("shape", "size"), [((2, 16, 13), 11), ((1, 11, 30), 11), ((3, 8, 9), 7), ((1, 1, 4), 1)])
def test_ssim_is_a_loop_over_windows(shape: tuple[int, ...], size: int) -> None:
    x, y, area = torch.randn(shape), torch.randn(shape), torch.rand(shape) < 0.7
    y = x + 0.5 * y
    got = structural_similarity(x, y, 3.0, area)
    assert got == pytest.approx(ssim_loop(x.double().numpy(), y.double().numpy(), 3.0, area.numpy(), size), abs=1e-9)
    everywhere = structural_similarity(x, y, 3.0)
    assert everywhere == structural_similarity(x, y, 3.0, torch.ones(shape, dtype=torch.bool))
    assert structural_similarity(x, x, 3.0) == 1


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = torch.rand(30, 40).double(), torch.rand(30, 40).double()
    y = 0.7 * x + y
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 4.0}
    want = metrics.structural_similarity(x.numpy(), y.numpy(), **options)
    assert structural_similarity(x[None], y[None], 4.0) == pytest.approx(want, abs=1e-9)


def test_ssim_without_a_range_or_a_window_is_not_defined() -> None:
    x = torch.randn(1, 12, 12)
    rim = torch.zeros(1, 12, 12, dtype=torch.bool)
    rim[:, 0] = True
    assert math.isnan(structural_similarity(x, x, 0.0)) and math.isnan(structural_similarity(x, x, 1.0, rim))


def test_top_share_by_hand() -> None:
    first = torch.arange(20.0)  # the highest two are 18 and 19
    second = first.clone()
    assert top_share(first, second) == 1
    second[19] = 0
    assert top_share(first, second) == 0.5  # 18 and 17
    assert top_share(first, -first) == 0
    # Four values tie for two places, with half a place each; one of the places that ``first`` has is among them.
    ties = doubles(*[0] * 16, 0, 5, 5, 5)
    ties[0] = 5
    assert top_share(first, ties) == 0.5
    assert top_share(ties, ties) == 1
    assert top_share(first[:3], first[:3].flip(0)) == 0  # at least one value
    assert math.isnan(top_share(first, torch.ones(20))) and math.isnan(top_share(torch.zeros(20), first))


def test_mass_overlap_by_hand() -> None:
    assert mass_overlap(doubles(3, 1, 0, -5), doubles(1, 1, 2, -9)) == 0.5  # min(3/4, 1/4) + min(1/4, 1/4)
    assert mass_overlap(doubles(3, 1), doubles(30, 10)) == 1
    assert mass_overlap(doubles(3, -1), doubles(-3, 1)) == 0
    assert math.isnan(mass_overlap(doubles(3, 1), doubles(-3, 0))) and math.isnan(mass_overlap(doubles(0), doubles(1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(4, 15), st.integers(4, 15))
def test_bounds_symmetry_and_identity(seed: int, channels: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, channels, height, width, generator=generator).round(decimals=1)
    for measure, low in ((spearman, -1), (top_share, 0), (mass_overlap, 0)):
        value = measure(x.flatten(), y.flatten())
        assert low <= value <= 1
        assert value == pytest.approx(measure(y.flatten(), x.flatten()), abs=1e-12)
        assert measure(x.flatten(), x.flatten()) == pytest.approx(1)
        assert measure(x.flatten(), 7 * y.flatten()) == pytest.approx(value, abs=1e-6)
    assert -1 <= structural_similarity(x, y, 2.0) <= 1


def test_a_change_of_sign_is_seen_by_all_measures(net: Net, images: Tensor) -> None:
    signs = iter([1, 1, -1])
    test = model_randomization(
        lambda x: next(signs) * (x - 0.5), images, model=net, layers=["head"], seeds=[0], keep_maps=True
    )
    got = {measure: test.similarity[measure].flatten() for measure in MEASURES}
    exactly(got["spearman"], doubles(-1, -1))
    assert (got["ssim"] < -0.1).all() and (got["top_share"] == 0).all() and (got["mass_overlap"] == 0).all()
    exactly(test.maps[0, 0], -test.original)
    exactly(test.magnitude, torch.ones(1, 1, 2, dtype=torch.float64))


def test_ssim_of_a_map_and_its_negative_is_negative() -> None:
    x = 0.5 + 0.1 * torch.randn(1, 20, 20)  # Wang's product of two negative factors would be near 1
    assert structural_similarity(x, -x, 1.0) < -0.5


# ------------------------------------------------------------------------------------------------------- the cascade
def test_layers_are_randomised_one_after_the_other(net: Net, images: Tensor) -> None:
    before, spies = state(net), {}
    for order, layers in (("top_down", CALLED[::-1]), ("bottom_up", CALLED), ("independent", CALLED)):
        spy = spies[order] = Spy(net)
        test = model_randomization(spy, images, model=net, order=order, seeds=[3, 8], layers=CALLED, target=1)
        assert test.layers == layers and test.order == order and test.seeds == (3, 8)
        assert set(test.reinitialised.values()) == {"reset_parameters"}
        for clean in spy.states[:2]:
            assert not changed_layers(before, clean)
        for steps in spy.runs(test):
            for i, weights in enumerate(steps):
                want = {layers[i]} if order == "independent" else set(layers[: i + 1])
                assert changed_layers(before, weights) == want
                if i and order != "independent":  # what was randomised is not drawn again
                    assert changed_layers(steps[i - 1], weights) == {layers[i]}
        unchanged(net, before)
    down, up = (spies[order].states for order in ("top_down", "bottom_up"))
    for last in (6, 11):  # all layers random, by either seed: the same weights
        assert not changed_layers(down[last], up[last])
    assert changed_layers(down[6], down[11]) == set(CALLED) - {"norm"}  # whose initial state is always the same


def test_a_linear_networks_gradient_is_its_random_weight(images: Tensor) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(100, 1, bias=False))
    weights = net[1].weight.detach().clone()
    spy = Spy(net)
    test = model_randomization(spy, images, model=net, seeds=[5], keep_maps=[1])
    exactly(test.original[0, 0].flatten(), weights[0])
    drawn = spy.states[2]["1.weight"][0]
    exactly(test.maps[0, 0, 0, 0].flatten(), drawn)
    assert float(test.similarity["spearman"][0, 0, 1]) == pytest.approx(spearmanr(weights[0], drawn).statistic)
    assert float(test.magnitude[0, 0, 1]) == pytest.approx(float(drawn.abs().sum() / weights.abs().sum()))
    assert float(test.ssim_range[1]) == pytest.approx(float(weights.max() - weights.min()))
    assert test.ssim_window == 9 and test.examples == (1,)


def test_an_attribution_finds_its_network_and_the_order_of_its_layers(net: Net, images: Tensor) -> None:
    assert model_randomization(Saliency(net), images, order="bottom_up", seeds=[0], target=1).layers == CALLED
    assert model_randomization(Saliency(net.forward), images, seeds=[0], target=1).layers == CALLED[::-1]
    confidence = ClassConfidence(net)
    test = model_randomization(NoiseTunnel(Saliency(confidence)), images, seeds=[0], target=1, nt_samples=2)
    assert test.layers == tuple(f"model.{name}" for name in CALLED[::-1])
    guided = model_randomization(GuidedGradCam(net, net.body[2]), images, seeds=[0], target=1)
    assert guided.layers == CALLED[::-1]
    other = model_randomization(Saliency(lambda x: net(x)), images, model=net, seeds=[0], target=1)
    assert other.layers == CALLED[::-1]
    # A callable says nothing about forward passes: the order of registration.
    spied = model_randomization(Spy(net), images, model=net, order="bottom_up", seeds=[0])
    assert spied.layers == ("head", "unused", "norm", "body.0", "body.2")
    # The unused head changes nothing.
    exactly(spied.similarity["spearman"][0], spied.similarity["spearman"][1])


def test_attribution_and_callable_give_the_same(net: Net, images: Tensor) -> None:
    arguments: dict[str, Any] = {"layers": CALLED, "seeds": [0, 4], "target": 1}
    first = model_randomization(Saliency(net), images, abs=False, **arguments)
    second = model_randomization(Spy(net), images, model=net, **arguments)
    third = model_randomization(
        lambda target: Saliency(net).attribute(images, target=target, abs=False), model=net, **arguments
    )
    for measure in MEASURES:
        assert first.similarity[measure].shape == (5, 2, 2)
        exactly(first.similarity[measure], second.similarity[measure])
        exactly(first.similarity[measure], third.similarity[measure])


def test_additional_arguments_and_several_inputs(images: Tensor) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Linear(4, 1), nn.Linear(100, 4)

        def forward(self, a: Tensor, b: Tensor, sign: Tensor) -> Tensor:
            return sign * self.late((self.early(a.flatten(1)) * self.early(b.flatten(1))).tanh())[:, 0]

    pair = Pair()

    def first(inputs: tuple[Tensor, ...], **arguments: Any) -> Tensor:
        return Saliency(pair).attribute(inputs, **arguments)[0]

    sign = torch.tensor([1.0, -1.0])
    test = model_randomization(first, (images, images.flip(0)), model=pair, additional_forward_args=sign, seeds=[0])
    assert test.similarity["ssim"].shape == (2, 1, 2)
    with pytest.raises(CanonicalError, match=r"expected maps of shape \(N, C, H, W\) from the method, got tuple"):
        model_randomization(Saliency(pair), (images, images), additional_forward_args=sign, seeds=[0])


def test_containers_are_layers_too(net: Net, images: Tensor) -> None:
    spy, before = Spy(net), state(net)
    test = model_randomization(spy, images, model=net, layers=["body", "head"], seeds=[0])
    assert test.layers == ("head", "body")
    assert [changed_layers(before, weights) for weights in spy.runs(test)[0]] == [
        {"head"},
        {"head", "body.0", "body.2"},
    ]


def test_results_do_not_depend_on_the_global_random_state_nor_change_it(net: Net, images: Tensor) -> None:
    method, results, drawn = NoiseTunnel(Saliency(net)), [], []
    for seed in (0, 1):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        results.append(model_randomization(method, images, seeds=[2, 1], target=0, nt_samples=3))
        drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        assert drawn[-1] == (float(torch.rand(())), float(np.random.rand()), random.random())
    assert results[0].control["spearman"].mean() < 0.99  # noise differs from run to run
    for measure in MEASURES:
        exactly(results[0].similarity[measure], results[1].similarity[measure])
        exactly(results[0].control[measure], results[1].control[measure])


def test_both_directions_end_at_the_same_maps_even_of_a_random_method(net: Net, images: Tensor) -> None:
    method, arguments = NoiseTunnel(Saliency(net)), {"target": 0, "nt_samples": 2, "keep_maps": True}
    down, up = (model_randomization(method, images, order=o, **arguments) for o in ("top_down", "bottom_up"))
    exactly(down.maps[-1], up.maps[-1])
    assert not torch.equal(down.maps[0], up.maps[0])


# ------------------------------------------------------------------------------------------------------------ weights
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


# -------------------------------------------------------------------------------------------- maps that tell nothing
def sequence(*maps: Tensor) -> Callable[[], Tensor]:
    """A method that returns these maps, one after the other."""
    waiting = iter(maps)
    return lambda: next(waiting)


def test_degenerate_maps_are_flagged_and_counted() -> None:
    net, good = nn.Linear(1, 1), torch.randn(1, 12, 12)
    zero, one, broken = torch.zeros(1, 12, 12), torch.ones(1, 12, 12), torch.full((1, 12, 12), nan)
    original = torch.stack([good, zero, one, broken, good, good, good])
    random_maps = torch.stack([good, good, good, good, zero, broken, 3 * one])
    test = model_randomization(sequence(original, original, random_maps), model=net, seeds=[0])
    assert test.flags == ("", "zero", "constant", "not finite", "", "", "")
    values = {measure: test.similarity[measure].flatten() for measure in MEASURES}
    for measure, defined in (
        ("spearman", [1, 0, 0, 0, 0, 0, 0]),
        ("ssim", [1, 0, 0, 0, 1, 0, 1]),
        ("top_share", [1, 0, 0, 0, 0, 0, 0]),
        ("mass_overlap", [1, 0, 1, 0, 0, 0, 1]),
    ):
        assert [int(not flag) for flag in values[measure].isnan()] == defined, measure
        assert float(values[measure][0]) == pytest.approx(1)
        assert int(test.summary(measure).undefined) == 7 - sum(defined)
    exactly(test.control["spearman"].isnan(), torch.tensor([False, True, True, True, False, False, False]))
    assert abs(values["ssim"][4]) < 0.3
    exactly(test.magnitude.isnan().flatten(), torch.tensor([False, True, False, True, False, True, False]))
    exactly(test.ssim_range[[1, 2]], doubles(0, 0))
    table = test.table()
    assert "image 1: its map is zero." in table and "image 3: its map is not finite." in table
    assert table.splitlines()[1].split()[-1] == "3" and table.splitlines()[2].split()[-1] == "6"


def test_rounding_is_no_map() -> None:
    flat = 1 + 1e-8 * torch.randn(1, 1, 12, 12, dtype=torch.float64)
    test = model_randomization(sequence(*[flat] * 3), model=nn.Linear(1, 1), seeds=[0])
    assert test.flags == ("constant",) and test.similarity["spearman"].isnan().all()


def test_summary_by_hand() -> None:
    net, base = nn.Linear(1, 1), torch.arange(8.0)[None, None, None]
    rows = torch.cat([base, base])
    # Over images and seeds: 1, -1 and 1, not defined.
    method = sequence(rows, rows, torch.cat([base, -base]), torch.cat([base, 0 * base]))
    test = model_randomization(method, model=net, seeds=[0, 1])
    summary = test.summary()
    assert summary.mean.tolist() == pytest.approx([1 / 3]) and summary.undefined.tolist() == [1]
    assert summary.over_seeds.tolist() == pytest.approx([math.sqrt(0.5)])  # of 0 and 1
    assert summary.over_images.tolist() == pytest.approx([math.sqrt(2)])  # of 1 and -1
    one = model_randomization(sequence(base, base, base), model=net, seeds=[0]).summary()
    assert one.over_seeds.isnan().all() and one.over_images.isnan().all() and float(one.mean) == pytest.approx(1)


def test_only_the_area_counts() -> None:
    net, inside = nn.Linear(1, 1), torch.zeros(1, 1, 14, 14, dtype=torch.bool)
    inside[..., 2:12, 3:13] = True
    first, second, noise = torch.randn(3, 2, 2, 14, 14).double()
    noise[0] = nan
    outside = torch.where(inside, second, noise)
    runs = [
        model_randomization(sequence(first, first, other), model=net, seeds=[0], area=area)
        for other, area in ((second, inside), (outside, inside), (second, inside.expand(2, 2, -1, -1)), (second, None))
    ]
    for measure in MEASURES:
        exactly(runs[0].similarity[measure], runs[1].similarity[measure])
        exactly(runs[0].similarity[measure], runs[2].similarity[measure])
        assert not torch.equal(runs[0].similarity[measure], runs[3].similarity[measure])
    got = float(runs[0].similarity["spearman"][0, 0, 1])
    keep = inside[0].expand(2, -1, -1)
    assert got == pytest.approx(spearmanr(first[1][keep], second[1][keep]).statistic)
    nowhere = model_randomization(sequence(first, first, second), model=net, seeds=[0], area=inside & False)
    assert nowhere.flags == ("no area",) * 2 and nowhere.similarity["ssim"].isnan().all()


# --------------------------------------------------------------------------------------------- canonical maps, methods
@pytest.fixture(scope="module")
def faces() -> FaceMesh:
    face = CanonicalFace.default().resized((32, 32))
    return FaceMesh(face.vertices[None].repeat(2, 1, 1), image_size=(32, 32), topology=face.topology)


class FaceNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(3, 8, 5, stride=2), nn.Conv2d(8, 8, 3, stride=2)
        self.head = nn.Linear(8 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv1(self.conv0(x).relu()).relu().flatten(1))


def test_canonical_maps_are_compared_where_the_face_was_seen(faces: FaceMesh) -> None:
    net, photos = FaceNet().eval(), torch.rand(2, 3, 32, 32)
    face = CanonicalFace.default(size=48)
    for method in (CanonicalOcclusion(net, faces, face), CanonicalProjector(Saliency(net), faces, face)):
        arguments: dict[str, Any] = {"target": 1, "seeds": [0, 1], "keep_maps": True}
        arguments |= {"num_points": 60} if isinstance(method, CanonicalOcclusion) else {"abs": False}
        test = model_randomization(method, photos, **arguments)
        assert test.layers == ("head", "conv1", "conv0") and test.maps.shape == (3, 2, 2, 1, 48, 48)
        call = {key: arguments[key] for key in arguments if key not in ("seeds", "keep_maps")}
        maps, coverage = method.attribute(photos, return_coverage=True, **call)
        exactly(test.original, maps.float())
        seen = coverage[0] > 0
        assert 0.2 < seen.float().mean() < 1
        want = spearmanr(maps[0][seen], test.maps[1, 0, 0][seen]).statistic
        assert float(test.similarity["spearman"][1, 0, 0]) == pytest.approx(want)
        again = model_randomization(method, photos, area=coverage > 0, **arguments)
        exactly(again.similarity["ssim"], test.similarity["ssim"])


def test_similarity_falls_for_occlusion_and_not_for_an_edge_detector(
    faces: FaceMesh, caplog: pytest.LogCaptureFixture
) -> None:
    net, photos, face = FaceNet().eval(), torch.rand(2, 3, 32, 32), CanonicalFace.default(size=48)
    nn.init.zeros_(net.head.weight)
    with torch.no_grad():
        net.head.weight.view(2, 8, 6, 6)[1, :, 1:3, 1:3] = 1  # a network that reads one eye
    occlusion = CanonicalOcclusion(net, faces, face)
    with caplog.at_level(logging.WARNING, "captum_canonical"):
        test = model_randomization(occlusion, photos, target=1, num_points=80, seeds=range(4))
    assert not caplog.records
    for measure in MEASURES:
        assert float(test.control[measure].mean()) == pytest.approx(1)
    assert (test.summary("spearman").mean < 0.6).all() and (test.summary("top_share").mean < 0.6).all()

    def edges(x: Tensor) -> Tensor:
        return F.conv2d(x.mean(1, keepdim=True), torch.tensor([[[[-1.0, 0, 1]] * 3]]))

    with caplog.at_level(logging.WARNING, "captum_canonical"):
        blind = model_randomization(edges, photos, model=net, seeds=[0])
    assert [float(blind.similarity[m].min()) for m in MEASURES] == pytest.approx([1] * 4)
    assert "no map has changed at all" in caplog.text


def test_a_method_that_looks_into_a_layer_keeps_its_reference(net: Net, images: Tensor) -> None:
    cam = LayerGradCam(net, net.body[2])
    before = cam.attribute(images, target=1).detach()
    test = model_randomization(cam, images, target=1, seeds=[0], keep_maps=True)
    assert test.ssim_window == 5 and not torch.equal(test.maps[-1, 0], before)
    exactly(cam.attribute(images, target=1).detach(), before)


def test_similarity_falls_for_a_real_network(shared: Path) -> None:
    from studies.face_nets import networks as face_nets

    net, folder = face_nets.load(shared / "models", "age_gender"), shared / "data" / "celeba_prnet"
    photos, meshes = [], []
    for name in ("000686", "001841", "001978"):
        picture = cv2.imread(str(folder / "images" / f"{name}.jpg"))[54:214, 9:169]
        picture = cv2.cvtColor(cv2.resize(picture, (112, 112), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
        photos.append(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        mesh = load_prnet_mesh(folder / "meshes" / f"{name}_mesh.mat", image_size=(218, 178))
        meshes.append(mesh.cropped(left=9, top=54, width=160, height=160).resized((112, 112)))
    from captum_canonical.adapters.prnet import load_prnet_face

    prnet = shared / "data" / "canonical_prnet"
    face = load_prnet_face(prnet / "frontal.jpg", prnet / "frontal_mesh.mat").resized((96, 96))
    method = CanonicalOcclusion(ClassConfidence(net, link="log_odds"), FaceMesh.cat(meshes), face)
    x = torch.stack(photos)
    target, before = net(x).argmax(1), state(net)
    layers = ["model.conv_in", "model.block1", "model.main1", "model.fc_gender"]
    options: dict[str, Any] = {"target": target, "num_points": 100}
    test = model_randomization(method, x, layers=layers, seeds=[0, 1], keep_maps=True, **options)
    unchanged(net, before)
    assert test.layers == tuple(layers[::-1]) and test.flags == ("",) * 3
    for measure in MEASURES:
        assert (test.control[measure] > 0.999).all()
        assert test.summary(measure).mean[-1] < 0.6, measure
    for falling in ("spearman", "top_share", "mass_overlap", "magnitude"):
        means = test.summary(falling).mean
        assert means[0] > means[-1] and means[0] > means[1], falling
    # The mean map (CMS) as well, on the pixels that all of the photographs show.
    seen = (method.attribute(x, return_coverage=True, **options)[1] > 0).all(0)[0]
    mean = test.original.mean(0)[0][seen]
    drawn = [[spearman(mean, maps.mean(0)[0][seen]) for maps in seeds] for seeds in test.maps]
    similarity = torch.tensor(drawn).mean(1)
    assert similarity[0] < 0.6 and similarity[-1] < 0.2 and similarity[0] > similarity[-1]


# ---------------------------------------------------------------------------------------------------------- bad input
def test_table(net: Net, images: Tensor) -> None:
    test = model_randomization(Saliency(net), images, layers=["body", "head"], seeds=[0, 1], target=0)
    lines = str(test).splitlines()
    assert lines[0].split() == ["randomised", *MEASURES, "magnitude", "undefined"]
    assert lines[1].split() == ["(none,", "run", "again)"] + ["1.000"] * 5 + ["0"]
    assert lines[2].split()[0] == "head" and lines[3].split()[0] == "body"
    summary = test.summary("spearman")
    cell = f"{summary.mean[1]:.3f} ±{summary.over_seeds[1]:.3f} ±{summary.over_images[1]:.3f}"
    assert cell in lines[3] and "top_down, 2 seeds, 2 images" in lines[4] and "window 9" in lines[5]


def test_progress_counts_runs(net: Net, images: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    model_randomization(Saliency(net), images, seeds=[0, 1], target=0, show_progress=True)
    assert "12/12" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "downwards"}, "order: expected 'top_down', 'bottom_up' or 'independent', got 'downwards'"),
        ({"reinitialise": "zero"}, "reinitialise: expected 'own', 'normal' or 'permutation', got 'zero'"),
        ({"seeds": []}, "seeds: expected one or more different integers"),
        ({"seeds": [1, 1]}, "seeds: expected one or more different integers"),
        ({"layers": ["body", "tail"]}, r"got \['tail'\]; the network has"),
        ({"layers": "head"}, "layers: expected a sequence of names"),
        ({"layers": []}, "expected a network with parameters"),
        ({"layers": ["body", "body.0"]}, "do not overlap"),
        ({"layers": ["body.1", "head"]}, r"without parameters are \['body.1'\]"),
        ({"return_convergence_delta": True}, r"leave out \['return_convergence_delta'\]"),
        ({"area": torch.ones(1, 1, 10, 10)}, r"area: expected bool of the maps' shape \(2, 1, 10, 10\).*float32"),
        ({"area": torch.ones(3, 1, 10, 10) > 0}, r"area: expected bool.*\(3, 1, 10, 10\)"),
        ({"area": torch.ones(1, 1, 9, 10) > 0}, r"area: expected bool.*\(1, 1, 9, 10\)"),
        ({"keep_maps": [2]}, r"keep_maps: expected True, False or indices 0\.\.1, got \[2\]"),
    ],
)
def test_bad_arguments(net: Net, images: Tensor, arguments: dict[str, Any], message: str) -> None:
    before = state(net)
    with pytest.raises(CanonicalError, match=message):
        model_randomization(Saliency(net), images, target=0, **arguments)
    unchanged(net, before)


def test_networks_and_methods_that_do_not_fit(net: Net, images: Tensor) -> None:
    with pytest.raises(CanonicalError, match=r"model: expected the network.*got function"):
        model_randomization(Saliency(lambda x: net(x)), images)
    with pytest.raises(CanonicalError, match=r"model: expected the network.*got NoneType"):
        model_randomization(lambda: images)
    with pytest.raises(CanonicalError, match="method: expected an attribution or a callable, got str"):
        model_randomization("saliency", images, model=net)  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="expected a network with parameters"):
        model_randomization(lambda: images, model=nn.ReLU())
    with pytest.raises(CanonicalError, match=r"expected maps.*got \(2, 100\)"):
        model_randomization(lambda: images.flatten(1), model=net)
    with pytest.raises(CanonicalError, match=r"maps of one shape from all runs, got \(2, 1, 10, 10\) and \(1, 1"):
        model_randomization(sequence(images, images, images[:1]), model=net)
