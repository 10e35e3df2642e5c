"""The real face networks run on windows under "auto", and score as dense inference does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import networks
from captum_canonical import ClassConfidence
from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.dense import DenseInference, Patches
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.scorer import Scorer
from studies.face_nets import download
from studies.face_nets import networks as face_nets


def patches(size: int, count: int, images: int) -> Patches:
    """Of the paper's relative size, anywhere, cut off at the borders."""
    side = 2 * int(15 * size / 224 / 2) + 1
    corner = torch.randint(1 - side, size, (count, 2))
    boxes = torch.cat([corner.clamp(min=0), (corner + side).clamp(max=size)], 1)
    return Patches(torch.randint(0, images, (count,)), (boxes,))


@pytest.mark.parametrize("name", download.NETWORKS)
def test_real_networks_run_on_windows(name: str, shared: Path) -> None:
    net = face_nets.load(shared / "models", name)
    photos, hidden = torch.rand(2, net.channels, net.size, net.size), patches(net.size, 800, 2)
    forward: nn.Module = ClassConfidence(net, link="log_odds") if name == "age_gender" else net
    scorer = Scorer(forward, 1, (), 2)
    engine = choose_inference("auto", scorer, (photos,), (0.0,), None, hidden)
    assert isinstance(engine, IncrementalInference)
    some = Patches(hidden.image[:12], (hidden.boxes[0][:12],))
    expected = DenseInference(scorer, (photos,), (0.0,), 4).occluded_scores(some)
    assert_close(engine.occluded_scores(some), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("network", networks.networks(None), ids=lambda network: network.label)
def test_benchmark_networks_run_on_windows(network: networks.Network) -> None:
    net, hidden = network.build(), patches(network.size, 800, 1)
    photo = torch.rand(1, network.channels, network.size, network.size)
    scorer = Scorer(net, 0, (), 1)
    engine = choose_inference("auto", scorer, (photo,), (0.0,), None, hidden)
    assert isinstance(engine, IncrementalInference)
    expected = DenseInference(scorer, (photo,), (0.0,), 4).occluded_scores(hidden[:4])
    largest = float(net(photo).abs().max())
    assert_close(engine.occluded_scores(hidden[:4]), expected, rtol=0, atol=1e-5 * largest)
