"""Tables of a benchmark as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from captum.attr import (
    Saliency,
)
from torch import Tensor
from torch.testing import assert_close

from benchmark_tools import (
    COUNT,
    IN_IMAGES,
    Fails,
    Net,
    run,
)
from captum_canonical import CanonicalFace, FaceMesh


def test_tables(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace, tmp_path: Any) -> None:
    methods = {"a | b": Saliency(net), "bad": Fails(net, RuntimeError("no luck"))}
    result = run(net, x, faces, face, methods, fills=["mean", 0.5])
    text = result.table()
    lines = text.split("\n")
    assert lines[0] == "Fill: mean" and "Average Drop % (higher)" in lines[1] and "Fill: constant 0.5" in lines
    markdown = result.table("markdown", measures=["gain"], rank_by="deletion_auc").split("\n")
    assert markdown[0] == "**Fill: mean**" and "| Gain (higher) | Win % | Rank by Deletion |" in markdown[2]
    rows = [line for line in markdown if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1 and "a \\| b" in rows[2]
    assert sum(line.startswith("|") for line in markdown) == 2 * (2 + len(result.rows))
    table = list(csv.DictReader(io.StringIO(result.table("csv"))))
    good = [row for row in result.rows if row.failure is None]
    assert len(table) == len(good) * 2 * len(IN_IMAGES) + 2
    one = next(r for r in table if r["method"] == "edges" and r["maps"] == "per image" and r["measure"] == "gain")
    assert math.isclose(float(one["value"]), result["edges, per image"].value("gain", "mean"), rel_tol=1e-8)
    assert float(one["low"]) <= float(one["value"]) <= float(one["high"]) and one["direction"] == "higher"
    assert [r["failure"] for r in table if r["method"] == "bad"] == ["image 0: RuntimeError: no luck"] * 2
    for fill in result.fills:
        wins = result.wins(fill)
        assert_close(float(wins.percent.sum()), 100.0)
        assert f"{float(wins.percent[0]):.1f}" in text
    document = json.loads(result.to_json(tmp_path / "result.json"))
    assert document == json.loads((tmp_path / "result.json").read_text())
    assert document["settings"]["methods"]["a | b"]["class"] == "Saliency" and document["settings"]["seed"] == 0
    assert {"torch", "captum", "captum_canonical", "python"} <= set(document["settings"]["versions"])
    first = document["rows"][0]
    assert (first["evaluations"], first["failure"]) == (COUNT, None) and len(first["scores"]) == 2 * len(IN_IMAGES)
    assert document["rows"][2]["failure"] == "image 0: RuntimeError: no luck" and document["rows"][2]["scores"] == []
    assert len(document["comparisons"]) == 2 * len(IN_IMAGES) * len(good) * (len(good) - 1) // 2
    assert {fill["fill"] for fill in document["wins"]} == set(result.fills)
