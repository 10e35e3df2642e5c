"""The table of regions: hand cases, oracles, and what is not defined."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, ModelSaliency, region_table
from captum_canonical.saliency.regions import RegionMasks, region_values, regions_version
from captum_canonical.statistics.bootstrap import difference, ratios
from simulated_maps import SIZE, people


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(SIZE)


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


def test_contributions_of_people_add_up_to_the_map(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(1)
    maps, who = people(face, 12, generator, photos=3)
    coverage = torch.rand(maps.shape, generator=generator) > 0.3
    result = ModelSaliency.from_maps(maps, coverage.float(), face, who)
    values = region_values(result, RegionMasks.of(face, "test"))
    rows = region_table(result).rows
    assert values.total.shape == (12, 1)
    assert_close(values.means.mean(0), torch.tensor([row.mean for row in rows]).double(), rtol=1e-6, atol=1e-8)
    shares = values.mass.mean(0) / values.total.mean()
    assert_close(shares, torch.tensor([row.share for row in rows]).double(), rtol=1e-6, atol=1e-8)


def test_the_interval_of_a_mean_is_students(face: CanonicalFace) -> None:
    maps, _ = people(face, 15, torch.Generator().manual_seed(2))
    row = next(row for row in region_table(ModelSaliency.from_maps(maps, None, face)).rows if row.region == "forehead")
    values = maps[:, 0][:, face.region_mask("forehead")].mean(1).numpy()
    assert row.mean_interval == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-4)
    wider = region_table(ModelSaliency.from_maps(maps, None, face), level=0.99).rows[0].share_interval
    narrow = region_table(ModelSaliency.from_maps(maps, None, face), level=0.9).rows[0].share_interval
    assert wider[0] < narrow[0] < narrow[1] < wider[1]


def test_the_influence_is_that_of_leaving_one_out() -> None:
    """The infinitesimal jackknife against the jackknife, on many units."""
    generator = torch.Generator().manual_seed(3)
    below = torch.rand(400, 1, generator=generator, dtype=torch.float64) + 0.5
    above = below * 0.3 + 0.1 * torch.rand(400, 1, generator=generator, dtype=torch.float64)
    without = (above.sum() - above) / (below.sum() - below)
    error = ((399 / 400) * (without - without.mean()).square().sum()).sqrt()
    assert float(ratios(above, below).standard_error) == pytest.approx(float(error), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_differences_of_means_are_welchs(first: int, second: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.normal(0, 1, first), generator.normal(1, 3, second)
    sides = [ratios(torch.from_numpy(each)[:, None], torch.ones(len(each), 1).double()) for each in (one, other)]
    found = difference(*sides, (first - 1, second - 1))
    want = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (float(found.low), float(found.high)) == pytest.approx((want.low, want.high), rel=1e-6)


# ----------------------------------------------------------------------------------------------------- not defined
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


# --------------------------------------------------------------------------------------------------------- versions
def test_regions_are_versioned(face: CanonicalFace) -> None:
    """Regions may not change unnoticed: outputs of another version are not comparable."""
    assert regions_version(face) == regions_version(CanonicalFace.default(224))
    fewer = replace(face, regions={name: index for name, index in face.regions.items() if name != "chin"})
    moved = replace(face, regions={**face.regions, "chin": face.regions["chin"][1:]})
    assert len({regions_version(each) for each in (face, fewer, moved)}) == 3
    assert region_table(ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, face)).regions_version == (
        regions_version(face)
    )


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
