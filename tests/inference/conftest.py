"""Fixtures of the tests about inference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Maps this small gain nothing by threads, and lose much when other processes need the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _arithmetic(only_arithmetic_costs: None) -> None:
    """For all tests here."""
