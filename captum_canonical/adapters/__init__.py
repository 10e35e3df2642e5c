"""What connects the package with others: aligners, and bridges to other packages' heat maps and metrics.

Aligners are callables from images to a :class:`~captum_canonical.FaceMesh`. Each returns one row per image, in the
pixels of that image; :class:`Aligner` is their interface. :class:`ExternalAttribution` makes a Captum method
of any function that returns heat maps (pytorch-grad-cam), :func:`as_explain_func` makes of a method what Quantus calls,
and :func:`as_network` makes a network of scores of one that returns a dictionary, a tuple or several heads.
"""

from __future__ import annotations

from captum_canonical.adapters.aligner import Aligner
from captum_canonical.adapters.detector import DetectorAligner
from captum_canonical.adapters.explain_func import as_explain_func
from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.adapters.face_alignment import FaceAlignmentAligner
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.adapters.keypoints import KeypointAligner, PixelGrid
from captum_canonical.adapters.landmarks import fit_landmarks_68
from captum_canonical.adapters.mediapipe import MediaPipeAligner
from captum_canonical.adapters.prnet import load_prnet_face, load_prnet_mesh
from captum_canonical.confidence.outputs import as_network

__all__ = [
    "Aligner",
    "DetectorAligner",
    "ExternalAttribution",
    "FaceAlignmentAligner",
    "FaceMeshAligner",
    "KeypointAligner",
    "MediaPipeAligner",
    "PixelGrid",
    "as_explain_func",
    "as_network",
    "fit_landmarks_68",
    "load_prnet_face",
    "load_prnet_mesh",
]
