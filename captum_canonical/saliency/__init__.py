"""Model-level maps: the mean of the maps of many photographs, its uncertainty, and the single maps behind it."""

from __future__ import annotations

from captum_canonical.saliency.concentration import Concentration
from captum_canonical.saliency.metric import CanonicalModelSaliency
from captum_canonical.saliency.moments import merge_moments
from captum_canonical.saliency.region_table import Asymmetry, RegionRow, RegionTable, region_table
from captum_canonical.saliency.regions import regions_version
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import MaxTSettings, Significance
from captum_canonical.saliency.single_maps import SingleMaps

__all__ = [
    "Asymmetry",
    "CanonicalModelSaliency",
    "Concentration",
    "MaxTSettings",
    "ModelSaliency",
    "RegionRow",
    "RegionTable",
    "Significance",
    "SingleMaps",
    "merge_moments",
    "region_table",
    "regions_version",
]
