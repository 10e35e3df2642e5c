"""The arrays of a canonical face: checked where users give them, and in a file, one ``.npz`` that runs no code."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from os import PathLike
from typing import IO, Any

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.files import read_regular, write_file

File = str | PathLike[str] | IO[bytes]
REGION = "region/"


def to_uint8(image: Tensor) -> np.ndarray:
    """(3, H, W) floats in 0..1 as an (H, W, 3) array of bytes."""
    return np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def write_fields(path: File, fields: Mapping[str, Any]) -> None:
    """Writes the fields of a :class:`CanonicalFace`; its image is stored with 8 bits per channel."""
    picture = cv2.imencode(".png", to_uint8(fields["image"])[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    arrays: dict[str, Any] = {
        "image_png": picture,
        "vertices": fields["vertices"].numpy(),
        "triangles": fields["triangles"].numpy().astype(np.int32),
        "point_vertices": fields["point_vertices"].numpy().astype(np.int32),
        "point_weights": fields["point_weights"].numpy().astype(np.float32),
        "mirror_symmetric": np.array(fields["mirror_symmetric"]),
        "topology": np.array(fields["topology"] or ""),
        "progressive": np.array(fields["progressive"]),
    }
    arrays |= {REGION + name: index.numpy().astype(np.int32) for name, index in fields["regions"].items()}
    if fields["permutation"] is not None:
        arrays["permutation"] = fields["permutation"].numpy().astype(np.int32)
    if isinstance(path, (str, PathLike)):
        write_file(path, lambda file: np.savez_compressed(file, **arrays))
    else:
        np.savez_compressed(path, **arrays)


def read_fields(path: File) -> dict[str, Any]:
    """Reads what :func:`write_fields` wrote.

    Raises:
        CanonicalError: the file is missing, damaged or no canonical face.
    """
    try:
        source = BytesIO(read_regular(path)) if isinstance(path, (str, PathLike)) else path
        with np.load(source, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        picture = cv2.imdecode(arrays["image_png"], cv2.IMREAD_COLOR)[..., ::-1]
        indices = {name: torch.from_numpy(arrays[name]).long() for name in ("triangles", "point_vertices")}
        return indices | {
            "image": torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255,
            "vertices": torch.from_numpy(arrays["vertices"]).double(),
            "point_weights": torch.from_numpy(arrays["point_weights"]).double(),
            "regions": {
                name.removeprefix(REGION): torch.from_numpy(array).long()
                for name, array in arrays.items()
                if name.startswith(REGION)
            },
            "permutation": torch.from_numpy(arrays["permutation"]).long() if "permutation" in arrays else None,
            "mirror_symmetric": bool(arrays["mirror_symmetric"]),
            "topology": str(arrays["topology"]) or None,
            "progressive": bool(arrays["progressive"]),
        }
    except Exception as error:  # of a damaged archive zipfile, its decompressors, numpy and OpenCV raise a dozen kinds
        raise CanonicalError(f"{path}: expected a file written by CanonicalFace.save, but {error}.") from error


def as_image(image: Tensor | np.ndarray) -> Tensor:
    """An image in either form as (3, H, W) float32 in 0..1.

    Raises:
        CanonicalError: it is neither (3, H, W) floats in 0..1 nor (H, W, 3) uint8.
    """
    if isinstance(image, np.ndarray):
        image = np.ascontiguousarray(image)  # torch takes no negative strides: OpenCV images turned to RGB by a view
    value = torch.as_tensor(image).detach().cpu()
    if value.dtype == torch.uint8 and value.ndim == 3 and value.shape[-1] == 3:
        value = value.permute(2, 0, 1).float() / 255
    good = value.ndim == 3 and value.shape[0] == 3 and value.dtype.is_floating_point
    if not good or not ((value >= -1e-6) & (value <= 1 + 1e-6)).all():
        raise CanonicalError(
            f"CanonicalFace: expected an image (3, H, W) of floats in 0..1 or (H, W, 3) uint8, got {value.dtype} of "
            f"shape {tuple(value.shape)}."
        )
    return value.float().clamp(0, 1).contiguous()


def delaunay(vertices: Tensor) -> Tensor:
    """(F, 3) triangles between vertices (N, 2 or 3), by x and y; none if all are on one line."""
    from scipy.spatial import Delaunay, QhullError  # 0.2 s to import, needed by few

    try:
        return torch.from_numpy(Delaunay(vertices[:, :2].numpy()).simplices).long()
    except (QhullError, ValueError):  # fewer than three vertices, or all on one line: points, but no surface
        return torch.zeros(0, 3, dtype=torch.int64)


def check_triangles(triangles: Tensor, count: int) -> None:
    """Raises CanonicalError if triangles are not (F, 3) indices below ``count``."""
    good = triangles.ndim == 2 and triangles.shape[1] == 3
    if not good or (triangles.numel() and (triangles.min() < 0 or triangles.max() >= count)):
        raise CanonicalError(
            f"CanonicalFace: expected triangles (F, 3) of vertex indices below {count}, got {tuple(triangles.shape)}."
        )


def is_symmetric(vertices: Tensor, permutation: Tensor, width: int) -> bool:
    """Whether the permutation takes each vertex to its mirror image.

    Raises:
        CanonicalError: it is no permutation of the vertices.
    """
    if permutation.shape != (len(vertices),) or not torch.equal(permutation.sort().values, torch.arange(len(vertices))):
        raise CanonicalError(f"CanonicalFace: expected a permutation of {len(vertices)} vertices, got another tensor.")
    mirrored = vertices[permutation] * vertices.new_tensor([-1.0, 1.0, 1.0]) + vertices.new_tensor([float(width), 0, 0])
    return bool((mirrored - vertices).abs().max() < 1e-3 * width)
