"""Maps in which people count equally, and what is said about people with unequal numbers of photographs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captum_canonical import CanonicalFace, ModelSaliency, compare_groups, compare_models, region_table
from captum_canonical.errors import CanonicalError
from captum_canonical.saliency.moments import pool_with_mirror_image
from simulated_maps import people, true_map

CELEBRITY = [1] * 10 + [40]


def unequal(sizes: list[int], generator: torch.Generator, face: CanonicalFace) -> tuple[Tensor, list[str]]:
    """Maps of people with so many photographs each, and who is on each."""
    return people(face, len(sizes), generator, photos=sizes)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_mean_of_people_is_the_loop(face: CanonicalFace, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    maps, who = unequal([1, 2, 5, 1], generator, face)
    coverage = (torch.rand(maps.shape, generator=generator) > 0.4).double()
    result = ModelSaliency.from_maps(maps, coverage, face, who, symmetric=symmetric).weighted("people")
    values, hits = maps.double()[:, 0], coverage[:, 0]
    if symmetric:
        values, hits = pool_with_mirror_image(values, hits)
    means, seen = [], []
    for name in dict.fromkeys(who):
        rows = [number for number, one in enumerate(who) if one == name]
        count = (hits[rows] > 0).sum(0)
        means.append((values[rows] * (hits[rows] > 0)).sum(0) / count.clamp(min=1))
        seen.append(count > 0)
    each, known = torch.stack(means), torch.stack(seen)
    count = known.sum(0)
    mean = (each * known).sum(0) / count.clamp(min=1)
    variance = ((each - mean).square() * known).sum(0) / (count - 1)
    torch.testing.assert_close(result.mean[0], mean)
    torch.testing.assert_close(result.variance[0][count > 1], variance[count > 1])
    assert torch.equal(result.count[0], count)
    assert torch.equal(result.coverage[0], hits.sum(0))
    assert (result.n, result.weights) == (9, "people")
    assert "every person counted once" in repr(result)


def test_people_with_equally_many_photographs_have_one_map(face: CanonicalFace) -> None:
    maps, who = unequal([3] * 12, torch.Generator().manual_seed(1), face)
    result = ModelSaliency.from_maps(maps, None, face, who)
    torch.testing.assert_close(result.weighted("people").mean, result.mean)
    tables = [region_table(result, weights=weights) for weights in ("photographs", "people")]
    for one, other in zip(tables[0].rows, tables[1].rows, strict=True):
        assert one.mean_interval == pytest.approx(other.mean_interval, rel=1e-5)
        assert one.share_interval == pytest.approx(other.share_interval, rel=1e-5)
    assert [table.weights for table in tables] == ["photographs", "people"]
    assert "count" not in tables[0].notes[0] and "Every person counts once." in tables[1].notes[0]


def test_the_table_is_that_of_the_map(face: CanonicalFace) -> None:
    maps, who = unequal(CELEBRITY, torch.Generator().manual_seed(2), face)
    for weights in ("photographs", "people"):
        result = ModelSaliency.from_maps(maps, None, face, who).weighted(weights)
        row = next(row for row in region_table(result).rows if row.region == "chin")
        assert row.mean == pytest.approx(float(result.mean[0][face.region_mask("chin")].mean()))
        low, high = row.mean_interval
        assert (low + high) / 2 == pytest.approx(row.mean)


def test_a_person_who_dominates_the_map_is_named_in_the_note(face: CanonicalFace) -> None:
    maps, who = unequal(CELEBRITY, torch.Generator().manual_seed(2), face)
    table = region_table(ModelSaliency.from_maps(maps, None, face, who))
    assert "One person is on 80% of the photographs: the mean map is worth that of 1.6 people" in table.notes[0]
    assert "One person" not in region_table(ModelSaliency.from_maps(maps, None, face, who), weights="people").notes[0]


def test_the_concentration_of_a_map_that_is_one_persons_has_no_interval(face: CanonicalFace) -> None:
    maps, who = unequal([1] * 30 + [100], torch.Generator().manual_seed(3), face)
    result = ModelSaliency.from_maps(maps, None, face, who)
    assert not result.concentration().intervals
    assert "31 people with unequal numbers of photographs are worth 1.7 with equal ones" in result.concentration().note
    assert result.weighted("people").concentration().intervals


@pytest.mark.parametrize(("weights", "most"), [("photographs", 1.0), ("people", 0.99)])
@pytest.mark.parametrize("sizes", [CELEBRITY, [1] * 20 + [20]], ids=["10 and 40", "20 and 20"])
def test_intervals_hold_the_truth_if_one_person_has_most_photographs(
    face: CanonicalFace, sizes: list[int], weights: str, most: float
) -> None:
    """Of 200 data sets with exponentially distributed effects, through maps and region_table."""
    mask = face.region_mask("eye_left")
    truth, generator, held = float(true_map(face)[mask].mean()), torch.Generator().manual_seed(6), 0
    for _ in range(200):
        maps, who = unequal(sizes, generator, face)
        table = region_table(ModelSaliency.from_maps(maps, None, face, who), weights=weights)
        low, high = next(row.mean_interval for row in table.rows if row.region == "eye_left")
        held += low <= truth <= high
    assert 0.88 <= held / 200 <= most, held


def test_a_region_that_one_person_covers_has_no_interval(face: CanonicalFace) -> None:
    maps, who = unequal([1] * 12, torch.Generator().manual_seed(4), face)
    coverage = torch.ones_like(maps)
    coverage[1:, :, face.region_mask("chin")] = 0
    coverage[2:, :, face.region_mask("nose_tip")] = 0
    rows = {row.region: row for row in region_table(ModelSaliency.from_maps(maps, coverage, face, who)).rows}
    assert all(math.isnan(end) for end in rows["chin"].mean_interval)
    pair = maps[:2, 0, face.region_mask("nose_tip")].double().mean(1)
    margin = 12.706 * float(pair.std()) / math.sqrt(2)
    assert rows["nose_tip"].mean_interval[1] - rows["nose_tip"].mean == pytest.approx(margin, rel=1e-3)


def test_comparisons_count_people(face: CanonicalFace) -> None:
    """More photographs of one person, all alike, change nothing."""
    generator = torch.Generator().manual_seed(5)
    maps, _ = people(face, 20, generator)
    other, _ = people(face, 20, generator)
    once, many = torch.arange(20), torch.cat([torch.zeros(30, dtype=torch.int64), torch.arange(20)])
    found = []
    for rows in (once, many):
        who = [f"person {number}" for number in rows.tolist()]
        group = ["a" if number < 10 else "b" for number in rows.tolist()]
        result = ModelSaliency.from_maps(maps[rows], None, face, who, group=group)
        sides = result.strata("group")
        second = ModelSaliency.from_maps(other[rows], None, face, who)
        found.append(
            (
                compare_groups(sides["a"], sides["b"], permutations=99),
                compare_models(result, second, permutations=99),
                compare_models(result, true_map(face), permutations=99),
            )
        )
    for one, two in zip(*found, strict=True):
        assert "Every person counts once" in " ".join(two.notes) and "once" not in " ".join(one.notes)
        assert one.correlation == pytest.approx(two.correlation, rel=1e-5)
        for region, again in zip(one.regions, two.regions, strict=True):
            assert region.mean_difference == pytest.approx(again.mean_difference, rel=1e-3, abs=1e-6)
            assert region.mean_interval == pytest.approx(again.mean_interval, rel=1e-3, abs=1e-5)
            assert region.share_interval == pytest.approx(again.share_interval, rel=1e-3, abs=1e-5)
            assert (region.mean_p, region.share_p) == (again.mean_p, again.share_p)


def test_weights_stay_with_strata_sums_and_files(face: CanonicalFace, tmp_path: Path) -> None:
    maps, who = unequal([1, 4, 2, 6], torch.Generator().manual_seed(5), face)
    maps = maps.double()  # adding up in another order rounds differently
    result = ModelSaliency.from_maps(maps, None, face, who, half=["x", "y"] * 6 + ["x"]).weighted("people")
    halves = result.strata("half")
    total = halves["x"] + halves["y"]
    assert total.weights == halves["x"].weights == "people"
    torch.testing.assert_close(total.mean, result.mean)  # though most people are in both halves
    assert ModelSaliency.load(result.save(tmp_path / "people.npz")).weights == "people"
    assert ModelSaliency.load(result.weighted("photographs").save(tmp_path / "photos.npz")).weights == "photographs"
    with pytest.raises(CanonicalError, match="expected the same weights, got 'people' and 'photographs'"):
        halves["x"] + halves["y"].weighted("photographs")
    with pytest.raises(CanonicalError, match="weights: expected 'photographs' or 'people', got 'persons'"):
        result.weighted("persons")  # type: ignore[arg-type]
    with pytest.raises(CanonicalError, match="weights='photographs' is not available"):
        ModelSaliency.load(tmp_path / "people.npz").weighted("photographs")


def test_people_of_a_run_count_equally(run: Path) -> None:
    opened = ModelSaliency.open(run)
    assert opened.photos is not None
    who = [number // 3 for number in range(len(opened.photos))]
    opened.photos = opened.photos.with_column("identity", who)
    people_of_run = opened.weighted("people")
    maps, coverage = (torch.from_numpy(each.copy()) for each in (opened.photos.maps, opened.photos.coverage))
    expected = ModelSaliency.from_maps(maps, coverage, opened.face("the test"), who).weighted("people")
    torch.testing.assert_close(people_of_run.mean, expected.mean)
    assert people_of_run.run is opened.run
    written = (run / "summary.npz").read_bytes()
    with pytest.raises(CanonicalError, match="expected weights='photographs', which the summary of a run has"):
        people_of_run.save_summary()
    assert (run / "summary.npz").read_bytes() == written
