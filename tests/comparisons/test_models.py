"""compare_models: photographs pair up, in any order, and networks with other units or a map from elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.models import compare_models
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people

FACE_SIZE = SIZE


def test_paired_maps_are_compared_pair_by_pair(face: CanonicalFace) -> None:
    maps, _ = people(face, 20, torch.Generator().manual_seed(7))
    other = maps + 0.02 * torch.randn(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(8))
    other[:, :, face.region_mask("nose_tip")] -= 0.05  # far less than people differ by
    names = [f"{number}.jpg" for number in range(20)]
    order = torch.randperm(20)
    one = ModelSaliency.from_maps(maps, None, face, name=names)
    two = ModelSaliency.from_maps(other[order], None, face, name=[names[number] for number in order.tolist()])
    found = compare_models(one, two, permutations=499, names=("new", "old"))
    assert [row.region for row in found.different_regions] == ["nose_tip"]
    assert_close(found.difference, (maps - other).double().mean(0), rtol=1e-4, atol=1e-6)
    differences = (maps - other).double()
    want = differences.mean(0) / differences.std(0) * (1 - 3 / (4 * 19 - 1))
    assert_close(found.effect_size, want, rtol=1e-3, atol=1e-3)
    values = differences[:, 0][:, face.region_mask("nose_tip")].mean(1).numpy()
    row = found.different_regions[0]
    assert row.mean_interval == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95), rel=1e-4)
    unpaired = one.strata(["a"] * 20)["a"]
    assert not compare_groups(unpaired, ModelSaliency.from_maps(other, None, face), permutations=199).different_regions


def test_photographs_of_one_side_only_are_left_out_and_counted(face: CanonicalFace) -> None:
    maps, _ = people(face, 12, torch.Generator().manual_seed(9))
    one = ModelSaliency.from_maps(maps[:10], None, face, name=list("abcdefghij"))
    two = ModelSaliency.from_maps(maps[3:], None, face, name=list("defghijkl"))
    found = compare_models(one, two)
    assert found.n == (7, 7) and found.notes[0] == "3 and 2 photographs that only one side has are left out."
    assert not found.different and found.correlation == pytest.approx(1.0)


def test_other_units_are_normalised_away(face: CanonicalFace) -> None:
    maps, _ = people(face, 20, torch.Generator().manual_seed(10))
    one, two = (ModelSaliency.from_maps(maps * scale, None, face) for scale in (1.0, 7.0))
    assert compare_models(one, two, permutations=199).different
    found = compare_models(one, two, permutations=199, normalise=True)
    assert found.normalised and not found.different and float(found.p_values.nan_to_num(1).min()) == 1
    assert max(abs(row.share_difference) for row in found.regions) < 1e-9


@pytest.mark.parametrize("count", [150, 200, 250])
def test_a_difference_that_is_the_same_for_all_is_found(face: CanonicalFace, count: int) -> None:
    """Where nothing is left but the mean, rounding must not take the rest of the squares below 0."""
    maps = 1 + 0.5 * torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    chin = face.region_mask("chin")
    other = maps.clone()
    other[:, :, chin] -= 0.7
    one, two = (ModelSaliency.from_maps(each, None, face) for each in (maps, other))
    found = compare_models(one, two, permutations=199)
    assert torch.equal(found.significance.tested[0], face.raster.covered) and torch.equal(
        found.significance.mask[0], chin
    )
    assert [row.region for row in found.different_regions if row.mean_p <= 0.01] == ["chin"]


def test_each_side_may_lack_another_photograph(face: CanonicalFace) -> None:
    """Maps without names pair up by the places at which they were given, not by those that are left."""
    maps, _ = people(face, 20, torch.Generator().manual_seed(4))
    coverage = torch.ones(2, *maps.shape)
    coverage[0, 3], coverage[1, 15] = 0, 0
    one, two = (ModelSaliency.from_maps(m, c, face) for m, c in zip((maps, maps + 0.5), coverage, strict=True))
    found = compare_models(one, two, permutations=99)
    assert found.n == (18, 18) and "1 and 1 photographs" in " ".join(found.notes)
    assert_close(found.difference, torch.full((1, SIZE, SIZE), -0.5).double(), rtol=0, atol=1e-5)
    with pytest.raises(CanonicalError, match="expected names of the photographs"):
        compare_models(one, ModelSaliency.from_maps(maps[:19].clone(), None, face))


def test_maps_are_normalised_where_both_are_known(face: CanonicalFace) -> None:
    """A map that says 0 beyond the face, and one that says nothing there, do not differ on it."""
    inside = face.raster.covered.float().expand(20, 1, SIZE, SIZE)
    maps = people(face, 20, torch.Generator().manual_seed(5))[0].abs()
    one, everywhere = (ModelSaliency.from_maps(maps * inside, c, face) for c in (inside, None))
    for other in (one.mean.nan_to_num(), everywhere):
        found = compare_models(one, other, permutations=99, normalise=True)
        assert not found.different and float(found.difference[0][face.raster.covered].abs().max()) < 1e-6


def test_a_given_map_can_be_one_side(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(11)
    maps, who = people(face, 40, generator)
    result = ModelSaliency.from_maps(maps, None, face, who)
    same = compare_models(result, 3 * result.mean, names=("network", "people"), permutations=499)
    assert not same.different and same.correlation == pytest.approx(1.0) and same.n == (40, 1)
    fixations = result.mean.clone()
    fixations[0][face.region_mask("eye_left")] = 0
    fixations[0, :4] = math.nan  # not known there
    found = compare_models(result, fixations.numpy(), names=("network", "people"), permutations=499)
    assert "eye_left" in [row.region for row in found.different_shares]
    assert found.difference[0, :4].isnan().all() and found.normalised
    assert "network (40 photographs) and people (1) differ" in found.verdict


def test_models_that_cannot_be_compared(face: CanonicalFace) -> None:
    maps, _ = people(face, 6, torch.Generator().manual_seed(13))
    one = ModelSaliency.from_maps(maps, None, face, name=list("abcdef"))
    with pytest.raises(CanonicalError, match="no photograph is in both"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face, name=list("uvwxyz")))
    with pytest.raises(CanonicalError, match="names of the photographs of both sides"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face))
    with pytest.raises(CanonicalError, match="a name of its own"):
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, face, name=list("aabcde")))
    with pytest.raises(CanonicalError, match=r"compare_models: expected a ModelSaliency, .*got a Tensor"):
        compare_models(maps, one)
    with pytest.raises(CanonicalError, match="vertices lie in other places"):
        moved = replace(face, vertices=face.vertices + 1)
        compare_models(one, ModelSaliency.from_maps(maps.clone(), None, moved, name=list("abcdef")))
    with pytest.raises(CanonicalError, match="level: expected a number above 0 and below 1, got 95"):
        compare_models(one, one, level=95)
    with pytest.raises(CanonicalError, match="one map of the canonical face's size"):
        compare_models(one, torch.ones(8, 8))
    with pytest.raises(CanonicalError, match=r"fixations\.png: expected the folder of a run"):
        compare_models(one, "fixations.png")
    with pytest.raises(CanonicalError, match="NaN everywhere"):
        compare_models(one, torch.full((SIZE, SIZE), math.nan))
    with pytest.raises(CanonicalError, match="positive values in the map of 'b' to normalise"):
        compare_models(one, -torch.ones(SIZE, SIZE))


def test_identities_of_both_sides_are_joined(face: CanonicalFace) -> None:
    """What one side does not know the other may; where they disagree, those of the better informed side count."""
    maps, _ = people(face, 12, torch.Generator().manual_seed(11))
    names = [f"{number}.jpg" for number in range(12)]

    def units(one: list, other: list) -> tuple[str, tuple[str, ...]]:
        sides = [ModelSaliency.from_maps(maps, None, face, who, name=names) for who in (one, other)]
        found = compare_models(*sides, permutations=99)
        return found.significance.units, found.notes

    pairs = [number // 2 for number in range(12)]
    half = [*pairs[:6], *[math.nan] * 6]
    rest = [*[None] * 6, *map(str, pairs[6:])]
    assert units(half, rest) == units(pairs, pairs) == units(pairs, half) == units(half, pairs)
    assert units(half, rest)[0] == "6 people"
    count, notes = units(half, [f"p{who}" for who in pairs])
    assert count == "6 people"
    assert "6 photographs have different identities on both sides; those of one side alone are used." in notes
