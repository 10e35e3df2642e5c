"""Captum attribution classes that answer "where on the face"."""

from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.refinement import RefinedMaps

__all__ = ["CanonicalOcclusion", "CanonicalProjector", "RefinedMaps"]
