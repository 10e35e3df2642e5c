"""Regions: the numbers of people add up to those of the map, and no region changes unnoticed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.testing import assert_close

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.regions import RegionMasks, region_values, regions_version
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import SIZE, people

FACE_SIZE = SIZE


def test_contributions_of_people_add_up_to_the_map(face: CanonicalFace) -> None:
    generator = torch.Generator().manual_seed(1)
    maps, who = people(face, 12, generator, photos=3)
    coverage = torch.rand(maps.shape, generator=generator) > 0.3
    result = ModelSaliency.from_maps(maps, coverage.float(), face, who)
    values = region_values(result, RegionMasks.of(face, "test"))
    rows = region_table(result).rows
    assert values.total.shape == (36, 1) and values.units.count == 12
    assert region_values(result.weighted("people"), RegionMasks.of(face, "test")).total.shape == (12, 1)
    assert_close(values.means.mean(0), torch.tensor([row.mean for row in rows]).double(), rtol=1e-6, atol=1e-8)
    shares = values.mass.mean(0) / values.total.mean()
    assert_close(shares, torch.tensor([row.share for row in rows]).double(), rtol=1e-6, atol=1e-8)


def test_regions_are_versioned(face: CanonicalFace) -> None:
    """Regions may not change unnoticed: outputs of another version are not comparable."""
    assert regions_version(face) == regions_version(CanonicalFace.default(224))
    fewer = replace(face, regions={name: index for name, index in face.regions.items() if name != "chin"})
    moved = replace(face, regions={**face.regions, "chin": face.regions["chin"][1:]})
    assert len({regions_version(each) for each in (face, fewer, moved)}) == 3
    assert region_table(ModelSaliency.from_maps(torch.ones(2, 1, SIZE, SIZE), None, face)).regions_version == (
        regions_version(face)
    )
