"""The colours of maps as lists, for pictures that are drawn elsewhere, such as by a browser."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from captum_canonical.visualization.cells import heat, over

LEVELS = 255
"""Colours from the lowest to the highest value of a scale: an odd number, so that 0 has one of its own."""
UNSEEN_LEVEL = LEVELS
"""Place behind the colours of values for what was not seen."""
Kind = Literal["diverging", "error", "count"]
_SEQUENTIAL = {"error": "Purples", "count": "Greens"}  # one hue each, from light to dark


def palette(kind: Kind) -> np.ndarray:
    """(LEVELS, 3) uint8 colours on white paper, from the lowest to the highest value.

    Args:
        kind: ``"diverging"`` for signed values, in the colours of all figures of maps (red speaks for the target);
            ``"error"`` and ``"count"`` for values from 0 on, light to dark. All can be told apart without red-green
            vision.

    Example::

        >>> colours = palette("diverging")
        >>> colours.shape, colours[127].tolist()  # 0 is white
        ((255, 3), [255, 255, 255])
    """
    share = np.linspace(0, 1, LEVELS)
    if kind == "diverging":
        colours = over(heat(2 * share - 1, Normalize(-1, 1)), 1.0)
    else:
        colours = colormaps[_SEQUENTIAL[kind]](0.95 * share)[:, :3]
    return np.rint(255 * colours).astype(np.uint8)
