"""The table of regions: cases by hand, loops, and what is not defined."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people

FACE_SIZE = SIZE


def test_values_by_a_loop(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(9, 1, SIZE, SIZE, generator=generator)
    coverage = torch.rand(maps.shape, generator=generator) > 0.3
    coverage[:, :, face.region_mask("chin")] = False
    table = region_table(ModelSaliency.from_maps(maps, coverage.float(), face))
    mean, count = np.zeros((SIZE, SIZE)), coverage.sum((0, 1)).numpy()
    for r in range(SIZE):
        for c in range(SIZE):
            if count[r, c]:
                mean[r, c] = maps[:, 0, r, c][coverage[:, 0, r, c]].double().mean()
    inside = {name: face.region_mask(name).numpy() for name in face.regions}
    union = np.any(list(inside.values()), axis=0)
    total, area = mean.clip(0)[union].sum(), union.sum()
    for row in table.rows:
        own = inside[row.region]
        seen = own & (count > 0)
        assert row.area == pytest.approx(own.sum() / area)
        assert row.share == pytest.approx(mean.clip(0)[own].sum() / total, abs=1e-12)
        assert row.density == pytest.approx(row.share / row.area)
        assert row.mean == pytest.approx(mean[seen].mean()) if seen.any() else math.isnan(row.mean)
    assert sum(row.share for row in table.rows) == pytest.approx(1.0)
    assert table.outside == pytest.approx(mean.clip(0)[~union].sum() / mean.clip(0).sum())
    for pair in table.asymmetries:
        left, right = (mean.clip(0)[inside[f"{pair.region}_{side}"]].sum() for side in ("left", "right"))
        assert pair.index == pytest.approx((left - right) / (left + right))
    assert len(table.asymmetries) == 7


def test_the_interval_of_a_mean_is_students(face: CanonicalFace) -> None:
    maps, _ = people(face, 15, torch.Generator().manual_seed(2))
    row = next(row for row in region_table(ModelSaliency.from_maps(maps, None, face)).rows if row.region == "forehead")
    values = maps[:, 0][:, face.region_mask("forehead")].mean(1).numpy()
    assert row.mean_interval == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-4)
    wider = region_table(ModelSaliency.from_maps(maps, None, face), level=0.99).rows[0].share_interval
    narrow = region_table(ModelSaliency.from_maps(maps, None, face), level=0.9).rows[0].share_interval
    assert wider[0] < narrow[0] < narrow[1] < wider[1]


def test_nothing_positive(face: CanonicalFace) -> None:
    table = region_table(ModelSaliency.from_maps(-torch.ones(4, 1, SIZE, SIZE), None, face))
    assert all(math.isnan(row.share) and math.isnan(row.density) and row.mean == -1 for row in table.rows)
    assert all(math.isnan(pair.index) for pair in table.asymmetries) and math.isnan(table.outside)
    assert any("no value is positive" in note for note in table.notes)
    assert "not defined" in table.table() and "no value is positive" in table.table("markdown")
    values = json.loads(json.dumps(table.as_json(), allow_nan=False))
    assert values["rows"][0]["share"] is None and values["rows"][0]["mean"] == -1


def test_pooled_maps_have_no_sides(face: CanonicalFace) -> None:
    maps, _ = people(face, 6, torch.Generator().manual_seed(4))
    table = region_table(ModelSaliency.from_maps(maps, None, face, symmetric=True))
    assert table.asymmetries == () and any("Left and right cannot be compared" in note for note in table.notes)
    rows = {row.region: row for row in table.rows}
    assert rows["eye_left"].share == pytest.approx(rows["eye_right"].share)


def test_all_on_one_side(face: CanonicalFace) -> None:
    maps = torch.zeros(3, 1, SIZE, SIZE)
    maps[:, :, face.region_mask("eye_left")] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    table = region_table(ModelSaliency.from_maps(maps, None, face))
    sides = {pair.region: pair for pair in table.asymmetries}
    assert sides["eye"].index == 1 and math.isnan(sides["jaw"].index)
    assert table.sorted()[0].region == "eye_left" and table.sorted()[0].share == 1
    # Not "certainly all", though the influence of each photograph on it is 0.
    assert all(math.isnan(end) for end in (*sides["eye"].interval, *table.sorted()[0].share_interval))
    assert table.sorted()[0].mean_interval[0] < 2 < table.sorted()[0].mean_interval[1]
    assert any("have no interval" in note for note in table.notes)


def test_few_or_no_single_maps(face: CanonicalFace) -> None:
    one = region_table(ModelSaliency.from_maps(torch.ones(1, 1, SIZE, SIZE), None, face))
    assert all(math.isnan(row.share_interval[0]) for row in one.rows) and one.notes == ("No intervals: 1 photograph.",)
    none = region_table(ModelSaliency.from_maps(torch.ones(0, 1, SIZE, SIZE), None, face))
    assert none.n == 0 and all(math.isnan(row.mean) for row in none.rows)
    result = ModelSaliency.from_maps(torch.ones(3, 1, SIZE, SIZE), None, face)
    streamed = ModelSaliency(result.mean, result.variance, result.count, result.coverage, 3, canonical_face=face)
    table = region_table(streamed)
    assert math.isnan(table.rows[0].share_interval[0]) and "merely streamed" in table.notes[0]
    assert [row.share for row in table.rows] == [row.share for row in region_table(result).rows]
    assert "[" not in table.table().split("\n\n")[0]


def test_what_is_refused(face: CanonicalFace) -> None:
    result = ModelSaliency.from_maps(torch.ones(3, 1, SIZE, SIZE), None, face)
    for level in (0, 1, 1.5, True):
        with pytest.raises(CanonicalError, match="level: expected"):
            region_table(result, level=level)
    bare = ModelSaliency.from_maps(torch.ones(3, 1, SIZE, SIZE), None, replace(face, regions={}))
    with pytest.raises(CanonicalError, match="expected a canonical face with named regions"):
        region_table(bare)
    unknown = ModelSaliency(result.mean, result.variance, result.count, result.coverage, 3)
    with pytest.raises(CanonicalError, match="the canonical face is not known"):
        region_table(unknown)
    with pytest.raises(CanonicalError, match="format: expected 'text', 'markdown' or 'csv'"):
        region_table(result).table("html")


def test_text_markdown_and_csv_hold_the_same(face: CanonicalFace) -> None:
    maps, who = people(face, 30, torch.Generator().manual_seed(5))
    table = region_table(ModelSaliency.from_maps(maps, None, face, who))
    lines = list(csv.DictReader(io.StringIO(table.table("csv"))))
    assert [line["region"] for line in lines] == [row.region for row in table.rows]
    assert float(lines[0]["share_low"]) == table.rows[0].share_interval[0]
    first = table.sorted()[0]
    assert str(table).splitlines()[1].startswith(first.region)
    assert table.table("markdown").splitlines()[2].startswith(f"| {first.region} |")
    assert "are by the influence of 30 people" in str(table)


def test_the_path_of_a_result_is_taken(run: Path, tmp_path: Path) -> None:
    result = ModelSaliency.open(run)
    table = region_table(result)
    assert repr(region_table(run)) == repr(region_table(str(run))) == repr(table)
    file = result.save(tmp_path / "saved.npz")
    assert [row.mean for row in region_table(file).rows] == [row.mean for row in table.rows]
    with pytest.raises(CanonicalError, match="nothing_here"):
        region_table("nothing_here")
    with pytest.raises(CanonicalError, match=r"region_table: expected a ModelSaliency, the folder .*got a Tensor"):
        region_table(result.mean)  # type: ignore[arg-type]
