"""Confidences: incremental inference looks through them, also through those of one's own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical import CanonicalError
from captum_canonical.adapters import as_network
from captum_canonical.confidence.base import Confidence
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.scorer import Scorer
from incremental_tools import MANY, Call, Conv, assert_equal_to_dense, engines, images, patches
from output_tools import Named


class Parts(nn.Module):
    """A tuple in a dictionary."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {"out": (x, self.net(x))}


def confidences(net: nn.Module) -> dict[str, tuple[nn.Module, object, tuple]]:
    gallery = torch.randn(5, 4)
    return {
        "class": (cc.ClassConfidence(net), 1, ()),
        "log odds": (cc.ClassConfidence(net, link="log_odds"), torch.tensor([0, 3]), ()),
        "gallery": (cc.ZeroShotConfidence(net, gallery, list("aabbc")), 3, ()),
        "bins": (cc.BinnedConfidence(nn.Sequential(net, nn.Linear(4, 1)).eval(), bins=(-1, 0, 1)), 0, ()),
        "columns": (cc.ClassConfidence(net, output=slice(0, 3), classes=list("abc")), 1, ()),
        "head": (cc.ClassConfidence(net, "log_odds", "b", {"a": 1, "b": 3}), torch.tensor([0, 2]), ()),
        "part of a part": (cc.ClassConfidence(Parts(net).eval(), output=("out", 1)), 1, ()),
        "bins of a part": (cc.BinnedConfidence(as_network(Parts(net).eval(), ("out", 1)), [(-1, 0, 1)] * 4), 3, ()),
        "found": (cc.ClassConfidence(nn.Sequential(net, Call(lambda found: Named(found, found))).eval()), 1, ()),
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


# ----------------------------------------------------------------------------------------------------- of one's own
class Squared(cc.ClassConfidence):
    """Other arithmetic on the outputs, through the subclass's own parent."""

    def confidence(self, logits: Tensor) -> Tensor:
        return super().confidence(logits).square()


class Written(Confidence):
    """Arithmetic that writes into the outputs and into an argument."""

    def split(self, photos: Tensor, offset: Tensor) -> tuple[list[tuple[Tensor]], tuple[Tensor]]:
        return [(photos,)], (offset,)

    def confidence(self, outputs: Tensor, offset: Tensor) -> Tensor:
        return outputs.sub_(offset.mul_(2)).abs()


class Symmetry(Confidence):
    """From scratch: two runs of the network, the second one on the mirrored photographs."""

    output_name = "features"

    def split(self, photos: Tensor, weight: float) -> tuple[list[tuple[Tensor]], tuple[float]]:
        return [(photos,), (photos.flip(3),)], (weight,)

    def confidence(self, features: Tensor, mirrored: Tensor, weight: float) -> Tensor:
        if not torch.isfinite(features).all():  # a check that torch.fx cannot trace
            raise ValueError("features")
        return weight * F.cosine_similarity(features, mirrored) + features.mean(1)


class Maps(Confidence):
    """Outputs of another shape."""

    def matrix(self, output: object) -> Tensor:
        assert isinstance(output, Tensor)
        return output.mean((2, 3))

    def confidence(self, outputs: Tensor) -> Tensor:
        return outputs.exp()


class Forward(cc.ClassConfidence):
    """A forward method of its own, which torch.fx can trace."""

    def forward(self, photos: Tensor) -> Tensor:
        return self.model(photos).softmax(1) * 3


class CheckedForward(cc.ClassConfidence):
    """A forward method of its own, which torch.fx cannot trace."""

    def forward(self, *photos: Tensor) -> Tensor:
        return super().forward(*photos) * 3


OWN = {
    "other arithmetic": (Squared, 1, ()),
    "arithmetic in place": (Written, 1, (torch.rand(2, 1),)),
    "from scratch": (Symmetry, None, (2.0,)),
    "inside": (lambda net: nn.Sequential(nn.Identity(), Squared(net), nn.Identity()).eval(), 1, ()),
    "another shape": (lambda net: Maps(nn.Sequential(*list(net)[:3]).eval()), 1, ()),
    "forward that can be traced": (Forward, 1, ()),
}


@pytest.mark.parametrize("name", OWN)
def test_confidences_of_ones_own_are_looked_through(name: str) -> None:
    make, target, args = OWN[name]
    confidence, x = make(Conv(nn.ReLU(inplace=True))), images()
    clean, given = x.clone(), tuple(copy.deepcopy(arg) for arg in args)
    engine = assert_equal_to_dense(confidence, x, target=target, args=args)
    assert engine.plan(patches()).ratio > 1.3
    assert_close(x, clean, rtol=0, atol=0)
    assert_close(args, given, rtol=0, atol=0)


def test_outputs_that_are_the_photographs_are_not_written_into() -> None:
    x = images()
    clean = x.clone()
    identity = nn.Sequential(nn.Identity()).eval()
    confidence = Written(nn.Sequential(identity, nn.Flatten()).eval())
    incremental, dense = engines(confidence, x, 5, (torch.rand(2, 1),))
    assert_close(incremental.occluded_scores(hidden := patches()), dense.occluded_scores(hidden))
    assert_close(x, clean, rtol=0, atol=0)


def test_a_forward_that_cannot_be_traced_is_run_densely(caplog: pytest.LogCaptureFixture) -> None:
    confidence, x, hidden = CheckedForward(Conv(nn.ReLU())), images(), patches(MANY)
    scorer = Scorer(confidence, 1, (), 2)
    with caplog.at_level("INFO", "captum_canonical"):
        engine = choose_inference("auto", scorer, (x,), (0.0,), None, hidden)
    assert isinstance(engine, DenseInference)
    assert "the network (CheckedForward) overrides forward(), which cannot be traced" in caplog.text
    assert "define confidence() instead" in caplog.text
    expected = 3 * confidence.model(x).softmax(1)[:, 1].double()
    assert_close(engine.clean_scores(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(CanonicalError, match=r"not possible: the network \(CheckedForward\) overrides forward"):
        choose_inference("incremental", scorer, (x,), (0.0,), None, hidden)


def test_a_confidence_that_mixes_the_images_is_run_densely(caplog: pytest.LogCaptureFixture) -> None:
    class Mixed(Confidence):
        def confidence(self, outputs: Tensor) -> Tensor:
            return outputs - outputs.mean(0)

    with caplog.at_level("INFO", "captum_canonical"):
        scorer = Scorer(Mixed(Conv(nn.ReLU())), 1, (), 2)
        engine = choose_inference("auto", scorer, (images(),), (0.0,), None, patches(MANY))
    assert isinstance(engine, DenseInference) and "differ" in caplog.text


def test_what_a_confidence_computes_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match=r"Confidence must define confidence\(\)"):
        Confidence(nn.Identity())(torch.rand(2, 3))
