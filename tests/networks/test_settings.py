"""Settings of a network, from its factory and from the command line."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from torch.testing import assert_close

from captum_canonical.data import CropTemplate
from captum_canonical.errors import CanonicalError
from captum_canonical.networks.settings import NetworkSettings


def test_the_command_line_wins_over_the_factory() -> None:
    settings = NetworkSettings.of({"size": 112, "margin": 0.01, "channels": "L"})
    changed = settings.overridden(Namespace(size=64, margin=None, link="none"))
    assert (changed.size, changed.margin, changed.channels, changed.link) == (64, 0.01, "L", "none")
    with pytest.raises(CanonicalError, match="--size 224"):
        _ = NetworkSettings().preprocessing
    with pytest.raises(CanonicalError, match="as a mapping"):
        NetworkSettings.of(3)  # type: ignore[arg-type]


def test_a_template_brings_its_size() -> None:
    named, own = (
        NetworkSettings(crop="arcface"),
        NetworkSettings(crop=CropTemplate([(1, 1), (2, 2)], 8, vertices=[0, 1])),
    )
    assert named.preprocessing["crop"] == "arcface" and named.preprocessing["size"] is None
    assert own.preprocessing["crop"] is own.crop
    assert named.overridden(Namespace(size=56)).preprocessing["size"] == 56
    with pytest.raises(CanonicalError, match="--size"):
        _ = NetworkSettings(crop=(1, 2, 3, 4)).preprocessing


def test_the_fill_is_a_colour_before_the_normalisation() -> None:
    settings = NetworkSettings(fill=(0.5, 0.25, 1.0), mean=(0.5, 0.5, 0.0), std=0.5)
    assert_close(settings.baselines(), torch.tensor([0.0, -0.5, 2.0]).reshape(1, 3, 1, 1))
    assert NetworkSettings(mean=0.5).baselines() is None
    assert_close(NetworkSettings(fill=0.5, channels="L").baselines(), torch.tensor([[[[0.5]]]]))
    with pytest.raises(CanonicalError, match="one for each of 3 channels"):
        NetworkSettings(fill=(0.1, 0.2)).baselines()


@pytest.mark.parametrize("text", ["1_0", "\u0661", "\u00b2", "-1", "1.0", ""])
def test_targets_are_decimal_integers(text: str) -> None:
    with pytest.raises(CanonicalError, match="--target: expected predicted, given, a class index from 0"):
        NetworkSettings().target(text)
