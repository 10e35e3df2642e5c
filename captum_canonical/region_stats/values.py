"""What each person's photographs contribute to the regions of a mean map."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.model_saliency.units import Units, photo_bands, units_of
from captum_canonical.statistics.rows import unit_sums


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
