"""Figures, and what is read back from them."""

from __future__ import annotations

from io import BytesIO

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


def of_data(axis: Axes) -> list[Line2D]:
    """The lines in data coordinates, not those across the whole panel."""
    return [line for line in axis.lines if line.get_transform() is axis.transData]


def drawn(figure: Figure) -> Figure:
    """Laid out, without a warning that something does not fit."""
    file = BytesIO()
    figure.savefig(file)
    assert file.getvalue().startswith(b"\x89PNG") and plt.get_fignums() == []
    return figure
