"""examples/tour.ipynb runs, and shows what the committed notebook shows."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

TOUR = Path(__file__).resolve().parents[2] / "examples" / "tour.ipynb"
# Elsewhere training ends with other weights, after which numbers and pictures are not these.
SAME_VERSIONS = sys.version_info[:2] == (3, 11) and torch.version.cuda is None
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@pytest.fixture(scope="module")
def committed() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def test_outputs_are_those_of_a_fresh_run(
    committed: nbformat.NotebookNode,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """If this fails after a change that is meant: ``python tools/run_tour.py``, and look at the notebook."""
    monkeypatch.syspath_prepend(str(TOUR.parents[1] / "tools"))
    import run_tour

    fresh = run_tour.executed(TOUR)
    code = [place for place, cell in enumerate(fresh.cells) if cell.cell_type == "code"]
    for place in code:
        _compare(fresh.cells[place].outputs, committed.cells[place].outputs, fresh.cells[place].source)
    record_property("notebook cells", len(code))


def _compare(fresh: list, kept: list, source: str) -> None:
    assert [output.output_type for output in fresh] == [output.output_type for output in kept], source
    for new, old in zip(fresh, kept, strict=True):
        assert new.output_type != "error", new
        texts = [output.text if "text" in output else "" for output in (new, old)]
        assert NUMBER.sub("#", texts[0]).split() == NUMBER.sub("#", texts[1]).split(), source
        values = [[float(number.replace(",", "")) for number in NUMBER.findall(text)] for text in texts]
        # Other processors round otherwise, and a pixel at the border of significance may fall to the other side.
        if not SAME_VERSIONS:
            continue
        np.testing.assert_allclose(values[0], values[1], rtol=0.05, atol=0.02, err_msg=source)
        if "image/png" in new.get("data", {}):
            pictures = [_grey(output.data["image/png"]) for output in (new, old)]
            assert np.abs(pictures[0] - pictures[1]).mean() < 4, f"another picture from\n{source}"


def _grey(png: str) -> np.ndarray:
    """Another font may make a figure a few pixels larger: 128 x 128 cells of it are compared."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L").resize((128, 128)), np.float64)


def test_it_is_kept_as_it_is_published(committed: nbformat.NotebookNode) -> None:
    """With all outputs, without counters, and without a path, name or address of the machine that made it."""
    text = TOUR.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users)/|[A-Z]:\\\\", text)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert sum(bool(cell.outputs) for cell in code) >= len(code) - 1, "cells without an output: run tools/run_tour.py"
    assert TOUR.stat().st_size < 1_500_000
