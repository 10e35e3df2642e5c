"""The file format of a canonical face: one ``.npz`` of plain arrays, in which nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import IO, Any

import cv2
import numpy as np
import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.files import write_file

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
        with np.load(path, allow_pickle=False) as data:
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
