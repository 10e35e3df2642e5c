"""The named regions of a canonical face, and the numbers of each person in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.units import Units, photo_bands, units_of
from captum_canonical.statistics.bootstrap import Estimate, ratios
from captum_canonical.statistics.units import unit_sums


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
    """Numbers of U people (or photographs) in R regions, whose means are those of the mean map.

    A pixel that a photograph does not cover counts as the value of the mean map: it neither raises nor lowers it.

    Attributes:
        means: (U, R) float64 mean over the pixels of the region that any photograph covers; NaN if there are none.
        mass: (U, R) sum over the pixels of the region at which the mean map is positive.
        total: (U, 1) the same over all regions.
        units: the people or photographs.
    """

    means: Tensor
    mass: Tensor
    total: Tensor
    units: Units

    def scaled(self, scale: float) -> RegionValues:
        """The values of maps multiplied by a number."""
        return replace(self, means=self.means * scale, mass=self.mass * scale, total=self.total * scale)

    def mean_estimates(self, level: float) -> Estimate:
        """The mean of each region in the mean map, with intervals by unit."""
        return ratios(self.means, torch.ones_like(self.total), level)

    def share_estimates(self, level: float) -> Estimate:
        """The share of each region in the positive mass of all regions, with intervals by unit."""
        return ratios(self.mass, self.total, level)


def region_values(
    result: ModelSaliency, regions: RegionMasks, mean: Tensor | None = None, photos_per_unit: Tensor | None = None
) -> RegionValues:
    """The numbers of each unit of a result with single maps, which are read once.

    Args:
        result: with single maps.
        regions: of its face.
        mean: (P,) float64 mean map: the value of a photograph where it does not cover, and positive where a pixel
            counts as positive mass. Default: the result's own.
        photos_per_unit: (P,) number of photographs that cover each pixel, per unit. Default: of the result's own
            photographs; then the means over units are those over all photographs.
    """
    photos, size = result.single_maps("intervals of regions"), result.face("regions").size
    units = units_of(photos)
    mean = result.mean.reshape(-1) if mean is None else mean
    if photos_per_unit is None:
        photos_per_unit = result.count.reshape(-1).double() / max(1, units.count)
    positive, seen = mean > 0, regions.masks & (photos_per_unit > 0)
    union = seen.any(0, keepdim=True)
    selected = torch.cat([seen, seen & positive, union & positive]).double()
    sums = torch.zeros(units.count, len(selected), dtype=torch.float64)
    for pixels, values, covered in photo_bands(photos, size, result.symmetric):
        total, hits = unit_sums(values, covered, units.numbers)
        weight = torch.where(photos_per_unit[pixels] > 0, 1 / photos_per_unit[pixels], 0.0)
        contribution = mean[pixels] + (total - hits * mean[pixels]) * weight
        sums += contribution @ selected[:, pixels].T
    count, area = len(regions.names), seen.sum(1).double()
    means = torch.where(area > 0, sums[:, :count] / area, torch.nan)
    return RegionValues(means, sums[:, count:-1], sums[:, -1:], units)
