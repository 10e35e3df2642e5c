"""Photographs in files: which there are, and reading one as it is meant to be looked at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.faces.photo_colours import check_wide_colours, has_wide_colours, srgb_pixels
from captum_canonical.faces.photo_files import EXTENSIONS, FORMATS, PathType, is_photo, open_photo

if TYPE_CHECKING:
    from PIL import Image

SMALLER = (1, 2, 4, 8)
"""JPEG files can be decoded at these fractions of their sides."""
ORIENTATION = 0x0112  # the EXIF tag


def list_photos(source: PathType | Sequence[PathType]) -> list[Path]:
    """The files to read: a folder's photographs in order of their names, or the given paths as they are.

    Args:
        source: a folder (its files that are photographs by their contents; hidden files and sub-folders are left
            out), one file, or a list of files.

    Raises:
        CanonicalError: the folder does not exist or holds no photograph.

    Example::

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> for name in ("b.png", "a.JPG", "notes.txt"):
        ...     _ = Path(folder.name, name).write_bytes(b"")
        >>> [path.name for path in list_photos(folder.name)]
        ['a.JPG', 'b.png']
        >>> folder.cleanup()
    """
    if not isinstance(source, (str, PathLike)):
        return [Path(path) for path in source]
    folder = Path(source)
    if not folder.is_dir():
        if folder.is_file():
            return [folder]
        raise CanonicalError(f"{folder}: expected a folder of photographs or a file, but there is neither.")
    files = sorted(path for path in folder.iterdir() if path.name[0] != "." and is_photo(path))
    if not files:
        raise CanonicalError(f"{folder}: expected photographs ({', '.join(EXTENSIONS)}), found none in this folder.")
    return files


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph out of a file, perhaps smaller than there.

    Attributes:
        pixels: (h, w, 3) uint8 sRGB, upright.
        size: (H, W) of the upright photograph in the file.
        factor: sides of a pixel here, in pixels of the file: 1, 2, 4 or 8.
        origin: (x, y) of the corner of the first pixel, in pixels of the file; not 0 where a side of the file is no
            multiple of the factor and it is turned.

    Example::

        >>> photo = Photo(np.zeros((2, 3, 3), np.uint8), (4, 5), 2, (-1.0, 0.0))
        >>> photo.box_of((1, 0, 5, 4))
        (1.0, 0.0, 3.0, 2.0)
    """

    pixels: np.ndarray
    size: tuple[int, int]
    factor: int = 1
    origin: tuple[float, float] = (0.0, 0.0)

    def mesh_in_file(self, mesh: FaceMesh) -> FaceMesh:
        """A mesh in pixels of :attr:`pixels`, in pixels of the file."""
        if self.factor == 1:
            return mesh
        shift = mesh.vertices.new_tensor([*self.origin, 0.0])
        return replace(mesh, vertices=mesh.vertices * self.factor + shift, image_size=self.size)

    def mesh_of(self, mesh: FaceMesh) -> FaceMesh:
        """A mesh in pixels of the file, in pixels of :attr:`pixels`."""
        if self.factor == 1:
            return mesh
        shift, (height, width) = mesh.vertices.new_tensor([*self.origin, 0.0]), self.pixels.shape[:2]
        return replace(mesh, vertices=(mesh.vertices - shift) / self.factor, image_size=(height, width))

    def box_of(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels of the file, in pixels of :attr:`pixels`."""
        left, top, right, bottom = box
        (x, y), factor = self.origin, self.factor
        return (left - x) / factor, (top - y) / factor, (right - x) / factor, (bottom - y) / factor


def load_photo(path: PathType, max_pixels: int | None = None) -> Photo:
    """Reads a photograph as :func:`read_photo` does, but no more than ``max_pixels`` of its pixels.

    JPEG files with more are decoded at a half, a quarter or an eighth of their sides, at the largest of these sizes
    that fits; libjpeg averages the pixels, and the whole is never in memory (but for the coefficients of progressive
    files).

    Args:
        path: the file.
        max_pixels: that are decoded. Default: all.

    Raises:
        CanonicalError: as for :func:`read_photo`, or it has more pixels and cannot be read smaller.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (60, 40), "teal").save(f"{folder}/photo.jpg")
        ...     photo = load_photo(f"{folder}/photo.jpg", max_pixels=700)
        >>> photo.pixels.shape, photo.size, photo.factor
        ((20, 30, 3), (40, 60), 2)
    """
    try:
        with _opened(path, max_pixels) as image:
            return _decoded(image, _fraction(image, max_pixels))
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{path}: {error}") from error
    except CanonicalError as error:
        raise CanonicalError(f"{path}: {error}") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise CanonicalError(f"{path}: {_why_unreadable(Path(path), error)}") from error


def fraction_of(path: PathType, max_pixels: int) -> int:
    """Which of :data:`SMALLER` :func:`load_photo` will take, by the header; 1 for a file that cannot be read.

    Raises:
        CanonicalError: it has more pixels than that even so.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (60, 40)).save(f"{folder}/photo.jpg")
        ...     fraction_of(f"{folder}/photo.jpg", max_pixels=150)
        4
    """
    try:
        with _opened(path, max_pixels) as image:
            return _fraction(image, max_pixels)
    except MissingDependencyError:
        return 1
    except CanonicalError:
        raise
    except Exception:  # load_photo says more
        return 1


@contextmanager
def _opened(path: PathType, max_pixels: int | None) -> Iterator[Image.Image]:
    from PIL import Image

    with warnings.catch_warnings():
        if max_pixels is not None:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels is what counts
        with open_photo(path) as image:
            yield image


def _fraction(image: Image.Image, max_pixels: int | None) -> int:
    pixels = image.width * image.height
    if max_pixels is None or pixels <= max_pixels:
        return 1
    for factor in SMALLER if image.format in ("JPEG", "MPO") else ():
        if math.ceil(image.width / factor) * math.ceil(image.height / factor) <= max_pixels:
            return factor
    raise CanonicalError(
        f"the photograph has {pixels:,} pixels, more than max_pixels={max_pixels:,}; make it smaller or raise that "
        "limit."
    )


def _decoded(image: Image.Image, factor: int) -> Photo:
    width, height = image.size
    if factor > 1:
        image.draft(image.mode, (width // factor, height // factor))
    wide = has_wide_colours(image)
    image.load()
    if wide:
        check_wide_colours(image)
    orientation = _orientation(image)
    pixels = srgb_pixels(image)
    image.close()  # before another copy is made
    pixels = np.ascontiguousarray(_upright(pixels, orientation))
    if factor == 1:
        return Photo(pixels, (pixels.shape[0], pixels.shape[1]))
    size = (width, height) if orientation > 4 else (height, width)
    over = [size[1 - axis] - factor * pixels.shape[1 - axis] for axis in (0, 1)]  # the last pixel reaches beyond
    mirrored = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    x, y = (float(beyond) if flipped else 0.0 for beyond, flipped in zip(over, mirrored, strict=True))
    return Photo(pixels, size, factor, (x, y))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image, which Pillow has not undone yet."""
    if image.format == "TIFF":  # turned by load(), after which some releases still report the orientation
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the picture can be read all the same
        return 1
    return found if found in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A view of the pixels with the EXIF orientation undone."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def read_photo(path: PathType) -> np.ndarray:
    """A photograph as it is meant to be looked at: upright, in colour, on white where it is transparent.

    The EXIF orientation is applied, and the colour profile: the numbers are sRGB. Grey (8 or 16 bits), palette and
    CMYK images become RGB, and of animations the first frame is taken. Files with 16 or 32 bits for each pixel may hold
    8, 10, 12 or 16: the least that holds the largest value is taken as the range. Only regular files of the
    :data:`FORMATS` are read, whatever their names: no pipes and devices, and nothing that needs another program.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        CanonicalError: the file is missing, empty, truncated, suspiciously large, no regular file or no image; the
            message names the file and says which.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.TemporaryDirectory()
        >>> Image.new("L", (30, 20), 128).save(f"{folder.name}/grey.png")
        >>> photo = read_photo(f"{folder.name}/grey.png")
        >>> photo.shape, photo.dtype
        ((20, 30, 3), dtype('uint8'))
        >>> folder.cleanup()
    """
    return load_photo(path).pixels


def _why_unreadable(path: Path, error: Exception) -> str:
    from PIL import Image

    if not path.exists():
        return "expected a photograph, but there is no such file."
    if path.is_dir():
        return "expected a photograph, got a folder; photos.list_photos lists its files."
    if not path.is_file():
        return "expected a photograph in a regular file, but this is a pipe, a socket or a device."
    if path.stat().st_size == 0:
        return "expected a photograph, but the file is empty (0 bytes)."
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"the photograph is too large to be opened safely: {error} If it is trustworthy, make it smaller or raise "
            "PIL.Image.MAX_IMAGE_PIXELS."
        )
    if isinstance(error, Image.UnidentifiedImageError):
        return (
            f"the file is not an image in a format that is read ({', '.join(FORMATS)}), whatever its name says; "
            "convert it."
        )
    return f"the photograph cannot be read ({error or type(error).__name__}); the file is damaged or incomplete."
