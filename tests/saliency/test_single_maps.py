"""Single maps: kept in memory as they are, and read once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.region_table import region_table
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.single_maps import MapsInMemory
from simulated_maps import SIZE, smooth_noise

FACE_SIZE = SIZE


def test_maps_are_kept_not_copied_and_not_changed(face: CanonicalFace) -> None:
    maps = smooth_noise(6, torch.Generator().manual_seed(0))
    before = maps.clone()
    result = ModelSaliency.from_maps(maps, None, face)
    result.significance(99)
    result.concentration()
    region_table(result)
    assert torch.equal(maps, before) and np.shares_memory(result.photos.maps, maps.numpy())


def test_all_strata_together_read_each_map_once(face: CanonicalFace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    usual = MapsInMemory.read
    result = ModelSaliency.from_maps(torch.ones(30, 1, SIZE, SIZE), None, face, group=[n % 4 for n in range(30)])

    def counted(self: MapsInMemory, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        read.extend(range(start, stop))
        return usual(self, start, stop)

    monkeypatch.setattr(MapsInMemory, "read", counted)
    assert [each.mean.mean() for each in result.strata("group").values()] == [1.0] * 4
    assert sorted(read) == list(range(30))
