"""Captum attributions that answer "where on the face" a face network looks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.layouts import Layout
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.refinement import RefinedMaps
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.attributions.spatial_layers import last_spatial_layer
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.confidence.recognition import VerificationConfidence, ZeroShotConfidence
from captum_canonical.confidence.regression import BinnedConfidence, RegressionConfidence
from captum_canonical.errors import AlignmentError, CanonicalError, MissingDependencyError, NoFaceError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh

__version__ = "0.1.0"

__all__ = [
    "AlignedFaces",
    "AlignmentError",
    "BenchmarkResult",
    "BinnedConfidence",
    "CanonicalError",
    "CanonicalFace",
    "CanonicalModelSaliency",
    "CanonicalOcclusion",
    "CanonicalProjector",
    "ClassConfidence",
    "FaceMesh",
    "GuidedGradCamPlusPlus",
    "LayerGradCamPlusPlus",
    "LayerScoreCam",
    "Layout",
    "MissingDependencyError",
    "ModelSaliency",
    "NoFaceError",
    "RandomizationTest",
    "RefinedMaps",
    "RegressionConfidence",
    "SplitHalf",
    "StandardError",
    "VerificationConfidence",
    "ZeroShotConfidence",
    "adapters",
    "benchmark",
    "compare_groups",
    "compare_models",
    "data",
    "explain_dataset",
    "faithfulness",
    "last_spatial_layer",
    "load_network",
    "model_randomization",
    "read_labels",
    "region_table",
    "report",
    "visualization",
]

# Loaded at first use: torchmetrics and matplotlib take longer to import than the rest of the package.
_LAZY = {
    "AlignedFaces": "data",
    "CanonicalModelSaliency": "saliency",
    "ModelSaliency": "saliency",
    "BenchmarkResult": "benchmarking",
    "RandomizationTest": "sanity",
    "SplitHalf": "runs",
    "StandardError": "runs",
    "adapters": "adapters",
    "benchmark": "benchmarking",
    "compare_groups": "comparisons",
    "compare_models": "comparisons",
    "data": "data",
    "explain_dataset": "runs",
    "faithfulness": "faithfulness",
    "load_network": "networks",
    "model_randomization": "sanity",
    "read_labels": "data",
    "region_table": "saliency",
    "report": "reporting",
    "visualization": "visualization",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_LAZY[name]}")
    return module if name == _LAZY[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
