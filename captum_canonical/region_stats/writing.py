"""Numbers with intervals as text, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

Interval = tuple[float, float]


def with_ends(value: float, ends: Sequence[float] | None, form: str) -> str:
    """A number with its interval.

    Example::

        >>> with_ends(1.0, (0.5, 1.5), "{:.2f}"), with_ends(1.0, None, "{:.1f}"), with_ends(math.nan, None, "{}")
        ('1.00 [0.50, 1.50]', '1.0', 'not defined')
    """
    if math.isnan(value):
        return "not defined"
    told = form.format(value)
    return told if ends is None or math.isnan(ends[0]) else f"{told} [{form.format(ends[0])}, {form.format(ends[1])}]"


def grid(head: list[str], body: list[list[str]], format: Literal["text", "markdown"]) -> str:
    """A table with a line of heads.

    Example::

        >>> print(grid(["region", "mean"], [["chin", "0.1"]], "markdown"))
        | region | mean |
        | --- | --- |
        | chin | 0.1 |
    """
    if format == "markdown":
        lines = [head, ["---"] * len(head), *body]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *body]
    )


def without_nan(value: Any) -> Any:
    """NaN and infinities as None, also within; JSON knows none.

    Example::

        >>> without_nan({"a": (1.0, math.nan)})
        {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
