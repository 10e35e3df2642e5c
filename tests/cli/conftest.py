"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_tools import Counting, DrawnAligner, write_photos


@pytest.fixture(autouse=True)
def _reset_counters() -> None:
    DrawnAligner.calls.clear()
    Counting.rows, Counting.interrupt_at = 0, None


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with five photographs."""
    return write_photos(tmp_path / "photos", [f"{number:02}.png" for number in range(5)])
