"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1234)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photographs, meshes and networks beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the real photographs and networks in ../shared, which is absent")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each docstring brings the number of its examples along, for the summary."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.dtest is not None:
            item.user_properties.append(("docstring examples", len(item.dtest.examples)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the documentation has been run."""
    counts: dict[str, list[int]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, number in report.user_properties:
            if name.startswith(("documentation ", "docstring ", "notebook ")) and report.when == "call":
                counts.setdefault(name, []).append(int(number))
    if counts:
        said = [f"{sum(numbers)} {name} in {len(numbers)}" for name, numbers in sorted(counts.items())]
        terminalreporter.write_line(f"documentation that was tested, none skipped: {'; '.join(said)}")
