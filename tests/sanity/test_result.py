"""What a randomisation test has found: flags, summaries, tables."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import Saliency
from scipy.stats import spearmanr
from torch import Tensor, nn

from captum_canonical.sanity.randomization import model_randomization
from captum_canonical.sanity.similarity import MEASURES
from randomization_tools import Net, doubles, exactly, sequence
from small_networks import SmallNet


def test_degenerate_maps_are_flagged_and_counted() -> None:
    net, good = nn.Linear(1, 1), torch.randn(1, 12, 12)
    zero, one, broken = torch.zeros(1, 12, 12), torch.ones(1, 12, 12), torch.full((1, 12, 12), torch.nan)
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
    noise[0] = torch.nan
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


def test_table(net: Net, images: Tensor) -> None:
    test = model_randomization(Saliency(net), images, layers=["body", "head"], seeds=[0, 1], target=0)
    lines = str(test).splitlines()
    assert lines[0].split() == ["randomised", *MEASURES, "magnitude", "undefined"]
    assert lines[1].split() == ["(none,", "run", "again)"] + ["1.000"] * 5 + ["0"]
    assert lines[2].split()[0] == "head" and lines[3].split()[0] == "body"
    summary = test.summary("spearman")
    cell = f"{summary.mean[1]:.3f} ±{summary.over_seeds[1]:.3f} ±{summary.over_images[1]:.3f}"
    assert cell in lines[3] and "top_down, 2 seeds, 2 images" in lines[4] and "window 9" in lines[5]


def test_table_without_spreads() -> None:
    net, photo = SmallNet(32, (4, 4), kernel=3, seed=3), torch.rand(1, 3, 32, 32)
    lines = model_randomization(Saliency(net), photo, target=1, seeds=[0]).table().splitlines()
    assert all(line.count("±- ±-") == 5 for line in lines[2:5]) and "nan" not in "".join(lines)
    assert lines[0].split() == [
        "randomised", "spearman", "ssim", "top_share", "mass_overlap", "magnitude", "undefined"
    ]  # fmt: skip
    assert [line.split("  ")[0] for line in lines[1:5]] == ["(none, run again)", "head", "conv1", "conv0"]
