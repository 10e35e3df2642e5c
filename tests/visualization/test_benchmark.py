"""Figures of benchmarks: the dots, intervals, curves and maps that are drawn are those of the result."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Attribution, LayerGradCam, Saliency
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_canonical import CanonicalError, CanonicalFace, FaceMesh, benchmark
from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.visualization.benchmark import show_benchmark, show_curves
from captum_canonical.visualization.maps import montage
from figure_tools import drawn, of_data
from small_networks import SmallNet

LONG = "A method whose name says everything about its settings, the noise among them"
FILLS = ("mean", "blur")


class Fails(Attribution):
    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        raise RuntimeError("no luck")


@pytest.fixture(scope="module")
def result(net: SmallNet, photos: Tensor, face: CanonicalFace) -> BenchmarkResult:
    vertices = 0.7 * face.vertices + torch.tensor([8.0, 2.0, 0.0], dtype=torch.float64)
    faces = FaceMesh(vertices.repeat(len(photos), 1, 1), image_size=(32, 32), topology=face.topology)
    methods: dict[str, Any] = {"saliency": Saliency(net), "broken": Fails(net), LONG: LayerGradCam(net, net.conv1)}
    quick = {"fills": FILLS, "folds": 3, "fractions": [0, 0.3, 1], "resamples": 50, "spaces": ("image", "canonical")}
    return benchmark(net, photos, methods, 1, faces=faces, canonical_face=face, **quick)


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
        known = MEASURES[measure]
        title = result.plot(measure).get_supxlabel().split("\n")[0]
        assert title == f"{known.title} ({known.direction} is better)"


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
