"""Networks that are compiled, parallel, exported or for a fixed batch are explained as the plain one is."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.errors import CanonicalError
from captum_canonical.inference.graph import network_of
from captum_canonical.modules import FixedBatch, exported_shape, is_training, unwrapped, warn_if_training
from face_tools import mesh_of

X = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BATCH = torch.export.Dim("batch")


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(864, 3)
        )
    return made.eval()


def exported(rows: int, fixed: bool) -> nn.Module:
    shapes = None if fixed else ({0: BATCH},)
    return torch.export.export(net(), (X[:rows],), dynamic_shapes=shapes).module()


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: torch.compile(net(), backend="eager"),
    "parallel": lambda: nn.DataParallel(net()),
    "both": lambda: nn.DataParallel(torch.compile(net(), backend="eager")),
    "exported": lambda: exported(4, False),
    "one at a time": lambda: exported(1, True),
    "three at a time": lambda: exported(3, True),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_maps_are_those_of_the_plain_network(name: str) -> None:
    faces, wrapped = mesh_of(cc.CanonicalFace.default(), 2, 32), WRAPPED[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no advice to call .eval(), which exported programs refuse
        confidence = cc.ClassConfidence(wrapped, link="log_odds").eval()
        maps = cc.CanonicalOcclusion(confidence, faces).attribute(X[:2], target=1, num_points=80)
    plain = cc.ClassConfidence(net(), link="log_odds")
    expected = cc.CanonicalOcclusion(plain, faces).attribute(X[:2], target=1, num_points=80)
    assert_close(maps, expected, rtol=0, atol=1e-5)
    assert not confidence.training and float(maps.abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["compiled", "parallel", "both"])
def test_wrapped_networks_run_in_windows(name: str) -> None:
    wrapped = WRAPPED[name]()
    method = cc.CanonicalOcclusion(
        cc.ClassConfidence(wrapped), mesh_of(cc.CanonicalFace.default(), 1, 32), inference="incremental"
    )
    assert float(method.attribute(X[:1], target=0, num_points=80).abs().max()) > 0
    assert isinstance(unwrapped(wrapped), nn.Sequential)
    wrapped.register_forward_hook(lambda *_: None)
    with pytest.raises(CanonicalError, match="has hooks"):
        network_of(wrapped)


def test_exported_programs_have_no_mode_and_a_number_of_images() -> None:
    assert [exported_shape(exported(n, n != 4))[0] for n in (1, 3, 4)] == [1, 3, None]
    assert exported_shape(exported(3, True)) == (3, 3, 32, 32) and exported_shape(net()) == ()
    assert not is_training(exported(3, True)) and not is_training(nn.Sequential(exported(3, True)))
    assert is_training(nn.Sequential(exported(3, True), nn.Dropout())) and not is_training(net())
    with pytest.warns(UserWarning, match="training mode"):
        warn_if_training(torch.compile(net().train(), backend="eager"))


class Outputs(nn.Module):
    """Refuses any number of images but ``rows``."""

    def __init__(self, rows: int, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.rows, self.make, self.calls = rows, make, 0

    def forward(self, x: Tensor) -> object:
        assert len(x) == self.rows
        self.calls += 1
        return self.make(x.flatten(1).sum(1))


def test_batches_are_filled_up() -> None:
    network = Outputs(2, lambda sums: {"logits": sums[:, None], "more": (sums, 2 * sums)})
    x = X.clone().requires_grad_()
    found = FixedBatch(network, 2)(x)
    sums = x.flatten(1).sum(1)
    assert_close(found["logits"], sums[:, None])
    assert_close(found["more"], [sums, 2 * sums])
    assert network.calls == 3
    (gradient,) = torch.autograd.grad(found["logits"].sum(), x)
    assert_close(gradient, torch.ones_like(x), msg="copies do not count")
    assert FixedBatch(Outputs(1, lambda sums: sums[0]), 1)(X).shape == (5,)
    for make, part in ((lambda sums: sums.sum(), "each of 2 images"), (lambda sums: "text", "got str")):
        with pytest.raises(CanonicalError, match=part):
            FixedBatch(Outputs(2, make), 2)(X)
