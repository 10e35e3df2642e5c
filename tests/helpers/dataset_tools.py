"""Photographs and aligners that the tests of data sets share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.errors import NoFaceError
from captum_canonical.faces.mesh import FaceMesh


class CornerAligner:
    """Finds a "face" in the brightest part of a photo: the box around pixels above ``threshold``, as nine vertices."""

    calls: ClassVar[list[str]] = []

    def __init__(self, threshold: int = 100, on_missing: str = "raise") -> None:
        self.threshold = threshold
        self.on_missing = on_missing

    def __call__(self, images: Sequence[np.ndarray], *, names: Sequence[str]) -> FaceMesh:
        (image,) = images
        self.calls.extend(names)
        rows, columns = np.nonzero(image.max(2) > self.threshold)
        found = len(rows) > 0
        if not found and self.on_missing == "raise":
            raise NoFaceError(f"no face in {names}")
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if found else (0, 0, 1, 1)
        x, y = np.meshgrid(np.linspace(box[0], box[2], 3), np.linspace(box[1], box[3], 3))
        vertices = torch.from_numpy(np.stack([x, y, np.hypot(x, y)], -1).reshape(1, 9, 3)).float()
        visible = torch.arange(9)[None] != 4
        size = (image.shape[0], image.shape[1])
        return FaceMesh(vertices, visible, size, "corners-9", found=torch.tensor([found]))


def photo(number: int, size: tuple[int, int] = (50, 40)) -> np.ndarray:
    """(H, W, 3) uint8: dark noise with a brighter box, different for each number."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 60, (*size, 3), dtype=np.uint8)
    top, left = 10 + number % 5, 8 + number % 7
    pixels[top : top + 20, left : left + 16] += 120
    return pixels


def write_photos(folder: Path, count: int = 4, kind: str = "png") -> list[Path]:
    """``00.png``, ``01.png``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}.{kind}" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(photo(number)).save(path)
    return paths


def dataset(source: Any, aligner: Any = None, **arguments: Any) -> AlignedFaces:
    """With the aligner above, whose record of calls starts anew, and an input of 24 x 20."""
    CornerAligner.calls.clear()
    if aligner is None and "faces" not in arguments:
        aligner = CornerAligner()
    return AlignedFaces(source, aligner, **({"size": (24, 20)} | arguments))


def stored(colours: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores for each orientation so that the picture is ``colours`` when looked at (tag 0x0112)."""
    turned = {
        1: colours,
        2: colours[:, ::-1],
        3: colours[::-1, ::-1],
        4: colours[::-1],
        5: colours.transpose(1, 0, 2),
        6: np.rot90(colours),
        7: colours[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(colours, -1),
    }
    return np.ascontiguousarray(turned[orientation])
