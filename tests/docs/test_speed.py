"""The tables of docs/speed.md are those of the results that lie beside the benchmarks."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_those_that_were_measured() -> None:
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    zoo, rotating = importlib.import_module("zoo_speed"), importlib.import_module("rotating")
    assert zoo.table(json.loads((ROOT / "benchmarks/results/zoo.json").read_text(encoding="utf-8"))) in page
    rows = json.loads((ROOT / "benchmarks/results/rotating.json").read_text(encoding="utf-8"))["rows"]
    assert rotating.table([rotating.Figures(**row) for row in rows]) in page
