"""What a result was made with, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_canonical.reporting.words import counted, plain
from captum_canonical.runs import RunFolder

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
