"""Exact incremental occlusion: the scores of occluded images for a fraction of the multiply-adds."""

from captum_canonical.inference.choose import choose_inference
from captum_canonical.inference.engine import IncrementalInference
from captum_canonical.inference.graph import NotIncrementalError

__all__ = ["IncrementalInference", "NotIncrementalError", "choose_inference"]
