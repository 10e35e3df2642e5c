"""Sanity checks of maps: how they change when the weights of the network are randomised."""

from captum_canonical.sanity.randomization import model_randomization
from captum_canonical.sanity.result import RandomizationTest, Summary
from captum_canonical.sanity.similarity import MEASURES, mass_overlap, spearman, structural_similarity, top_share

__all__ = [
    "MEASURES",
    "RandomizationTest",
    "Summary",
    "mass_overlap",
    "model_randomization",
    "spearman",
    "structural_similarity",
    "top_share",
]
