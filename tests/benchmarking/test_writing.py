"""A benchmark written as tables, text, Markdown, CSV and JSON, read back, and joined."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
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
from captum_canonical import BenchmarkResult, CanonicalError, CanonicalFace, CanonicalOcclusion, FaceMesh, benchmark


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


PHOTOS, SIDE = 6, 32


def network(x: Tensor) -> Tensor:
    return x[:, :, 18:26, 10:22].mean((1, 2, 3)).sigmoid()


def short_run(methods: dict[str, Any], seed: int = 0, **arguments: Any) -> BenchmarkResult:
    face = CanonicalFace.default(SIDE)
    faces = FaceMesh(face.vertices.repeat(PHOTOS, 1, 1), image_size=(SIDE, SIDE), topology=face.topology)
    x = torch.rand(PHOTOS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    options = {"fills": ["mean", 0.5], "fractions": [0, 0.3, 1], "folds": 3, "resamples": 20, "permutations": 30}
    return benchmark(network, x, methods, faces=faces, canonical_face=face, **{**options, **arguments})


@pytest.fixture(scope="module")
def result() -> BenchmarkResult:
    return short_run({"saliency": Saliency(network), "bad": Saliency(lambda x: 1 / 0)}, spaces=["image", "canonical"])


def test_what_was_written_is_read(result: BenchmarkResult, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    text = result.to_json(path, per_image=True)
    for again in (BenchmarkResult.from_json(path), BenchmarkResult.from_json(text)):
        for form in ("text", "markdown", "csv"):
            assert again.table(form) == result.table(form)
        assert again.to_json(per_image=True) == text
        curve, known = (r["saliency, per image"].canonical_curves["mean"] for r in (again, result))
        assert torch.equal(curve.morf, known.morf) and curve.settings == known.settings


def test_nan_values_survive(result: BenchmarkResult) -> None:
    row = result["saliency, per image"]
    row.per_image["average_drop", "mean"][2] = torch.nan
    again = BenchmarkResult.from_json(result.to_json(per_image=True))["saliency, per image"]
    assert again.per_image["average_drop", "mean"].isnan().nonzero().tolist() == [[2]]
    assert again.value("average_drop", "mean") == row.value("average_drop", "mean")


@pytest.mark.parametrize("text", ["{}", "{ not json", json.dumps({"images": {}, "rows": []})])
def test_other_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(CanonicalError, match="per_image=True"):
        BenchmarkResult.from_json(tmp_path / "other.json")


def test_without_single_images(result: BenchmarkResult) -> None:
    with pytest.raises(CanonicalError, match="per_image=True"):
        BenchmarkResult.from_json(result.to_json())


def test_joined_rows_are_those_of_the_runs() -> None:
    occlusion = {"occlusion": (CanonicalOcclusion(network), {"num_points": 30})}
    plain, pooled = short_run(occlusion), short_run(occlusion, symmetric=True)
    joined = BenchmarkResult.join({"": plain, "pooled": pooled})
    names = [row.label for row in joined.rows if not row.control]
    assert names == [
        "occlusion, per image",
        "occlusion, canonical mean",
        "occlusion, pooled, per image",
        "occlusion, pooled, canonical mean",
    ]
    for label, source in zip(names, (plain, plain, pooled, pooled), strict=True):
        kind = "occlusion, canonical mean" if "mean" in label else "occlusion, per image"
        assert joined.interval(label, "gain", "mean") == source.interval(kind, "gain", "mean")
    pair = next(c for c in joined.comparisons("gain", "mean") if (c.first, c.second) == (names[1], names[3]))
    one, two = (r["occlusion, canonical mean"].per_image["gain", "mean"] for r in (plain, pooled))
    assert pair.difference == pytest.approx(float((one - two).mean()), abs=1e-9)
    assert sum(row.control for row in joined.rows) == sum(row.control for row in plain.rows)
    assert set(joined.mean_maps) >= {"occlusion", "occlusion, pooled"} and joined.table()
    again = BenchmarkResult.from_json(joined.to_json(per_image=True))
    assert again.table("csv") == joined.table("csv") and set(again.settings["joined"]) == {"", "pooled"}
    assert [row.label for row in BenchmarkResult.join({"": again}).rows] == [row.label for row in joined.rows]


def test_what_cannot_be_joined() -> None:
    methods = {"saliency": Saliency(network)}
    one = short_run(methods)
    for other in (short_run(methods, seed=1), short_run(methods, fills=["mean"]), short_run(methods, budget=0.2)):
        with pytest.raises(CanonicalError, match="not about the same photographs"):
            BenchmarkResult.join({"": one, "other": other})
    with pytest.raises(CanonicalError, match="more than once"):
        BenchmarkResult.join({"c": one, "": short_run({"saliency, c": Saliency(network)})})
    with pytest.raises(CanonicalError, match="one or more"):
        BenchmarkResult.join({})


def test_the_table_says_when_no_test_can_tell_rows_apart(result: BenchmarkResult) -> None:
    """8 rows, 28 pairs, 6 photographs: a p is at least 1 / 31 of 30 random patterns, or 2 / 2^6 of all."""
    assert result.smallest_corrected_p == pytest.approx(28 / 31)
    assert "cannot give a corrected p below 0.9." in result.table() and "28 pairs of rows" in result.table()
    every = dataclasses.replace(result, settings={**result.settings, "permutations": 64})
    assert every.smallest_corrected_p == pytest.approx(28 * 2 / 64)
    assert all(c.corrected >= every.smallest_corrected_p for c in every.comparisons("gain", "mean"))
    assert all(c.corrected >= result.smallest_corrected_p for c in result.comparisons("gain", "mean"))
    large = dataclasses.replace(result, units=torch.arange(40))
    assert large.smallest_corrected_p == pytest.approx(28 / 31)  # of 30 permutations
    enough = dataclasses.replace(large, settings={**large.settings, "permutations": 10_000})
    assert enough.smallest_corrected_p == pytest.approx(28 / 10_001) and enough.undecidable is None
