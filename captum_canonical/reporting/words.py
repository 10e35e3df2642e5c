"""Numbers and facts in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_canonical.run_folder.folder import RunFolder

MINUS = "\u2212"
NOTHING = "\u2013"
"""Stands in a table where there is no value."""


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, whole numbers with separators; a dash for none.

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
    """Such as "[low, high]"; nothing where it is not known."""
    if any(bound is None or math.isnan(bound) for bound in (low, high)):
        return ""
    return f"[{number(low)}, {number(high)}]"


def percent(share: float | None) -> str:
    """A share as a percentage with one digit."""
    return NOTHING if share is None or math.isnan(share) else f"{100 * share:.1f} %".replace("-", MINUS)


def counted(count: int, noun: str) -> str:
    """Such as "1 photograph" and "2 photographs"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def plain(value: Any) -> str:
    """A setting as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(each) for each in value) or "none"
    return str(value)


Facts = list[tuple[str, str]]
_AS_WRITTEN = "%Y-%m-%d %H:%M UTC"


def settings_of_run(run: RunFolder) -> dict[str, Facts]:
    """Title of a table -> its rows: settings, fingerprints, versions, times."""
    return {
        "Settings": list(_flat(run.settings)),
        "Fingerprints (SHA-256)": [("network", run.network), ("photographs", run.data)],
        "Versions": list(_flat(run.versions)),
        "Time": _times(run.path),
    }


def settings_of_benchmark(settings: Mapping[str, Any]) -> dict[str, Facts]:
    """The same of a benchmark."""
    rest = {name: value for name, value in settings.items() if name not in ("versions", "fold of each image")}
    return {"Settings": list(_flat(rest)), "Versions": list(_flat(settings.get("versions", {})))}


def now() -> str:
    """When the page is made."""
    return datetime.now(timezone.utc).strftime(_AS_WRITTEN)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield prefix + str(name), plain(value)


def _times(root: Path) -> Facts:
    """From the dates of the files, which a copy may have changed."""
    begun = (root / "manifest.json").stat().st_mtime
    ends = [path.stat().st_mtime for path in root.glob("records-*.jsonl")]
    if not ends:
        return [("begun", _told(begun))]
    seconds = round(max(0.0, max(ends) - begun))
    return [
        ("begun (date of the manifest)", _told(begun)),
        ("last photograph written", _told(max(ends))),
        ("between the two", counted(seconds, "second") if seconds < 600 else counted(round(seconds / 60), "minute")),
    ]


def _told(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, timezone.utc).strftime(_AS_WRITTEN)
