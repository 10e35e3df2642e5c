"""Figures of randomisation tests: the curves and maps that are drawn are those of the result."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_canonical import CanonicalError, CanonicalFace, model_randomization
from captum_canonical.sanity.result import RandomizationTest
from captum_canonical.visualization.randomization import MOST_PICTURES, short_names, show_randomization
from figure_tools import drawn, of_data
from small_networks import SmallNet


@pytest.fixture(scope="module")
def test_of_layers(net: SmallNet, photos: Tensor) -> RandomizationTest:
    return model_randomization(Saliency(net), photos, target=1, seeds=[4, 7], keep_maps=[1, 5], abs=False)


def pictures(figure: Figure) -> list[Axes]:
    """Axes of the maps: the upper row, then the lower one."""
    return [axis for axis in figure.axes if axis.images]


def curve_axis(figure: Figure) -> Axes:
    return next(axis for axis in figure.axes if axis.get_ylabel() == "similarity to the\noriginal map")


def markers(axis: Axes, hollow: bool) -> dict[str, dict[int, float]]:
    """Marker -> place -> height, of filled or hollow ones."""
    found: dict[str, dict[int, float]] = {}
    for line in of_data(axis):
        if line.get_marker() != "None" and (line.get_markerfacecolor() == "white") == hollow:
            found[line.get_marker()] = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    return found


def layers_of(test: RandomizationTest, count: int) -> RandomizationTest:
    """The same with the layers again and again, under other names."""
    index = [number % len(test.layers) for number in range(count)]
    return replace(
        test,
        layers=tuple(f"model.block{number}.conv" for number in range(count)),
        similarity={measure: values[index] for measure, values in test.similarity.items()},
        magnitude=test.magnitude[index],
        maps=test.maps[index],
    )


def test_curve_is_the_summary(test_of_layers: RandomizationTest) -> None:
    test = test_of_layers
    axis = curve_axis(drawn(show_randomization(test, measures=["spearman", "top_share"])))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["none, run again", "head", "conv1", "conv0"]
    filled = markers(axis, hollow=False)
    for marker, measure in (("o", "spearman"), ("D", "top_share")):
        heights = [float(test.control[measure].nanmean()), *test.summary(measure).mean.tolist()]
        assert filled[marker] == pytest.approx(dict(enumerate(heights)))
        assert heights[0] == pytest.approx(1)
    assert markers(axis, hollow=True) == {}
    chance = [line for line in axis.lines if line.get_label() == "share of the top 10 %, by chance"]
    assert list(chance[0].get_ydata()) == [0.1, 0.1]
    plain = curve_axis(show_randomization(test))
    assert not [line for line in plain.lines if "by chance" in str(line.get_label())]


def test_band_is_the_spread_over_seeds(test_of_layers: RandomizationTest, net: SmallNet, photos: Tensor) -> None:
    axis = curve_axis(show_randomization(test_of_layers, measures=["ssim"]))
    mean, spread, *_ = test_of_layers.summary("ssim")
    corners = axis.collections[0].get_paths()[0].vertices
    for place, (m, s) in enumerate(zip(mean.tolist(), spread.tolist(), strict=True), start=1):
        at = corners[corners[:, 0] == place, 1]
        assert (at.min(), at.max()) == pytest.approx((m - s, m + s))
    assert "2 seeds, ± standard deviation over seeds" in axis.get_legend().get_title().get_text()
    one = model_randomization(Saliency(net), photos[:1], target=1, seeds=[0])
    alone = drawn(show_randomization(one))
    assert not curve_axis(alone).collections and len(alone.axes) == 1  # no maps were kept
    assert curve_axis(alone).get_legend().get_title().get_text() == "mean over 1 map, one seed"


def test_hollow_where_something_is_undefined(test_of_layers: RandomizationTest) -> None:
    values = test_of_layers.similarity["spearman"].clone()
    values[1, 0, 2] = torch.nan
    values[2] = torch.nan
    control = test_of_layers.control["spearman"].clone()
    control[3] = torch.nan
    test = replace(
        test_of_layers,
        similarity={**test_of_layers.similarity, "spearman": values},
        control={**test_of_layers.control, "spearman": control},
    )
    axis = curve_axis(drawn(show_randomization(test)))
    assert list(markers(axis, hollow=False)["o"]) == [1]
    hollow = markers(axis, hollow=True)
    assert list(hollow) == ["o"] and list(hollow["o"]) == [0, 1 + 1, 2 + 1]
    assert hollow["o"][2] == pytest.approx(float(values[1].nanmean())) and np.isnan(hollow["o"][3])
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert "Spearman's rank correlation, undefined for some maps" in labels and len(labels) == 3


def test_one_scale_above_and_its_own_below(test_of_layers: RandomizationTest, photos: Tensor) -> None:
    maps = test_of_layers.maps.clone()
    maps[0] *= 1000  # explodes
    maps[2] = 0
    test = replace(test_of_layers, maps=maps)
    figure = drawn(show_randomization(test, photos=photos, example=1, seed=0, unit="gradient"))
    assert figure.subfigs[0].get_suptitle() == "maps of image 5, random weights of seed 4"
    axes = pictures(figure)
    assert [axis.get_title() for axis in axes] == ["original", "head", "conv1", "conv0"] + [""] * 4
    bars = [axis for axis in figure.axes if hasattr(axis, "_colorbar")]
    low, high = bars[0].get_ylim()
    assert low == -high and bars[1].get_ylim() == (-1, 1)
    planes = [test.original[1].double().sum(0), *test.maps[:, 0, 1].double().sum(1)]
    assert high == pytest.approx(float(np.percentile(np.abs(torch.stack(planes)), 99.5)))
    ends = [float(np.percentile(np.abs(plane), 99.5)) for plane in planes]
    assert [axis.get_xlabel() for axis in axes[4:]] == [f"±{end:.2g}" for end in ends[:3]] + ["all 0"]
    opacities = [[np.asarray(axis.images[1].get_array())[..., 3].max() for axis in row] for row in (axes[:4], axes[4:])]
    assert opacities[0][1] > 0.85 and opacities[0][0] < 0.05  # beside the exploded map the original is not seen
    assert min(opacities[1][:3]) > 0.85 and opacities[1][3] == 0
    beneath = np.asarray(axes[0].images[0].get_array())
    luma = (photos[5].permute(1, 2, 0).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(beneath[..., 0], 0.6 + 0.4 * luma, atol=1e-6)


def test_channels_are_added_up_and_small_maps_stretched(test_of_layers: RandomizationTest, photos: Tensor) -> None:
    small = replace(
        test_of_layers,
        original=torch.tensor([2.0, -1.0, 0.0])[None, :, None, None].repeat(2, 1, 2, 3),
        maps=-torch.ones(3, 2, 2, 3, 2, 3),
    )
    axes = pictures(show_randomization(small, photos=photos))
    assert axes[0].images[1].get_array().shape == (2, 3, 4) and axes[0].images[1].get_extent() == [0, 32, 32, 0]
    assert axes[4].get_xlabel() == "±1" and axes[5].get_xlabel() == "±3"
    colors = [np.asarray(axis.images[1].get_array())[0, 0] for axis in axes[4:6]]
    assert colors[0][0] > colors[0][2] and colors[1][0] < colors[1][2]  # 1 is red, -3 is blue


def test_canonical_maps_lie_on_the_canonical_face(test_of_layers: RandomizationTest, face: CanonicalFace) -> None:
    axes = pictures(drawn(show_randomization(test_of_layers, face)))
    beneath = np.asarray(axes[0].images[0].get_array())[..., 0]
    assert beneath.shape == (32, 32) and np.ptp(beneath) > 0.1
    white = pictures(drawn(show_randomization(test_of_layers)))
    assert (np.asarray(white[0].images[0].get_array()) == 1).all()


@pytest.mark.parametrize("count", [10, 11, 33])
def test_many_layers(test_of_layers: RandomizationTest, count: int) -> None:
    figure = drawn(show_randomization(layers_of(test_of_layers, count)))
    titles = [axis.get_title().replace("\n", ".") for axis in pictures(figure)]
    shown = titles[1 : len(titles) // 2]
    assert len(shown) == MOST_PICTURES and shown[0] == "block0.conv" and shown[-1] == f"block{count - 1}.conv"
    numbers = [int(title.removeprefix("block").removesuffix(".conv")) for title in shown]
    assert np.ptp(np.diff(numbers)) <= 1
    axis = curve_axis(figure)
    ticks = axis.get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["none, run again", *(f"block{n}.conv" for n in range(count))]
    bold = [tick.get_text() for tick in ticks if tick.get_fontweight() == "bold"]
    assert bold == (shown if count > MOST_PICTURES else [])
    boxes = [tick.get_window_extent() for tick in ticks]
    if ticks[0].get_rotation() == 90:
        assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))


@pytest.mark.parametrize(
    ("order", "label", "dashes"),
    [("bottom_up", "layers randomised so far, from the input on", "-"), ("independent", "the one layer", ":")],
)
def test_orders(net: SmallNet, photos: Tensor, order: Any, label: str, dashes: str) -> None:
    test = model_randomization(Saliency(net), photos[:2], target=1, order=order, seeds=[0])
    axis = curve_axis(show_randomization(test))
    assert axis.get_xlabel().startswith(label)
    assert [label.get_text() for label in axis.get_xticklabels()][1:] == list(test.layers)
    assert {line.get_linestyle() for line in of_data(axis) if line.get_marker() == "None"} == {dashes}


def test_names_of_layers() -> None:
    deep = ["net.a.b.c.d.conv", "net.a.b.c.e.conv"]
    assert short_names(deep) == ["d.conv", "e.conv"]
    assert short_names(["net.a.b.c.d", "net.x"]) == ["a.….c.d", "x"]
    assert short_names(["net.a.b.c.d", "net.a.x.c.d", "net.x"]) == ["a.b.c.d", "a.x.c.d", "x"]  # else two alike
    assert short_names(["net", "net.fc"]) == ["net", "net.fc"]


def test_bad_arguments(test_of_layers: RandomizationTest, face: CanonicalFace, photos: Tensor) -> None:
    for arguments, message in (
        ({"canonical_face": face, "photos": photos}, "a canonical face or photos beneath the maps, got both"),
        ({"photos": photos[:2]}, "photos: expected all 6 of the test, got 2"),
        ({"measures": ["magnitude"]}, "measures: expected one or more of"),
        ({"measures": "ssim"}, "measures: expected one or more of"),
        ({"measures": []}, "measures: expected one or more of"),
        ({"example": 2}, r"example: expected a place 0..1 in \(1, 5\), got 2"),
        ({"seed": 7}, r"seed: expected a place 0..1 in \(4, 7\), got 7"),
        ({"canonical_face": CanonicalFace.default(40)}, "canonical face's size"),
    ):
        with pytest.raises(CanonicalError, match=message):
            show_randomization(test_of_layers, **arguments)
