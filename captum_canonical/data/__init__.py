"""A folder, table or list of photographs as a data set of faces: found once, cut to a network's input, normalised."""

from __future__ import annotations

from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.alignment import GroupCount
from captum_canonical.data.crop_templates import CROP_TEMPLATES, CropTemplate
from captum_canonical.data.label_table import LabelTable, read_labels
from captum_canonical.data.pairs import PhotoPair, read_pairs
from captum_canonical.data.photo_list import LeftOut, PhotoRow
from captum_canonical.data.records import FaceBatch, FaceRecord

__all__ = [
    "CROP_TEMPLATES",
    "AlignedFaces",
    "CropTemplate",
    "FaceBatch",
    "FaceRecord",
    "GroupCount",
    "LabelTable",
    "LeftOut",
    "PhotoPair",
    "PhotoRow",
    "read_labels",
    "read_pairs",
]
