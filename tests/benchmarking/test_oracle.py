"""The oracle test: networks wired by hand to read one place of the face, which a faithful method must find."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import Attribution
from torch import Tensor

from captum_canonical import CanonicalFace, CanonicalOcclusion, FaceMesh
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark

SEEDS, COUNT, SIDE = 40, 6, 48
KNOW_NOTHING = ("random, per image", "uniform, per image", "mean face, per image")
MEASURES = {"average_drop": 1, "deletion_auc": -1, "insertion_auc": 1}


class Moved(Attribution):
    """Canonical occlusion's map, moved to the wrong place: by half the image both ways."""

    def __init__(self, occlusion: CanonicalOcclusion, faces: FaceMesh) -> None:
        super().__init__(occlusion.forward_func)
        self.occlusion, self.faces = occlusion, faces

    def attribute(self, inputs: Tensor) -> Tensor:
        heat: Any = self.occlusion.attribute(inputs, faces=self.faces, space="image", patch_size=7)
        return heat.roll((SIDE // 2, SIDE // 2), (2, 3))


def compared(seed: int, face: CanonicalFace) -> BenchmarkResult:
    """Faces in a pose of this seed, and a network that reads the brightness of one place on them."""
    generator = torch.Generator().manual_seed(seed)
    angle, scale = (torch.rand(2, generator=generator).double() - 0.5) * torch.tensor([0.6, 0.3]).double()
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]).double() * (0.85 + scale)
    middle = face.vertices - SIDE / 2
    vertices = torch.cat([middle[:, :2] @ turn.T + SIDE / 2, middle[:, 2:]], 1)
    faces = FaceMesh(vertices[None].repeat(COUNT, 1, 1), image_size=(SIDE, SIDE), topology=face.topology)

    points = face.points(vertices)[:, :2]
    place = points[int(torch.randint(len(points), (1,), generator=generator))]
    centres = torch.arange(SIDE).double() + 0.5
    read = ((centres[None, :] - place[0]).square() + (centres[:, None] - place[1]).square()).sqrt() < 4
    photos = 0.5 + 0.5 * torch.rand(COUNT, 3, SIDE, SIDE, generator=generator)

    def network(x: Tensor) -> Tensor:
        return x[:, :, read].mean((1, 2))

    occlusion = CanonicalOcclusion(network, canonical_face=face)
    methods = {"ours": (occlusion, {"patch_size": 7}), "moved": Moved(occlusion, faces[0])}
    return benchmark(
        network,
        photos,
        methods,
        faces=faces,
        canonical_face=face,
        fills=["zero"],
        fractions=[0, 0.05, 0.1, 0.2, 0.4, 0.7, 1],
        folds=2,
        seed=seed,
    )


@pytest.fixture(scope="module")
def results() -> list[BenchmarkResult]:
    face = CanonicalFace.default(SIDE)
    return [compared(seed, face) for seed in range(SEEDS)]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("other", KNOW_NOTHING)
def test_occlusion_beats_controls(results: list[BenchmarkResult], measure: str, other: str) -> None:
    sign = MEASURES[measure]
    better = [
        sign * result["ours, per image"].value(measure, "zero") > sign * result[other].value(measure, "zero")
        for result in results
    ]
    assert sum(better) >= 0.95 * SEEDS, [seed for seed, good in enumerate(better) if not good]


@pytest.mark.parametrize("other", [*KNOW_NOTHING, "moved, per image"])
def test_never_worse_on_increase(results: list[BenchmarkResult], other: str) -> None:
    for result in results:
        ours, theirs = (result[label].value("increase_rate", "zero") for label in ("ours, per image", other))
        assert ours <= theirs


@pytest.mark.parametrize("measure", MEASURES)
def test_the_same_map_in_the_wrong_place_loses(results: list[BenchmarkResult], measure: str) -> None:
    for result in results:
        ours, moved = (result[f"{name}, per image"].value(measure, "zero") for name in ("ours", "moved"))
        assert MEASURES[measure] * ours > MEASURES[measure] * moved


def test_the_test_tells_them_apart(results: list[BenchmarkResult]) -> None:
    """Over so few photos of one seed no p can be below 2 / 2**6: the ranks say so instead of claiming an order."""
    for result in results[:3]:
        ranks = result.ranks("average_drop", "zero")
        assert all(rank.startswith("no difference detected") for rank in ranks.values())
