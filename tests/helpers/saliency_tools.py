"""Results of made-up maps, and whether two results are the same."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from simulated_maps import people

PIXELS = ("mean", "variance", "count", "coverage", "standard_error")


def result_with_gaps(
    face: CanonicalFace, count: int = 45, seed: int = 0, **columns
) -> tuple[Tensor, Tensor, ModelSaliency]:
    """Maps of people, their coverage, and the result; the fifth map and a third of all pixels are not covered."""
    generator = torch.Generator().manual_seed(seed)
    maps, _ = people(face, count, generator)
    coverage = torch.randint(0, 3, maps.shape, generator=generator)
    coverage[4] = 0
    maps[coverage == 0] = math.nan
    return maps, coverage, ModelSaliency.from_maps(maps, coverage, face, **columns)


def drawn_result(count: int, height: int, width: int, seed: int, people: int) -> ModelSaliency:
    """Maps of some people, parts of which are not covered and then NaN."""
    generator = torch.Generator().manual_seed(seed)
    face = CanonicalFace.default(16).resized((height, width))
    maps = torch.randn(count, 1, height, width, generator=generator)
    coverage = torch.randint(0, 3, maps.shape, generator=generator)
    maps[coverage == 0] = math.nan
    names = [f"{number}.jpg" for number in range(count)]
    return ModelSaliency.from_maps(maps, coverage, face, [number % people for number in range(count)], name=names)


def two_groups(face: CanonicalFace, seed: int = 0, effect: float = 0.0, **columns) -> tuple[Tensor, ModelSaliency]:
    """30 people in each of the groups "a" and "b"; the effect is added to the chins of the first."""
    maps, _ = people(face, 60, torch.Generator().manual_seed(seed))
    maps[:30, :, face.region_mask("chin")] += effect
    return maps, ModelSaliency.from_maps(maps, None, face, group=["a"] * 30 + ["b"] * 30, **columns)


def assert_same(one: ModelSaliency, other: ModelSaliency, rtol: float = 1e-12) -> None:
    """All pixels of both, their number of photographs and whether they are pooled."""
    for name in PIXELS:
        first, second = getattr(one, name), getattr(other, name)
        assert_close(first, second, rtol=rtol, atol=1e-15 if rtol < 1e-9 else 1e-9, equal_nan=True, msg=name)
    assert one.n == other.n and one.symmetric == other.symmetric
