"""Other people's packages, as an installer leaves them behind."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, code: str, group: str, points: Mapping[str, str]) -> None:
    """A package of one module and its entry points, in a folder of the import path."""
    (folder / f"{name}.py").write_text(textwrap.dedent(code))
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    importlib.invalidate_caches()
