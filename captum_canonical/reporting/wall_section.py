"""The wall of photographs as a section."""

from __future__ import annotations

from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.reporting.options import Options
from captum_canonical.reporting.page import Section
from captum_canonical.reporting.pictures import RegionNames
from captum_canonical.reporting.wall import wall_of


def wall_section(result: ModelSaliency, options: Options, regions: RegionNames) -> Section:
    """Photographs beside their own maps, with what is known about each."""
    wall = wall_of(result, options.photos, options.wall, options.unit, regions)
    groups = sorted({tile.group for tile in wall.tiles if tile.group})
    return Section("photographs", "Photographs and their maps", wall=wall, wall_groups=groups)
