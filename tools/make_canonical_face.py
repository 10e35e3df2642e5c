"""Makes the canonical face that the package ships, from any folder of photographs.

    python tools/make_canonical_face.py PHOTOS [--out captum_canonical/faces/canonical_face_468.npz]

The photographs themselves do not enter the file: only the mean of their MediaPipe meshes does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import canonical_geometry as geometry
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.photos import list_photos, read_photo
from draw_face import draw_face

IMAGE_SIZE = 336  # pixels of the stored drawing; vertices are stored in pixels of the same image
FACE_HEIGHT = 0.88  # share of the image's height


def meshes_of(folder: Path) -> np.ndarray:
    """(B, 468, 3) float64, the largest face of each photograph in which one is found."""
    aligner = FaceMeshAligner(on_missing="skip", visibility=False)
    meshes = [aligner([read_photo(path)]) for path in list_photos(folder)]
    return np.stack([mesh.vertices[0].double().numpy() for mesh in meshes if not mesh.missing])


def make_canonical_face(meshes: np.ndarray) -> CanonicalFace:
    """The symmetrised Procrustes mean of meshes (B, 468, 3), with everything that a canonical face carries."""
    mean = geometry.mean_shape(meshes)
    permutation = geometry.mirror_permutation(mean)
    shape = geometry.frontal(mean, permutation)
    triangles = geometry.closed_triangles(shape, permutation)
    numbers, weights = geometry.occlusion_points(shape, triangles, permutation)
    shape = shape * (FACE_HEIGHT * IMAGE_SIZE / np.ptp(shape[:, 1]))
    middle = (shape[:, 1].min() + shape[:, 1].max()) / 2
    vertices = shape + [IMAGE_SIZE / 2, IMAGE_SIZE / 2 - middle, 0.0]
    return CanonicalFace(
        image=torch.from_numpy(draw_face(vertices, triangles, permutation, IMAGE_SIZE)).permute(2, 0, 1) / 255,
        vertices=torch.from_numpy(vertices),
        triangles=torch.from_numpy(triangles),
        point_vertices=torch.from_numpy(numbers),
        point_weights=torch.from_numpy(weights.astype(np.float32)).double(),
        regions={n: torch.from_numpy(i) for n, i in geometry.regions(shape, triangles, permutation).items()},
        permutation=torch.from_numpy(permutation),
        mirror_symmetric=True,
        topology="mediapipe-468",
        progressive=True,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("captum_canonical/faces/canonical_face_468.npz"))
    arguments = parser.parse_args()
    meshes = meshes_of(arguments.photos)
    make_canonical_face(meshes).save(arguments.out)
    print(f"{arguments.out}: mean of {len(meshes)} faces, {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
