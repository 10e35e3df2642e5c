"""Groups of ages that a spreadsheet took for dates: "3-9" became the 3rd of September, "10-19" October 2019."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from captum_canonical.errors import user_stacklevel

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
MONTHS = {"mar": 3, "mär": 3, "mrz": 3, "sep": 9, "set": 9, "oct": 10, "okt": 10, "out": 10, "ott": 10}
"""March, September and October as spreadsheets of several languages begin them."""
SPREADSHEET_DAY_0 = date(1899, 12, 30)


def repaired_age(text: str) -> str | None:
    """The group of ages that a date was, None if it was none.

    Example::

        >>> [repaired_age(text) for text in ("03-Sep", "9-Mar", "Oct-19", "2021-09-03", "43739", "20-29")]
        ['3-9', '3-9', '10-19', '3-9', '10-19', None]
    """
    words = re.findall(r"[^\W\d_]+|[0-9]+", text.lower())
    numbers = {int(word) if word.isdecimal() else MONTHS.get(word[:3]) for word in words[:6]}
    if len(words) == 1 and words[0].isdecimal() and len(words[0]) == 5:  # a date without its format
        day = SPREADSHEET_DAY_0 + timedelta(int(words[0]))
        numbers = {day.month, day.day, day.year}
    if {3, 9} <= numbers:
        return "3-9"
    return "10-19" if 10 in numbers and numbers & {19, 2019} else None


def repaired_ages(values: Sequence[Any], name: str) -> list[Any]:
    """Ages with the dates among them put right, other values as they are; warns with the numbers of both.

    Args:
        values: groups of ages, or None.
        name: of the table, for the warning.
    """
    repaired: Counter[tuple[str, str]] = Counter()
    unknown: Counter[str] = Counter()
    found = []
    for value in values:
        right = None if value is None or value in AGES else repaired_age(str(value))
        if right is not None:
            repaired[str(value), right] += 1
        elif value is not None and value not in AGES:
            unknown[str(value)] += 1
        found.append(value if right is None else right)
    if repaired:
        listed = ", ".join(f"{wrong!r} is {right!r} {times} times" for (wrong, right), times in repaired.most_common(5))
        warnings.warn(
            f"{name}: {repaired.total()} of {len(values)} ages are dates, which a spreadsheet made of them, and were "
            f"put right ({listed}).",
            stacklevel=user_stacklevel(),
        )
    if unknown:
        listed = ", ".join(f"{value!r} {times} times" for value, times in unknown.most_common(5))
        warnings.warn(
            f"{name}: {unknown.total()} of {len(values)} ages are none of FairFace's groups ({listed}) and stay as "
            "they are.",
            stacklevel=user_stacklevel(),
        )
    return found
