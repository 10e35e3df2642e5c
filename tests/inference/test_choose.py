"""Which inference is chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from captum_canonical import CanonicalError
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer
from incremental_tools import MANY, Call, Conv, images, patches


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
    with pytest.raises(CanonicalError, match="'auto', 'incremental' or 'dense', got 'fast'"):
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
