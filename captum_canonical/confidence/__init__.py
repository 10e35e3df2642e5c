"""Scores of each image computed from a network's outputs: what is explained of anything but a plain classifier."""

from captum_canonical.confidence.base import Confidence
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.confidence.outputs import NetworkOutput
from captum_canonical.confidence.recognition import VerificationConfidence, ZeroShotConfidence, equal_error_threshold
from captum_canonical.confidence.regression import BinnedConfidence, RegressionConfidence

__all__ = [
    "BinnedConfidence",
    "ClassConfidence",
    "Confidence",
    "NetworkOutput",
    "RegressionConfidence",
    "VerificationConfidence",
    "ZeroShotConfidence",
    "equal_error_threshold",
]
