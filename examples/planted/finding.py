"""What finds the planted place: mean maps on the canonical face, in image space, and of Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

import captum_canonical as cc
from planted.photographs import PATCH, SIZE
from planted.trials import AGAIN, Trial

CMS, IMAGE, GRAD_CAM = "CMS", "image-space mean", "Grad-CAM"
POINTS = 96  # occlusion points of a face of 64 pixels
PERMUTATIONS = 999


@lru_cache(maxsize=1)
def canonical() -> cc.CanonicalFace:
    """The face that maps are written on: as large as a photograph, as finer maps would not show more."""
    return cc.CanonicalFace.default(SIZE)


@dataclass(frozen=True)
class Finding:
    """What a method says about one trial.

    Attributes:
        method: its name.
        top: the region with the largest share of the positive mass for its area, in the mean map of both groups.
        peak: the region that holds the largest value of that map, or nothing.
        different: regions whose means differ between groups A and B (max-T over regions, family-wise error 5 %).
        again: the same of group B and as many other photographs of group B.
        density: share of positive mass over share of area, of the planted region and of the decoy's.
    """

    method: str
    top: str
    peak: str
    different: tuple[str, ...]
    again: tuple[str, ...]
    density: tuple[float, float]


def find(method: str, result: cc.ModelSaliency, trial: Trial) -> Finding:
    """Asks the region table and the group test.

    Args:
        method: name.
        result: maps with the trial's groups.
        trial: for the regions whose densities are wanted.
    """
    sides = result.strata("group")
    both = sides["A"] + sides["B"]
    table = cc.region_table(both, intervals=False)
    density = {row.region: row.density for row in table.rows}
    return Finding(
        method,
        table.sorted()[0].region,
        _peak(both),
        _different(sides["A"], sides["B"], trial.seed),
        _different(sides["B"], sides[AGAIN], trial.seed),
        tuple(density[name] for name in trial.names),  # type: ignore[arg-type]
    )


def _different(first: cc.ModelSaliency, second: cc.ModelSaliency, seed: int) -> tuple[str, ...]:
    found = cc.compare_groups(first, second, permutations=PERMUTATIONS, seed=seed)
    return tuple(difference.region for difference in found.different_regions)


def _peak(result: cc.ModelSaliency) -> str:
    face = result.canonical_face
    values = torch.where(face.raster.covered, result.mean[0], -torch.inf)
    triangle = face.raster.triangle.flatten()[values.argmax()]
    return next((name for name, index in face.regions.items() if triangle in index), "")


# --------------------------------------------------------------------------------------------------------------- maps
def occlusion_maps(
    net: nn.Module, trial: Trial, target: Tensor | None = None, more: Sequence[Tensor] = (), aligned: bool = True
) -> cc.ModelSaliency:
    """Maps of all photographs of a trial, on the canonical face or left in image space.

    In image space the same patches are hidden, and the drops are written where they were. Regions are then those of
    the mean mesh, which is as much as can be done without alignment.
    """
    photos, mesh, face = trial.photos, trial.photographs.mesh, canonical()
    maps, coverage = cc.CanonicalOcclusion(net, canonical_face=face, inference="dense").attribute(
        photos,
        target=target,
        faces=mesh,
        additional_forward_args=tuple(more) or None,
        baselines=fill(photos),
        patch_size=PATCH,
        num_points=POINTS,
        space="canonical" if aligned else "image",
        return_coverage=True,
    )
    beneath = face if aligned else mean_face(photos, mesh)
    return cc.ModelSaliency.from_maps(maps, coverage, beneath, group=trial.groups)


def fill(photos: Tensor) -> Tensor:
    """(1, 3, 1, 1) what hidden pixels become: the mean colour of the photographs."""
    return photos.mean((0, 2, 3), keepdim=True)


def mean_face(photos: Tensor, mesh: cc.FaceMesh) -> cc.CanonicalFace:
    """The mean of photographs and of their meshes, as a face that has regions."""
    vertices = mesh.vertices.double().mean(0)
    return replace(canonical(), image=photos.mean(0), vertices=vertices, mirror_symmetric=False)
