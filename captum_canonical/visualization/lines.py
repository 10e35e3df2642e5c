"""What all figures of numbers share: colours, axes, and text that fits.

References:
    Okabe, Ito: Color Universal Design, 2008 (colours that are told apart with any colour vision).
"""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#8c6d1f")
"""The first six are Okabe's and Ito's; without their yellow, too pale for lines, and black, which is for controls."""
CONTROL = "0.5"


def plain_axes(axis: Axes, title: str = "") -> None:
    """Small letters, and lines on two sides only."""
    axis.set_title(title, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def wrapped(text: str, width: int) -> str:
    """The text in lines of so many letters at most, as far as its words allow; its own line breaks stay."""
    return "\n".join("\n".join(textwrap.wrap(line, width, break_on_hyphens=False)) for line in text.split("\n"))
