"""Strata drawn beside each other: one scale, counts, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from captum_canonical import CanonicalError, CanonicalFace, ModelSaliency
from captum_canonical.visualization.maps import show_strata

SIZE = 48


@pytest.fixture(scope="module")
def result() -> ModelSaliency:
    """Five groups; the map of group k is k everywhere, and its upper half was not seen in the last one."""
    maps = torch.arange(5.0).repeat_interleave(2)[:, None, None, None].repeat(1, 1, SIZE, SIZE)
    coverage = torch.ones_like(maps)
    coverage[8:, :, : SIZE // 2] = 0
    groups = [f"group {number // 2}" for number in range(10)]
    return ModelSaliency.from_maps(maps, coverage, CanonicalFace.default(SIZE), group=groups)


def colour(axis, row: int, column: int) -> np.ndarray:
    """Of the map that is laid over the face."""
    return axis.images[-1].get_array()[row, column]


def test_the_same_value_has_the_same_colour_in_every_stratum(result: ModelSaliency) -> None:
    strata = result.strata("group")
    figure = show_strata(strata, columns=3, title="By group")
    FigureCanvasAgg(figure).draw()
    maps = figure.axes[:5]
    assert [axis.get_title() for axis in maps] == [f"{label}\n2 photographs" for label in strata]
    assert not figure.axes[5].axison  # the sixth place of two lines of three
    opacity = [float(colour(axis, SIZE - 1, 0)[3]) for axis in maps]
    assert opacity[0] == 0 and all(low < high for low, high in pairwise(opacity))
    alone = show_strata({"alone": strata["group 2"]}, vmax=4.0)
    np.testing.assert_array_equal(colour(alone.axes[0], 0, 0), colour(maps[2], 0, 0))
    assert colour(maps[4], 0, 0)[0] == colour(maps[4], 0, 0)[1]  # grey: not seen
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not seen"]
    assert figure.get_suptitle() == "By group" and figure.axes[-1].get_ylabel().startswith("drop in probability")


def test_what_cannot_be_drawn(result: ModelSaliency) -> None:
    without_face = ModelSaliency(result.mean, result.variance, result.count, result.coverage, 10)
    for strata, options, message in (
        ({}, {}, "expected results by label"),
        ({"a": result.mean}, {}, "expected results by label"),
        ({"a": without_face}, {}, "the canonical face is not known"),
        ({"a": result}, {"columns": 0}, "columns: expected an integer from 1 on, got 0"),
        ({"a": result}, {"vmax": -1.0}, "vmax: expected a positive number"),
    ):
        with pytest.raises(CanonicalError, match=message):
            show_strata(strata, **options)
