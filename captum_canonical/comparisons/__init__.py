"""Comparisons of two model-level maps: of two groups of photographs, or of two networks."""

from __future__ import annotations

from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.comparisons.models import compare_models
from captum_canonical.comparisons.result import NO_DIFFERENCE, GroupComparison, Matching, RegionDifference

__all__ = ["NO_DIFFERENCE", "GroupComparison", "Matching", "RegionDifference", "compare_groups", "compare_models"]
