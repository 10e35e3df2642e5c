"""The units of tests and intervals: nobody without an identity is anybody else, whatever stands for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.units import units_of
from label_tools import NAType
from simulated_maps import SIZE, people

FACE_SIZE = SIZE
COUNT = 24


def maps_of(face: CanonicalFace) -> torch.Tensor:
    return people(face, COUNT, torch.Generator().manual_seed(3))[0]


def written(absent: Any, number: Any = int) -> list[Any]:
    """Persons 0 to 3 with three photographs each, and as many photographs of unknown people."""
    return [number(row // 3) if row < COUNT // 2 else absent for row in range(COUNT)]


def findings(result: ModelSaliency) -> tuple:
    """All that counts people."""
    regions = [(row.mean_interval, row.share_interval) for row in region_table(result).rows]
    tested = result.significance(99)
    return result.concentration(), tested.units, tested.p_values.nan_to_num(-1.0).tolist(), regions


@pytest.mark.parametrize(
    "identities",
    [
        written(math.nan, float),
        written(NAType(), str),
        written("", lambda row: f"{row}.0"),
        torch.tensor(written(math.nan)),
        np.array(written(np.nan, float)),
        np.array(written(None), object),
    ],
    ids=["nan", "NA", "empty", "tensor", "array", "objects"],
)
def test_all_that_counts_people_knows_one_rule(face: CanonicalFace, identities: Any) -> None:
    maps = maps_of(face)
    found = ModelSaliency.from_maps(maps, None, face, identities)
    named = ModelSaliency.from_maps(maps, None, face, [row // 3 if row < 12 else f"p{row}" for row in range(COUNT)])
    units = units_of(found.photos)
    assert units.description == "16 people"
    assert units.caveat == "12 photographs of unknown people count as one person each."
    assert units.names[:5] == ["0", "1", "2", "3", None]
    assert repr(findings(found)) == repr(findings(named))


def test_texts_are_missing_with_a_warning_and_nobody_known_is_nobody(face: CanonicalFace) -> None:
    maps = maps_of(face)
    with pytest.warns(UserWarning, match="from_maps: identity: 12 of 24 entries are taken as missing"):
        found = ModelSaliency.from_maps(maps, None, face, written("nan"))
    assert units_of(found.photos).count == 16 and found.records["identity"][12:] == [None] * 12
    nobody = units_of(ModelSaliency.from_maps(maps, None, face, [math.nan] * COUNT).photos)
    assert nobody.description == "24 photographs" and not nobody.people


def test_results_that_write_one_person_in_two_ways(face: CanonicalFace) -> None:
    maps = maps_of(face)
    one = ModelSaliency.from_maps(maps[:12], None, face, [1, 1, 2, 2, 3, 3, *[math.nan] * 6])
    two = ModelSaliency.from_maps(maps[12:], None, face, ["1.0", "4", "5", "6", "7", "8", *[None] * 6])
    assert units_of((one + two).photos).count == 8 + 12
    with pytest.raises(CanonicalError, match=r"1 are in both, such as \['1'\]"):
        compare_groups(one, two)
    others = ModelSaliency.from_maps(maps[12:], None, face, [NAType()] * 12)
    assert compare_groups(one, others, permutations=99).n == (12, 12)
