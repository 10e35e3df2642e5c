"""What finds the planted place: mean maps on the canonical face, in image space, and of Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

import captum_canonical as cc
from studies.planted.photographs import PATCH, SIZE
from studies.planted.trials import AGAIN, Trial

CMS, IMAGE, GRAD_CAM = "CMS", "image-space mean", "Grad-CAM"
METHODS = (CMS, IMAGE, GRAD_CAM)
# Occlusion points of a face of 64 pixels. Patches must leave no gaps: with 96, no patch covers the middle of the chin.
POINTS = 192
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
        different: regions whose means or shares are larger in group A than in B (max-T over all of these, two-sided,
            family-wise error 5 %).
        pixels: whether a pixel of the planted region is larger in group A (max-T over pixels).
        again, again_pixels: regions, and whether any pixel, that differ between group B and as many other photographs
            of group B.
        density: share of positive mass over share of area, of the planted region and of the decoy's.
    """

    method: str
    top: str
    peak: str
    different: tuple[str, ...]
    pixels: bool
    again: tuple[str, ...]
    again_pixels: bool
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
    groups, same = _compared(sides["A"], sides["B"], trial.seed), _compared(sides["B"], sides[AGAIN], trial.seed)
    region = both.face("a planted region").region_mask(trial.names[0])
    return Finding(
        method,
        table.sorted()[0].region,
        _peak(both),
        more_in_first(groups),
        bool((groups.significance.mask & (groups.difference > 0) & region).any()),
        tuple(each.region for each in (*same.different_regions, *same.different_shares)),
        bool(same.significance.mask.any()),
        (density[trial.names[0]], density[trial.names[1]]),
    )


def _compared(first: cc.ModelSaliency, second: cc.ModelSaliency, seed: int) -> cc.GroupComparison:
    return cc.compare_groups(first, second, permutations=PERMUTATIONS, seed=seed)


def more_in_first(comparison: cc.GroupComparison) -> tuple[str, ...]:
    """The regions whose means or shares are larger on the first side.

    Shares add up to 1: where one grows, those of other regions shrink, and that is no finding about them.
    """
    means = [each.region for each in comparison.different_regions if each.mean_difference > 0]
    shares = [each.region for each in comparison.different_shares if each.share_difference > 0]
    return tuple(dict.fromkeys(means + shares))


def _peak(result: cc.ModelSaliency) -> str:
    face = result.canonical_face
    values = torch.where(face.raster.covered, result.mean[0], -torch.inf)
    triangle = face.raster.triangle.flatten()[values.argmax()]
    return next((name for name, index in face.regions.items() if triangle in index), "")


# --------------------------------------------------------------------------------------------------------------- maps
def occlusion_maps(
    net: nn.Module,
    trial: Trial,
    target: Tensor | None = None,
    more: Sequence[Tensor] = (),
    aligned: bool = True,
    inference: Literal["auto", "dense"] = "dense",
) -> cc.ModelSaliency:
    """Maps of all photographs of a trial, on the canonical face or left in image space.

    In image space the same patches are hidden, and the drops are written where they were. Regions are then those of
    the mean mesh, which is as much as can be done without alignment.
    """
    photos, mesh, face = trial.photos, trial.photographs.mesh, canonical()
    maps, coverage = cc.CanonicalOcclusion(net, canonical_face=face, inference=inference).attribute(
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
