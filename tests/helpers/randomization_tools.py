"""A network whose layers run in another order than they are registered, and a method that watches its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.sanity.result import RandomizationTest


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


def sequence(*maps: Tensor) -> Callable[[], Tensor]:
    """A method that returns these maps, one after the other."""
    waiting = iter(maps)
    return lambda: next(waiting)
