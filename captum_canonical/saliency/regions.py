"""The named regions of a canonical face, fixed before anybody looks at a map."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.concentration import Units, photo_bands, units_of
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.statistics.units import unit_sums


def regions_version(face: CanonicalFace) -> str:
    """What tells one set of regions from others: the topology's name and a digest of names and triangles.

    Regions that are chosen after a map was looked at find too much. Outputs hold this text, so that two of them can be
    told to be of the same regions.

    Example::

        >>> regions_version(CanonicalFace.default(64)) == regions_version(CanonicalFace.default(224))
        True
    """
    digest = hashlib.sha256()
    for name in sorted(face.regions):
        corners = face.triangles[face.regions[name]].sort(1).values.tolist()
        digest.update(f"{name} {sorted(corners)} ".encode())
    return f"{face.topology or 'unnamed'}-{digest.hexdigest()[:12]}"


def region_masks(face: CanonicalFace, who: str) -> tuple[list[str], Tensor]:
    """Names of the R regions, and (R, H * W) bool, the pixels of each.

    Raises:
        CanonicalError: the face has no regions.
    """
    if not face.regions:
        raise CanonicalError(
            f"{who}: expected a canonical face with named regions, got one without; use CanonicalFace.default(), or "
            "CanonicalFace.from_vertices(..., regions=...)."
        )
    names = list(face.regions)
    return names, torch.stack([face.region_mask(name).flatten() for name in names])


def side_pairs(names: list[str]) -> list[tuple[str, int, int]]:
    """Name without its side, number of the left region and of the right one, for regions that come in pairs.

    Example::

        >>> side_pairs(["chin", "eye_right", "eye_left", "ear_left"])
        [('eye', 2, 1)]
    """
    return [
        (name.removesuffix("_left"), number, names.index(name.removesuffix("_left") + "_right"))
        for number, name in enumerate(names)
        if name.endswith("_left") and name.removesuffix("_left") + "_right" in names
    ]


@dataclass(frozen=True, eq=False)
class RegionValues:
    """Numbers of U people (or photographs) whose means are those of the mean map.

    A pixel that a photograph does not cover counts there as the mean map's value: it neither raises nor lowers it.

    Attributes:
        names: of the R regions.
        means: (U, R) float64 mean over the pixels of the region that any photograph covers; NaN if there are none.
        mass: (U, R) sum over the pixels of the region at which the mean map is positive.
        total: (U, 1) the same over all regions.
        units: whose they are.
    """

    names: list[str]
    means: Tensor
    mass: Tensor
    total: Tensor
    units: Units

    def scaled(self, scale: float) -> RegionValues:
        """Of maps multiplied by a number."""
        return replace(self, means=self.means * scale, mass=self.mass * scale, total=self.total * scale)


def region_values(
    result: ModelSaliency, names: list[str], masks: Tensor, positive: Tensor, mean: Tensor, per_unit: Tensor
) -> RegionValues:
    """Goes through the maps once.

    Args:
        result: with single maps.
        names, masks: of the regions, (R, P) bool.
        positive: (P,) bool, pixels that count as positive mass.
        mean: (P,) float64 that a photograph counts as where it does not cover.
        per_unit: (P,) photographs that cover each pixel, per unit. Of this result's own photographs, the means over
            units are those over all photographs.
    """
    photos, size = result.single_maps("intervals of regions"), result.face("regions").size
    units = units_of(photos)
    seen = masks & (per_unit > 0)
    union = seen.any(0, keepdim=True)
    chosen = torch.cat([seen, seen & positive, union & positive]).double()
    sums = torch.zeros(units.count, len(chosen), dtype=torch.float64)
    for pixels, values, covered in photo_bands(photos, size, result.symmetric):
        total, hits = unit_sums(values, covered, units.numbers)
        weight = torch.where(per_unit[pixels] > 0, 1 / per_unit[pixels], 0.0)
        contribution = mean[pixels] + (total - hits * mean[pixels]) * weight
        sums += contribution @ chosen[:, pixels].T
    regions = len(names)
    area = seen.sum(1).double()
    means = torch.where(area > 0, sums[:, :regions] / area, torch.nan)
    return RegionValues(names, means, sums[:, regions:-1], sums[:, -1:], units)


def own_region_values(result: ModelSaliency, names: list[str], masks: Tensor) -> RegionValues:
    """Of a result's own mean map and its own positive pixels."""
    mean, count = result.mean.reshape(-1), result.count.reshape(-1).double()
    units = units_of(result.single_maps("intervals of regions")).count
    return region_values(result, names, masks, mean > 0, mean, count / max(1, units))
