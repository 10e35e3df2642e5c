"""How a result came about: settings, fingerprints, versions and times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_canonical.reporting.page import Section
from captum_canonical.reporting.words import counted, number
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.tables import Table

Facts = list[tuple[str, str]]
"""(name, value) pairs."""


def run_section(run: RunFolder) -> Section:
    """Settings, fingerprints, versions and times of a run."""
    tables = [
        _table("Settings", _flat(run.settings)),
        _table("Fingerprints (SHA-256)", [("network", run.network), ("photographs", run.data)]),
        _table("Versions", _flat(run.versions)),
        _table("Time", _times(run.path)),
    ]
    return Section("settings", "Settings, versions and time", tables=tables)


def benchmark_section(settings: Mapping[str, Any]) -> Section:
    """Settings and versions of a benchmark."""
    rest = {name: value for name, value in settings.items() if name not in ("versions", "fold of each image")}
    tables = [_table("Settings", _flat(rest)), _table("Versions", _flat(settings.get("versions", {})))]
    return Section("settings", "Settings and versions", tables=tables)


def now() -> str:
    """The current time."""
    return _time_text(datetime.now(timezone.utc))


def _table(title: str, facts: Facts) -> Table:
    return Table.of_cells(("What", "Value"), facts, title=title, sortable=False)


def _flat(values: Mapping[str, Any]) -> Facts:
    return [(name, _value_text(value)) for name, value in _flattened(values, "")]


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}", value


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value_text, value)) or "none"
    return str(value)


def _times(root: Path) -> Facts:
    # From the dates of the files, which a copy may have changed.
    begun = (root / "manifest.json").stat().st_mtime
    ends = [path.stat().st_mtime for path in root.glob("records-*.jsonl")]
    if not ends:
        return [("begun", _stamp_text(begun))]
    seconds = round(max(0.0, max(ends) - begun))
    return [
        ("begun (date of the manifest)", _stamp_text(begun)),
        ("last photograph written", _stamp_text(max(ends))),
        ("between the two", counted(seconds, "second") if seconds < 600 else counted(round(seconds / 60), "minute")),
    ]


def _stamp_text(stamp: float) -> str:
    return _time_text(datetime.fromtimestamp(stamp, timezone.utc))


def _time_text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")
