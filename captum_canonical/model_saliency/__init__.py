"""What a network looks at, over many photographs: the mean map, how sure it is, and the maps behind it."""

from __future__ import annotations

from captum_canonical.model_saliency.concentration import Concentration
from captum_canonical.model_saliency.metric import CanonicalModelSaliency
from captum_canonical.model_saliency.photos import Photos
from captum_canonical.model_saliency.result import ModelSaliency
from captum_canonical.model_saliency.significance import Significance
from captum_canonical.model_saliency.sums import merge_moments

__all__ = ["CanonicalModelSaliency", "Concentration", "ModelSaliency", "Photos", "Significance", "merge_moments"]
