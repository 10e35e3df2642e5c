"""Captum attribution classes: those that answer "where on the face", and baselines to compare them with."""

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.score_cam import LayerScoreCam

__all__ = [
    "CanonicalOcclusion",
    "CanonicalProjector",
    "GuidedGradCamPlusPlus",
    "LayerGradCamPlusPlus",
    "LayerScoreCam",
]
