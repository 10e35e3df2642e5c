"""Faces in photographs, and the crops of them that the networks take."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.faces.images import crop_to_face, to_tensor
from captum_canonical.faces.photos import read_photo
from studies.face_nets.networks import LUMA

# Margins around the mesh, as shares of its longer side: in the median over 60 photographs the crops are then those that
# the networks were verified with, 1.02 and 1.58 times as long as the mesh.
TIGHT, WITH_HAIR = 0.01, 0.29


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one photograph (H, W, 3), and who it is, if anybody knows."""

    photo: np.ndarray
    mesh: cc.FaceMesh
    identity: str = ""


def find_faces(paths: list[Path], identities: list[str] | None = None, which: str = "largest") -> list[Face]:
    """The largest face of each photograph, or all of them; photographs without one are left out."""
    aligner = FaceMeshAligner(on_missing="skip", face=which)
    faces = []
    for path, identity in zip(paths, identities or [""] * len(paths), strict=True):
        photo = read_photo(path)
        mesh = aligner([photo], names=[path.name])
        faces += [Face(photo, mesh[row], identity) for row in range(len(mesh)) if row not in mesh.missing]
    return faces


def read_identities(folder: Path, photos: int | None = None) -> list[Face]:
    """The faces of a folder with ``identities.csv`` of which there is another photograph.

    Args:
        folder: with the file (columns ``file`` and ``identity``) and the photographs, there or in ``images/``.
        photos: only the first so many rows.
    """
    with open(folder / "identities.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:photos]
    root = folder / "images" if (folder / "images").is_dir() else folder
    faces = find_faces([root / row["file"] for row in rows], [row["identity"] for row in rows])
    count = Counter(face.identity for face in faces)
    return [face for face in faces if count[face.identity] > 1]


def crop(faces: list[Face], net: nn.Module, how: float | str) -> tuple[Tensor, cc.FaceMesh]:
    """(N, C, S, S) the network's inputs, and the meshes in them.

    Args:
        faces: N of them.
        net: knows its size and channels.
        how: the margin around the mesh, or the name of a template (:data:`captum_canonical.data.CROP_TEMPLATES`).
    """
    if isinstance(how, str):
        template = cc.data.CROP_TEMPLATES[how].resized(net.size)
        crops = [template.crop(face.photo, face.mesh) for face in faces]
    else:
        crops = [crop_to_face(face.photo, face.mesh, how, net.size) for face in faces]
    photos = to_tensor([photo for photo, _ in crops])
    if net.channels == 1:
        photos = (photos * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return photos, cc.FaceMesh.cat([mesh for _, mesh in crops])
