"""Captum attribution classes that answer "where on the face"."""

from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector

__all__ = ["CanonicalOcclusion", "CanonicalProjector"]
