"""Figures of results: the dots, intervals, curves and maps that are drawn are those of the result."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import Attribution, LayerGradCam, Saliency
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from captum_canonical import CanonicalError, CanonicalFace, FaceMesh, benchmark, model_randomization
from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.sanity.result import RandomizationTest
from captum_canonical.visualization.benchmark import show_benchmark
from captum_canonical.visualization.curves import show_curves
from captum_canonical.visualization.maps import montage
from captum_canonical.visualization.randomization import MOST_PICTURES, short_names, show_randomization

LONG = "A method whose name says everything about its settings, the noise among them"
FILLS = ("mean", "blur")


class Net(nn.Module):
    """Three layers with parameters; two probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2)
        self.head = nn.Linear(4 * 49, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv1(self.conv0(x).relu()).relu().flatten(1)).softmax(1)


class Fails(Attribution):
    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        raise RuntimeError("no luck")


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(32)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def result(net: Net, photos: Tensor, face: CanonicalFace) -> BenchmarkResult:
    vertices = 0.7 * face.vertices + torch.tensor([8.0, 2.0, 0.0], dtype=torch.float64)
    faces = FaceMesh(vertices.repeat(len(photos), 1, 1), image_size=(32, 32), topology=face.topology)
    methods: dict[str, Any] = {"saliency": Saliency(net), "broken": Fails(net), LONG: LayerGradCam(net, net.conv1)}
    quick = {"fills": FILLS, "folds": 3, "fractions": [0, 0.3, 1], "resamples": 50, "spaces": ("image", "canonical")}
    return benchmark(net, photos, methods, 1, faces=faces, canonical_face=face, **quick)


@pytest.fixture(scope="module")
def test_of_layers(net: Net, photos: Tensor) -> RandomizationTest:
    return model_randomization(Saliency(net), photos, target=1, seeds=[4, 7], keep_maps=[1, 5], abs=False)


def of_data(axis: Axes) -> list[Line2D]:
    """The lines in data coordinates, not those across the whole panel."""
    return [line for line in axis.lines if line.get_transform() is axis.transData]


def dots(axis: Axes) -> dict[float, tuple[float, Any]]:
    """Place of a row -> value and marker."""
    marked = [line for line in of_data(axis) if line.get_marker() != "None"]
    return {float(line.get_ydata()[0]): (float(line.get_xdata()[0]), line.get_marker()) for line in marked}


def intervals(axis: Axes) -> dict[float, tuple[float, float]]:
    bare = [line for line in of_data(axis) if line.get_marker() == "None"]
    return {float(line.get_ydata()[0]): tuple(map(float, line.get_xdata())) for line in bare}


def rows_of(figure: Figure) -> dict[str, float]:
    """Label of a row -> its place."""
    axis = figure.axes[0]
    texts = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    return dict(zip(texts, map(float, axis.get_yticks()), strict=True))


def drawn(figure: Figure) -> Figure:
    """Laid out, without a warning that something does not fit."""
    file = BytesIO()
    figure.savefig(file)
    assert file.getvalue().startswith(b"\x89PNG") and plt.get_fignums() == []
    return figure


# ----------------------------------------------------------------------------------------------------------- forest
@pytest.mark.parametrize("measure", ["average_drop", "insertion_auc"])
def test_dots_and_intervals_are_those_of_the_result(result: BenchmarkResult, measure: str) -> None:
    figure = drawn(result.plot(measure))
    assert [axis.get_title() for axis in figure.axes] == ["fill: mean", "fill: blur"]
    places = rows_of(figure)
    for axis, fill in zip(figure.axes, FILLS, strict=True):
        shown, ends = dots(axis), intervals(axis)
        assert len(shown) == len(ends) == len(result.scored)
        for row in result.scored:
            value, marker = shown[places[row.label]]
            assert value == row.value(measure, fill)
            assert marker == {"per image": "o", "canonical mean": "D"}[row.kind]
            assert ends[places[row.label]] == result.interval(row.label, measure, fill)


def test_methods_come_first_and_failures_are_named(result: BenchmarkResult) -> None:
    figure = result.plot()
    labels = list(rows_of(figure))
    assert labels[:6] == [
        "saliency, per image",
        "saliency, canonical mean",
        "broken, per image (failed)",
        "broken, canonical mean (failed)",
        f"{LONG}, per image",
        f"{LONG}, canonical mean",
    ]
    assert labels[6:] == [row.label for row in result.rows if row.control]
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == ["failed", "failed"]
        assert [text.get_position()[1] for text in axis.texts] == list(rows_of(figure).values())[2:4]
    assert figure.axes[0].get_ylim()[1] == 0  # the first row is the highest
    greys = [label.get_color() for label in figure.axes[0].get_yticklabels()]
    assert greys == ["black"] * 6 + ["0.5"] * (len(labels) - 6)
    assert max(len(label.get_text().split("\n")) for label in figure.axes[0].get_yticklabels()) == 3
    places = list(rows_of(figure).values())
    assert places == sorted(places) and places[6] - places[5] > places[7] - places[6] > places[1] - places[0] - 1e-9


def test_axis_says_what_and_how(result: BenchmarkResult) -> None:
    how = "n = 6 images; 95 % bootstrap intervals, 50 resamples of 6 images"
    assert result.plot().get_supxlabel() == f"Average Drop % (higher is better)\n{how}"
    assert result.plot("deletion_auc").get_supxlabel().startswith("Deletion (lower is better)\n")
    assert show_benchmark(result, "gain").get_supxlabel() == f"gain\n{how}"
    assert show_benchmark(result).get_supxlabel().startswith("average drop\n")
    people = replace(result, interval_units=torch.tensor([0, 0, 1, 1, 2, 2]))
    assert people.plot().get_supxlabel().endswith("50 resamples of 3 identities")
    joined = BenchmarkResult.join({"": BenchmarkResult.join({"a": result}), "b": result})
    assert joined.plot().get_supxlabel() == result.plot().get_supxlabel()
    one = replace(result, interval_units=torch.zeros(6, dtype=torch.int64)).plot()
    assert one.get_supxlabel().endswith("n = 6 images; no intervals: there is but one to resample")
    assert not intervals(one.axes[0]) and len(dots(one.axes[0])) == len(result.scored)


def test_values_that_do_not_count(result: BenchmarkResult) -> None:
    values = result["saliency, per image"].per_image["gain", "mean"].clone()
    values[:2] = torch.nan
    rows = []
    for row in result.rows:
        known = dict(row.per_image)
        if row.label == "saliency, per image":
            known["gain", "mean"] = values
        if row.label == "random, per image":
            known["gain", "mean"] = torch.full_like(values, torch.nan)
        rows.append(replace(row, per_image=known))
    figure = drawn(replace(result, rows=tuple(rows)).plot("gain", ["mean"]))
    assert "n = 0 to 6 images" in figure.get_supxlabel()
    places = rows_of(figure)
    assert dots(figure.axes[0])[places["saliency, per image"]][0] == pytest.approx(float(values[2:].mean()))
    assert places["random, per image"] not in dots(figure.axes[0])
    assert {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}["no value"] == places[
        "random, per image"
    ]


def test_panels_share_their_scale_and_follow_the_order_asked_for(result: BenchmarkResult) -> None:
    figure = result.plot(fills=["blur", "mean"])
    assert [axis.get_title() for axis in figure.axes] == ["fill: blur", "fill: mean"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert len(result.plot(fills=["blur"]).axes) == 1


def test_every_measure_has_its_title_and_direction(result: BenchmarkResult) -> None:
    for measure in result.measures:
        told = MEASURES[measure]
        title = result.plot(measure).get_supxlabel().split("\n")[0]
        assert title == f"{told.title} ({told.direction} is better)"


def test_many_rows_do_not_overlap(result: BenchmarkResult) -> None:
    rows = [replace(row, name=f"{row.name} {number}") for number in range(4) for row in result.rows]
    figure = drawn(replace(result, rows=tuple(rows)).plot())
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 4 * len(result.rows) > 40
    heights = [figure.axes[0].transData.transform((0, place))[1] for place in figure.axes[0].get_yticks()]
    assert heights == sorted(heights, reverse=True)
    assert all(below.y1 <= above.y0 for above, below in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_bad_measures_and_fills(result: BenchmarkResult) -> None:
    for arguments in (("drop",), ("gain", ["zero"]), ("gain", []), ("gain", "mean")):
        with pytest.raises(CanonicalError, match=r"expected one of the measures \['average_drop', .* got"):
            result.plot(*arguments)
        with pytest.raises(CanonicalError, match=r"expected one of the measures \['average_drop', .* got"):
            show_benchmark(result, *arguments)


# ----------------------------------------------------------------------------------------------------------- curves
def test_curves_are_means_of_deletion_and_insertion(result: BenchmarkResult) -> None:
    figure = drawn(show_curves(result))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"{order}, fill: {fill}" for order in ("deletion", "insertion") for fill in FILLS]
    rows = [row for row in result.scored if row.kind == "per image"]
    for axis, (order, fill) in zip(figure.axes, [title.split(", fill: ") for title in titles], strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == [row.label for row in rows]
        for row in rows:
            x, y = lines[row.label].get_data()
            np.testing.assert_allclose(x, [0, 0.3, 1] if order == "deletion" else [0, 0.7, 1])
            np.testing.assert_allclose(y, getattr(row.curves[fill], order).mean(0))
            assert float(torch.trapezoid(torch.tensor(y), torch.tensor(x))) == pytest.approx(
                row.value(f"{order}_auc", fill)
            )
    looks = {(line.get_color(), str(line.get_linestyle())) for line in figure.axes[0].lines}
    assert len(looks) == len(rows)
    assert [t.get_text().replace("\n", " ") for t in figure.legends[0].get_texts()] == [row.label for row in rows]
    assert figure.legends[0].get_title().get_text() == "n = 6 images"


def test_curves_that_were_asked_for(result: BenchmarkResult) -> None:
    labels = ["edges, canonical mean", "saliency, per image"]
    figure = show_curves(result, labels, ["blur"], space="canonical")
    assert [line.get_label() for line in figure.axes[0].lines] == labels and len(figure.axes) == 2
    mean = result[labels[1]].canonical_curves["blur"].morf.mean(0)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), mean)
    assert float((mean - result[labels[1]].curves["blur"].morf.mean(0)).abs().max()) > 1e-5  # not those in the image
    every = [row.label for row in result.scored]
    many = replace(result, rows=tuple(replace(row, name=f"{row.name} {n}") for n in range(3) for row in result.rows))
    default = show_curves(many)
    shown = [line.get_label() for line in default.axes[0].lines]
    assert (
        len(shown) == 8
        and shown[0] == "saliency 0, per image"
        and shown[6:]
        == [
            "random 0, per image",
            "uniform 0, per image",
        ]
    )
    assert default.legends[0].get_title().get_text() == "n = 6 images; not all rows"
    assert len(show_curves(result, every).axes[0].lines) == len(every)
    for bad in ({"rows": ["broken, per image"]}, {"rows": []}, {"space": "face"}):
        with pytest.raises(CanonicalError, match="show_curves: expected space 'image' or 'canonical', and rows"):
            show_curves(result, **bad)
    with pytest.raises(CanonicalError, match="one or more of the fills"):
        show_curves(result, fills=["zero"])


def test_mean_maps_are_a_montage(result: BenchmarkResult) -> None:
    """The last lines of the example of ``show_benchmark``."""
    maps = {name: [m / m.nan_to_num().abs().max()] for name, m in result.mean_maps.items()}
    unit = "share of the map's largest value"
    beneath = {name: result.canonical_faces[name] for name in maps}
    figure = drawn(montage(maps, backgrounds=beneath, vmax=1, unit=unit))
    assert [axis.get_title().replace("\n", " ") for axis in figure.axes[:-1]] == list(result.mean_maps)
    boxes = [axis.title.get_window_extent() for axis in figure.axes[:-1]]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    assert max(box.y1 for box in boxes) < figure.bbox.y1  # four lines of a long name


# ---------------------------------------------------------------------------------------------------- randomisation
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


def test_band_is_the_spread_over_seeds(test_of_layers: RandomizationTest, net: Net, photos: Tensor) -> None:
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
    ("order", "told", "dashes"),
    [("bottom_up", "layers randomised so far, from the input on", "-"), ("independent", "the one layer", ":")],
)
def test_orders(net: Net, photos: Tensor, order: Any, told: str, dashes: str) -> None:
    test = model_randomization(Saliency(net), photos[:2], target=1, order=order, seeds=[0])
    axis = curve_axis(show_randomization(test))
    assert axis.get_xlabel().startswith(told)
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


def test_table_without_spreads(net: Net, photos: Tensor) -> None:
    lines = model_randomization(Saliency(net), photos[:1], target=1, seeds=[0]).table().splitlines()
    assert all(line.count("±- ±-") == 5 for line in lines[2:5]) and "nan" not in "".join(lines)
