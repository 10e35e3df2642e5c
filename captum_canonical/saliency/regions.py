"""The named regions of a canonical face, and the numbers of each person in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.units import Units, row_bands, units_of
from captum_canonical.statistics.bootstrap import Estimate, effective_number, ratios
from captum_canonical.statistics.units import unit_means


def regions_version(face: CanonicalFace) -> str:
    """Identifies the regions of a face: the topology's name and a digest of the regions' names and triangles.

    Regions that are chosen after looking at a map find too much. Outputs hold this text, so that it can be checked
    that two of them use the same regions.

    Example::

        >>> regions_version(CanonicalFace.default(64)) == regions_version(CanonicalFace.default(224))
        True
    """
    digest = hashlib.sha256()
    for name in sorted(face.regions):
        corners = face.triangles[face.regions[name]].sort(1).values.tolist()
        digest.update(f"{name} {sorted(corners)} ".encode())
    return f"{face.topology or 'unnamed'}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class RegionMasks:
    """The pixels of the R regions of a face.

    Attributes:
        names: of the regions.
        masks: (R, P) bool over the P = H * W pixels.
    """

    names: list[str]
    masks: Tensor

    @classmethod
    def of(cls, face: CanonicalFace, who: str) -> RegionMasks:
        """The regions of a face.

        Raises:
            CanonicalError: the face has no regions.
        """
        if not face.regions:
            raise CanonicalError(
                f"{who}: expected a canonical face with named regions, got one without; use CanonicalFace.default(), "
                "or CanonicalFace.from_vertices(..., regions=...)."
            )
        names = list(face.regions)
        return cls(names, torch.stack([face.region_mask(name).flatten() for name in names]))

    @property
    def left_right_pairs(self) -> list[tuple[str, int, int]]:
        """For regions that exist on both sides: name without the side, index of the left region and of the right one.

        Example::

            >>> RegionMasks(["chin", "eye_right", "eye_left", "ear_left"], torch.zeros(4, 1)).left_right_pairs
            [('eye', 2, 1)]
        """
        return [
            (name.removesuffix("_left"), number, self.names.index(name.removesuffix("_left") + "_right"))
            for number, name in enumerate(self.names)
            if name.endswith("_left") and name.removesuffix("_left") + "_right" in self.names
        ]


@dataclass(frozen=True, eq=False)
class RegionValues:
    """Numbers of N photographs (of U people, where people count equally) in R regions, whose means are the mean map's.

    A pixel that a photograph does not cover counts as the value of the mean map: it neither raises nor lowers it.

    Attributes:
        means: (N, R) float64 mean over the pixels of the region that any photograph covers; NaN if there are none.
        mass: (N, R) sum over the pixels of the region at which the mean map is positive.
        total: (N, 1) the same over all regions.
        covering: (R + 1,) effective number of people that cover each region, and all regions together.
        units: of the rows.
    """

    means: Tensor
    mass: Tensor
    total: Tensor
    covering: Tensor
    units: Units

    def scaled(self, scale: float) -> RegionValues:
        """The values of maps multiplied by a number."""
        return replace(self, means=self.means * scale, mass=self.mass * scale, total=self.total * scale)

    def mean_estimates(self, level: float) -> Estimate:
        """The mean of each region in the mean map, with intervals by unit."""
        return ratios(self.means, torch.ones_like(self.total), level, self.units.numbers, self.covering[:-1])

    def share_estimates(self, level: float) -> Estimate:
        """The share of each region in the positive mass of all regions, with intervals by unit."""
        return ratios(self.mass, self.total, level, self.units.numbers, self.covering[:-1])

    def asymmetry_estimates(self, pairs: Sequence[tuple[str, int, int]], level: float) -> Estimate:
        """(left - right) / (left + right) of the positive mass of each pair of regions, with intervals by unit."""
        left, right = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
        one, other = self.mass[:, left], self.mass[:, right]
        covering = torch.minimum(self.covering[left], self.covering[right])
        return ratios(one - other, one + other, level, self.units.numbers, covering)


def region_values(
    result: ModelSaliency, regions: RegionMasks, mean: Tensor | None = None, covering_share: Tensor | None = None
) -> RegionValues:
    """The numbers of each photograph or person of a result with single maps, which are read once.

    Args:
        result: with single maps.
        regions: of its face.
        mean: (P,) float64 mean map: the value of a photograph where it does not cover, and positive where a pixel
            counts as positive mass. Default: the result's own.
        covering_share: (P,) share of the rows that cover each pixel, 0..1. Default: of the result's own; then the means
            over rows are those of its mean map.
    """
    photos, size = result.single_maps("intervals of regions"), result.face("regions").size
    units, bands = row_bands(photos, units_of(photos), size, result.symmetric, result.weights)
    rows = len(units.numbers)
    mean = result.mean.reshape(-1) if mean is None else mean
    if covering_share is None:
        covering_share = result.count.reshape(-1).double() / max(1, rows)
    positive, seen = mean > 0, regions.masks & (covering_share > 0)
    union = seen.any(0, keepdim=True)
    selected = torch.cat([seen, seen & positive, union & positive]).double()
    places = torch.cat([seen, union]).double()
    sums = torch.zeros(rows, len(selected), dtype=torch.float64)
    covered_pixels = torch.zeros(rows, len(places), dtype=torch.float64)
    for pixels, values, covered in bands:
        weight = torch.where(covering_share[pixels] > 0, 1 / covering_share[pixels], 0.0)
        contribution = mean[pixels] + torch.where(covered, values - mean[pixels], 0.0) * weight
        sums += contribution @ selected[:, pixels].T
        covered_pixels += covered.double() @ places[:, pixels].T
    count, area = len(regions.names), seen.sum(1).double()
    means = torch.where(area > 0, sums[:, :count] / area, torch.nan)
    every = torch.ones_like(covered_pixels, dtype=torch.bool)
    covering = effective_number(unit_means(covered_pixels, every, units.numbers)[0])
    return RegionValues(means, sums[:, count:-1], sums[:, -1:], covering, units)
