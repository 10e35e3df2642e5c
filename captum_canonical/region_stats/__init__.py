"""What a network looks at, region by region of the canonical face."""

from __future__ import annotations

from captum_canonical.region_stats.regions import regions_version
from captum_canonical.region_stats.table import Asymmetry, RegionRow, RegionTable, region_table

__all__ = ["Asymmetry", "RegionRow", "RegionTable", "region_table", "regions_version"]
