"""Numbers, names and tables as a page writes them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from captum_canonical.tables import Table

MINUS = "\u2212"
NOTHING = "\u2013"
"""Stands where there is no value."""


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, integers with thousands separators; a dash for None and NaN.

    Example::

        >>> number(0.012345), number(12345), number(123456.7), number(1e20)
        ('0.0123', '12,345', '123,457', '1e20')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = f"{value:,}" if isinstance(value, int) else _rounded(value, digits)
    return text.replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = int(exponent)
    return f"{value:,.0f}" if 0 < power < 7 else f"{mantissa}e{power}"


def interval(low: Any, high: Any) -> str:
    """Such as "[low, high]"; empty where an end is not known."""
    if any(end is None or math.isnan(end) for end in (low, high)):
        return ""
    return f"[{number(low)}, {number(high)}]"


def percent(share: float) -> str:
    """A share as a percentage with one digit."""
    return f"{100 * share:.1f} %".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """Such as "1 photograph" and "2 photographs"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def region_name(name: str) -> str:
    """A region's name without underscores."""
    return name.replace("_", " ")


def on_page(table: Table, **headings: str) -> Table:
    """A result's table as a page shows it: region names as words, three significant digits, other headings."""
    columns = [
        replace(
            column,
            heading=headings.get(column.name, column.heading),
            format=region_name if column.name == "region" else column.format,
        )
        for column in table.columns
    ]
    return replace(table, columns=columns).with_numbers(number, NOTHING)
