"""Fills against loops and dense solves, and fills of one's own by name."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.adapters.keypoints import PixelGrid
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import (
    BlurFill,
    ConstantFill,
    Fill,
    MeanFill,
    as_fill,
    fill_name,
    fill_pixels,
)
from captum_canonical.faithfulness.imputation import ImputedFill
from captum_canonical.plugins import FILLS
from plugin_tools import install

FILL_NAMES = ("blur", "imputed", "mean", "zero")


def everywhere(images: Tensor) -> Tensor:
    return torch.ones(len(images), 1, *images.shape[2:], dtype=torch.bool)


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


def test_constants() -> None:
    images = torch.rand(2, 3, 4, 5)
    exactly(fill_pixels(images, everywhere(images), "zero"), torch.zeros(2, 3, 4, 5))
    exactly(fill_pixels(images, everywhere(images), 0.25), torch.full((2, 3, 4, 5), 0.25))
    colour = torch.rand(3, 1, 1)
    exactly(fill_pixels(images, everywhere(images), colour), colour.expand(2, 3, 4, 5))
    with pytest.raises(CanonicalError, match=r"\(2, 4, 5\) does not broadcast .* \(2, 3, 4, 5\)"):
        fill_pixels(images, everywhere(images), torch.zeros(2, 4, 5))


def test_mean_is_of_each_channel_of_each_image() -> None:
    images = torch.rand(2, 3, 4, 5)
    filled = fill_pixels(images, everywhere(images), "mean")
    for n in range(2):
        for c in range(3):
            mean = sum(float(v) for v in images[n, c].flatten()) / 20
            assert_close(filled[n, c], torch.full((4, 5), mean))


def test_blur_equals_a_loop() -> None:
    image, sigma = torch.rand(1, 1, 6, 7, dtype=torch.float64), 1.3
    want = torch.zeros(6, 7, dtype=torch.float64)
    for r in range(6):
        for c in range(7):
            total = weights = 0.0
            for y in range(6):
                for x in range(7):
                    weight = math.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * sigma**2))
                    total, weights = total + weight * float(image[0, 0, y, x]), weights + weight
            want[r, c] = total / weights
    assert_close(BlurFill(sigma)(image, everywhere(image))[0, 0], want)
    # The default width follows the size of the image.
    exactly(BlurFill()(image, everywhere(image)), BlurFill(6 / 16)(image, everywhere(image)))
    with pytest.raises(CanonicalError, match="sigma above 0 pixels, got 0"):
        BlurFill(0)(image, everywhere(image))


def solved_densely(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """ROAD's system for one channel, equation by equation, as a dense matrix over all pixels."""
    height, width = image.shape
    matrix, right = np.eye(height * width), image.flatten().copy()
    for y in range(height):
        for x in range(width):
            if not hidden[y, x]:
                continue
            me = y * width + x
            near = [(r, c) for r in range(y - 1, y + 2) for c in range(x - 1, x + 2) if (r, c) != (y, x)]
            near = [(r, c) for r, c in near if 0 <= r < height and 0 <= c < width]
            weights = [1 / 6 if r == y or c == x else 1 / 12 for r, c in near]
            for (r, c), weight in zip(near, weights, strict=True):
                matrix[me, r * width + c] = -weight / sum(weights)
            right[me] = 0.0
    return np.linalg.solve(matrix, right).reshape(height, width)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(2, 8), st.floats(0.05, 0.95), st.integers(0, 10_000))
@example(8, 8, 0.5, 1)
@example(8, 8, 0.95, 2)
def test_imputation_equals_a_dense_solve(height: int, width: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    image, hidden = random.random((3, height, width)), random.random((height, width)) < share
    hidden[random.integers(height), random.integers(width)] = False
    got = ImputedFill(noise=0.0)(torch.from_numpy(image)[None], torch.from_numpy(hidden)[None, None])[0].numpy()
    for c in range(3):
        np.testing.assert_allclose(got[c], solved_densely(image[c], hidden), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got[:, ~hidden], image[:, ~hidden])
    lowest, highest = image.min((1, 2)), image.max((1, 2))
    assert (got.min((1, 2)) >= lowest - 1e-12).all() and (got.max((1, 2)) <= highest + 1e-12).all()


def test_imputation_continues_a_ramp_exactly() -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    image = (2 * x - 3 * y + 1)[None, None].double()
    hidden = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    hidden[:, :, 2:7, 1:8] = True
    assert_close(ImputedFill(noise=0.0)(image, hidden), image)


def test_imputed_noise_is_one_field() -> None:
    images = torch.zeros(3, 2, 40, 50, dtype=torch.float64)
    hidden = torch.rand(3, 1, 40, 50) < 0.9
    state = torch.get_rng_state()
    filled = ImputedFill()(images, hidden)
    exactly(torch.get_rng_state(), state)
    assert_close(float(filled[hidden.expand_as(filled)].std()), 0.01, rtol=0.05, atol=0)
    both = (hidden[0] & hidden[1]).expand(2, 40, 50)
    exactly(filled[0][both], filled[1][both])  # the same for all images,
    exactly(ImputedFill()(images[2:], hidden[2:])[0], filled[2])  # in any batch
    assert not torch.equal(ImputedFill(seed=1)(images, hidden), filled)
    exactly(filled[~hidden.expand_as(filled)], torch.zeros(int((~hidden).sum()) * 2, dtype=torch.float64))


def test_imputation_of_a_whole_image_is_its_mean() -> None:
    images = torch.rand(1, 3, 5, 6)
    assert_close(ImputedFill(noise=0.0)(images, everywhere(images)), MeanFill()(images, everywhere(images)))
    exactly(ImputedFill()(images, ~everywhere(images)), images)


@pytest.mark.parametrize("name", FILLS.names())
def test_every_fill(name: str) -> None:
    images, hidden = torch.rand(3, 2, 12, 10), torch.rand(3, 1, 12, 10) < 0.5
    before = images.clone()
    filled = fill_pixels(images, hidden, name)
    exactly(images, before)
    assert filled.shape == images.shape and filled.dtype == images.dtype and filled.isfinite().all()
    for n in range(3):
        assert_close(fill_pixels(images[n : n + 1], hidden[n : n + 1], name), filled[n : n + 1])
    shown = ~hidden.expand_as(images)
    exactly(filled[shown], images[shown])
    if not as_fill(name).uses_hidden:
        exactly(fill_pixels(images, ~hidden, name)[shown], as_fill(name)(images, hidden)[shown])
    assert fill_name(name) == as_fill(name).name == name


@pytest.mark.parametrize("name", FILL_NAMES)
def test_a_constant_image_is_filled_with_itself_and_a_mirrored_one_is_mirrored(name: str) -> None:
    images, hidden = torch.rand(3, 2, 12, 10), torch.rand(3, 1, 12, 10) < 0.5
    constant = torch.full_like(images, 0.75)
    if name != "zero":
        close = 0.05 if name == "imputed" else 1e-6
        assert_close(fill_pixels(constant, hidden, name), constant, rtol=0, atol=close)
    if name != "imputed":  # whose noise lies still
        mirrored = fill_pixels(images.flip(3), hidden.flip(3), name).flip(3)
        assert_close(mirrored, fill_pixels(images, hidden, name))
    assert as_fill(name).uses_hidden == (name == "imputed")


def test_what_stands_for_a_fill() -> None:
    def grey(images: Tensor, hidden: Tensor) -> Tensor:
        return torch.full_like(images, 0.5) * hidden

    names = [
        fill_name(fill) for fill in (grey, 0.5, torch.zeros(3, 1, 1), BlurFill(3.0), ConstantFill(0), lambda i, h: i)
    ]
    assert names == ["grey", "constant 0.5", "constant (3, 1, 1)", "blur 3", "zero", "<lambda>"]
    images, hidden = torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4) < 0.5
    exactly(fill_pixels(images, hidden, grey), torch.where(hidden, 0.5, images))
    for wrong in ("grey", None, True):
        with pytest.raises(CanonicalError, match=f"expected one of {re.escape(str(list(FILLS.names())))}.*, got "):
            as_fill(wrong)  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match=r"fill '<lambda>': expected images of shape \(1, 3, 4, 4\), got \(1, 1, "):
        fill_pixels(images, hidden, lambda i, h: h)


# ------------------------------------------------------------------------------------------------------ of one's own
MINE = """
from captum_canonical.faithfulness import Fill

class Mine(Fill):
    name = "mine"

    def __call__(self, images, hidden):
        return images.flip(3)
"""


def test_a_fill_of_ones_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CanonicalError, match=f"expected one of {re.escape(str(list(FILLS.names())))}, .* got 'mine'"):
        as_fill("mine")
    install(tmp_path, "package_of_a_fill", MINE, FILLS.group, {"mine": "package_of_a_fill:Mine"})
    images = torch.rand(8, 3, 16, 16)
    exactly(fill_pixels(images, everywhere(images), "mine"), images.flip(3))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2)).eval()
    grid = PixelGrid(4, 4)
    result = cc.benchmark(
        net,
        images,
        {"Saliency": Saliency(net)},
        0,
        faces=grid,
        canonical_face=grid.canonical_face((16, 16)),
        fills=("mine", "mean"),
        folds=2,
        resamples=20,
        permutations=20,
    )
    assert result.fills == ("mine", "mean")
    row = result["Saliency, per image"]
    assert row.value("mean_drop", "mine") != row.value("mean_drop", "mean")
    assert row.curves["mine"].fill == "mine"


def test_defaults_of_the_base_class() -> None:
    class Grey(Fill):
        def __call__(self, images: Tensor, hidden: Tensor) -> Tensor:
            return torch.full_like(images, 0.5)

    assert as_fill(Grey).name == fill_name(Grey()) == "Grey" and as_fill(Grey).uses_hidden
    with pytest.raises(CanonicalError, match="got <class"):
        as_fill(dict)  # type: ignore[arg-type]
