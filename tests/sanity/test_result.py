"""The results of model randomisation tests as text."""

from __future__ import annotations

import torch
from captum.attr import Saliency

from captum_canonical import model_randomization
from small_networks import SmallNet


def test_table_without_spreads() -> None:
    net, photo = SmallNet(32, (4, 4), kernel=3, seed=3), torch.rand(1, 3, 32, 32)
    lines = model_randomization(Saliency(net), photo, target=1, seeds=[0]).table().splitlines()
    assert all(line.count("±- ±-") == 5 for line in lines[2:5]) and "nan" not in "".join(lines)
    assert lines[0].split() == [
        "randomised", "spearman", "ssim", "top_share", "mass_overlap", "magnitude", "undefined"
    ]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[1:5]] == ["(none, run again)", "head", "conv1", "conv0"]
