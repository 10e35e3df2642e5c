"""Aligners: callables from images to a :class:`~captum_canonical.mesh.FaceMesh`."""

from __future__ import annotations

from captum_canonical.adapters.aligner import Aligner
from captum_canonical.adapters.mediapipe_mesh import MediaPipeAligner

__all__ = ["Aligner", "MediaPipeAligner"]
