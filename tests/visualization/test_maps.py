"""Figures: the pixels that are drawn. One scale, grey where nothing was seen, no trouble with zeros and NaN."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.visualization.maps import montage, show_canonical, show_on_photo

GREY = torch.full((3, 20, 20), 0.5)  # a picture without any content of its own


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    """A face whose image is evenly grey, so that colours come from the map alone."""
    return CanonicalFace.from_vertices(GREY, torch.rand(5, 3) * 20)


@lru_cache(maxsize=4)
def render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def pixel(figure: Figure, cell: int, x: float, y: float, size: tuple[int, int] = (20, 20)) -> np.ndarray:
    """The colour drawn in a cell at (x, y) of a picture of (height, width)."""
    picture = render(figure)
    axis = figure.axes[cell]
    right, left = axis.get_xlim()[1], axis.get_xlim()[0]
    assert (left, right) == (0, size[1]) and axis.get_ylim() == (size[0], 0)
    column, line = axis.transData.transform((x, y))
    return picture[picture.shape[0] - 1 - round(line), round(column)]


def is_grey(color: np.ndarray) -> bool:
    return bool(np.ptp(color) <= 1)


def quadrants(*values: float) -> Tensor:
    """(1, 20, 20): four values, top left, top right, bottom left, bottom right."""
    return torch.tensor(values).reshape(1, 2, 2).repeat_interleave(10, 1).repeat_interleave(10, 2)


PLACES = [(5, 5), (15, 5), (5, 15), (15, 15)]


# ---------------------------------------------------------------------------------------------------------- colours
def test_signs_zero_and_unseen_look_different(face: CanonicalFace) -> None:
    coverage = quadrants(1, 1, 3, 0)
    figure = show_canonical(quadrants(1.0, -1.0, 0.0, 0.5), face, coverage, vmax=1.0)
    positive, negative, zero, unseen = (pixel(figure, 0, *place) for place in PLACES)
    assert positive[0] > positive[2] + 50 and negative[2] > negative[0] + 50  # red and blue
    assert is_grey(zero) and is_grey(unseen)
    assert zero.mean() > unseen.mean() + 40


def test_zero_is_always_brighter_than_unseen() -> None:
    black_and_white = torch.cat([torch.zeros(3, 10, 20), torch.ones(3, 10, 20)], 1)
    figure = show_on_photo(quadrants(0.0, torch.nan, 0.0, torch.nan), black_and_white, vmax=1.0)
    zero_on_black, unseen_on_black, zero_on_white, unseen_on_white = (pixel(figure, 0, *place) for place in PLACES)
    assert zero_on_black.mean() > unseen_on_white.mean() + 10
    assert zero_on_white.mean() > zero_on_black.mean() and unseen_on_white.mean() > unseen_on_black.mean() + 10


def test_stronger_values_are_stronger_colours_and_symmetric(face: CanonicalFace) -> None:
    steps = torch.linspace(-1, 1, 20).expand(1, 20, 20)
    figure = show_canonical(steps, face, vmax=1.0)
    line = np.array([pixel(figure, 0, x + 0.5, 10) for x in range(20)])
    redness = line[:, 0] - line[:, 2]
    assert (np.diff(redness[5:15]) > 0).all()  # the dark ends differ by their darkness
    assert (np.diff(line.sum(1)[:10]) > 0).all() and (np.diff(line.sum(1)[10:]) < 0).all()


def test_values_beyond_the_scale_have_the_colour_of_its_end(face: CanonicalFace) -> None:
    figure = show_canonical(quadrants(2.0, 1.0, -1.0, -7.0), face, vmax=1.0)
    colors = [pixel(figure, 0, *place) for place in PLACES]
    assert (colors[0] == colors[1]).all() and (colors[2] == colors[3]).all()


def test_a_map_has_its_sides_the_right_way_round(face: CanonicalFace) -> None:
    figure = show_canonical(quadrants(0.0, 0.0, 1.0, 0.0), face)
    assert [is_grey(pixel(figure, 0, *place)) for place in PLACES] == [True, True, False, True]


# ------------------------------------------------------------------------------------------------------- one scale
def test_one_scale_in_all_cells(face: CanonicalFace) -> None:
    strong, weak = quadrants(0.8, 0.2, -0.2, 0.0), quadrants(0.2, 0.2, 0.2, 0.2)
    maps = {"strong": strong[None], "weak": weak[None], "other size": [torch.full((7, 5), 0.2)]}
    figure = montage(maps, backgrounds=face)
    same = [pixel(figure, cell, 15, 5) for cell in range(3)]
    assert (same[0] == same[1]).all() and (same[0] == same[2]).all()
    alone = show_canonical(weak, face)
    assert (pixel(alone, 0, 15, 5) != same[0]).any()  # by itself it would have filled the scale
    fixed = show_canonical(weak, face, vmax=0.8)
    assert (pixel(fixed, 0, 15, 5) == same[0]).all()


def test_the_colour_bar_shows_what_is_drawn(face: CanonicalFace) -> None:
    figure = show_canonical(quadrants(0.5, 0.5, -1.0, 1.0), face, unit="drop in log-odds")
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "drop in log-odds"
    assert bar.get_ylim() == (-1.0, 1.0)
    picture = render(figure)
    column, line = bar.transData.transform((0.5, 0.5))
    drawn = picture[picture.shape[0] - 1 - round(line), round(column)]
    assert np.abs(drawn - pixel(figure, 0, 5, 5)).max() <= 3  # the picture is of the bar's middle brightness


@pytest.mark.parametrize(("values", "extend"), [((9.0, 0.1), "max"), ((-9.0, 0.1), "min"), ((9.0, -9.0), "both")])
def test_the_colour_bar_says_when_values_are_clipped(face: CanonicalFace, values, extend: str) -> None:
    saliency = torch.full((1, 20, 20), 0.1)
    saliency[0, 0, :1] = values[0]
    saliency[0, 5, :1] = values[1]
    figure = show_canonical(saliency, face, vmax=1.0)
    assert figure.axes[-1].get_ylabel() == "drop in probability\n(clipped, largest |value| 9)"
    assert figure.axes[-1]._colorbar.extend == extend


def test_single_pixels_do_not_set_the_scale(face: CanonicalFace) -> None:
    saliency = torch.rand(1, 20, 20) * 0.2
    saliency[0, 3, 3] = 50.0
    figure = show_canonical(saliency, face)
    assert figure.axes[-1].get_ylim()[1] < 0.21
    assert "clipped, largest |value| 50" in figure.axes[-1].get_ylabel()
    sparse = torch.zeros(1, 20, 20)
    sparse[0, 3, 3] = 50.0  # the percentile is 0: the largest value counts
    assert show_canonical(sparse, face).axes[-1].get_ylim() == (-50, 50)


def test_what_was_not_seen_does_not_set_the_scale(face: CanonicalFace) -> None:
    figure = show_canonical(quadrants(1.0, 100.0, 1.0, torch.inf), face, quadrants(1, 0, 1, 1))
    assert figure.axes[-1].get_ylim() == (-1.0, 1.0)
    assert figure.axes[-1].get_ylabel() == "drop in probability"
    assert is_grey(pixel(figure, 0, 15, 5)) and is_grey(pixel(figure, 0, 15, 15))


# ------------------------------------------------------------------------------------------------- nothing to draw
def test_all_zero(face: CanonicalFace) -> None:
    figure = show_canonical(torch.zeros(1, 1, 20, 20), face)
    assert all(is_grey(pixel(figure, 0, *place)) for place in PLACES)
    assert figure.axes[-1].get_ylabel() == "drop in probability\n(all values are 0)"


def test_nothing_seen(face: CanonicalFace) -> None:
    for saliency, coverage in ((torch.full((20, 20), torch.nan), None), (torch.rand(20, 20), torch.zeros(20, 20))):
        figure = show_canonical(saliency, face, coverage)
        assert is_grey(pixel(figure, 0, 5, 5))
        assert figure.axes[-1].get_ylabel() == "drop in probability\n(nothing was seen)"


def test_legend_of_unseen_only_where_there_is_any(face: CanonicalFace) -> None:
    assert not show_canonical(torch.rand(20, 20), face).legends
    figure = show_canonical(torch.rand(20, 20), face, quadrants(1, 1, 1, 0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not seen"]


# --------------------------------------------------------------------------------------------------------- montage
def test_montage_has_rows_of_photos_and_columns_of_methods(face: CanonicalFace) -> None:
    photos = torch.rand(2, 3, 30, 20)
    maps = {"canonical": torch.rand(2, 1, 20, 20), "image": torch.rand(2, 1, 6, 4)}
    figure = montage(maps, photos, backgrounds={"canonical": face}, row_labels=["ada", "bob"], title="gender")
    cells = figure.axes[:-1]
    assert [axis.get_title() for axis in cells] == ["", "canonical", "image", "", "", ""]
    assert [axis.get_ylabel() for axis in cells] == ["ada", "", "", "bob", "", ""]
    assert [axis.get_ylim()[0] for axis in cells] == [30, 20, 30] * 2
    shown = cells[3].images[0].get_array()
    np.testing.assert_allclose(shown, photos[1].permute(1, 2, 0).numpy(), atol=1e-6)  # in colour, as it is
    beneath = cells[5].images[0].get_array()
    assert np.ptp(beneath, axis=2).max() == 0 and beneath.min() >= 0.6  # grey, and pale
    assert figure.get_suptitle() == "gender"


def test_montage_takes_coverage_by_column(face: CanonicalFace) -> None:
    maps = {"a": quadrants(1, 1, 1, 1)[None], "b": quadrants(1, 1, 1, 1)[None]}
    figure = montage(maps, coverage={"b": quadrants(1, 1, 1, 0)[None]}, backgrounds=face)
    assert not is_grey(pixel(figure, 0, 15, 15)) and is_grey(pixel(figure, 1, 15, 15))


@pytest.mark.parametrize(
    "photo",
    [
        np.full((30, 20, 3), 128, np.uint8),
        np.full((30, 20), 128, np.uint8),
        torch.full((3, 30, 20), 128 / 255),
        torch.full((1, 3, 30, 20), 128 / 255, dtype=torch.float64),
        torch.full((1, 30, 20), 128 / 255),
        np.full((30, 20, 3), 128 / 255),
        Image.new("RGB", (20, 30), (128, 128, 128)),
    ],
)
def test_photos_in_every_form(photo) -> None:
    figure = show_on_photo(torch.zeros(30, 20), photo)
    assert np.abs(pixel(figure, 0, 10, 15, (30, 20)) - 255 * (0.6 + 0.4 * 128 / 255)).max() <= 1


def test_photos_keep_their_aspect() -> None:
    figure = show_on_photo(torch.rand(14, 14), torch.rand(3, 60, 30))
    render(figure)
    box = figure.axes[0].get_window_extent()
    assert abs(box.height / box.width - 2) < 0.02


# -------------------------------------------------------------------------------------------------- side effects
def test_no_global_state_is_touched(face: CanonicalFace) -> None:
    parameters, saliency = dict(mpl.rcParams), torch.rand(1, 20, 20, requires_grad=True)
    before = saliency.detach().clone()
    figure = show_canonical(saliency, face)
    file = BytesIO()
    figure.savefig(file)
    assert file.getvalue().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == parameters
    torch.testing.assert_close(saliency.detach(), before)
    assert plt.get_fignums() == []


# ---------------------------------------------------------------------------------------------------- bad input
def test_bad_maps_and_pictures(face: CanonicalFace) -> None:
    with pytest.raises(CanonicalError, match=r"canonical face's size \(20, 20\), got \(8, 8\)"):
        show_canonical(torch.rand(1, 8, 8), face)
    with pytest.raises(CanonicalError, match=r"one map of shape .* got \(2, 1, 20, 20\)"):
        show_canonical(torch.rand(2, 1, 20, 20), face)
    with pytest.raises(CanonicalError, match=r"a coverage of the map's size \(20, 20\), got \(8, 8\)"):
        show_canonical(torch.rand(20, 20), face, torch.ones(8, 8))
    with pytest.raises(CanonicalError, match="undo the network's normalisation"):
        show_on_photo(torch.rand(20, 20), torch.randn(3, 20, 20))
    for vmax in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CanonicalError, match="vmax: expected a positive number"):
            show_canonical(torch.rand(20, 20), face, vmax=vmax)


def test_bad_montages(face: CanonicalFace) -> None:
    maps = {"a": torch.rand(2, 1, 20, 20)}
    with pytest.raises(CanonicalError, match="nothing lies beneath the maps of 'a'"):
        montage(maps)
    for arguments in (
        {"photos": torch.rand(3, 3, 20, 20)},
        {"row_labels": ["one"]},
        {"coverage": {"b": torch.ones(2, 1, 20, 20)}},
        {"backgrounds": {"b": face}},
    ):
        with pytest.raises(CanonicalError, match="montage: expected as many maps in each column"):
            montage(maps, **{"backgrounds": face, **arguments})
    for empty in ({}, {"a": torch.rand(0, 1, 20, 20)}, {**maps, "b": torch.rand(1, 1, 20, 20)}):
        with pytest.raises(CanonicalError, match="montage: expected as many maps in each column"):
            montage(empty, backgrounds=face)
