"""Photographs in files: which there are, and reading one as it is meant to be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captum_canonical.errors import CanonicalError
from captum_canonical.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

PathType = str | PathLike[str]

BIT_DEPTHS = (8, 10, 12, 16)  # that wide integers of a photograph may hold
EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever a file is called. Pillow decodes them itself; for others (EPS) it starts programs."""


def list_photos(source: PathType | Sequence[PathType]) -> list[Path]:
    """The files to read: a folder's photographs in order of their names, or the given paths as they are.

    Args:
        source: a folder (its files ending in :data:`EXTENSIONS`, in either case; hidden files and sub-folders are left
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
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.name[0] != ".")
    if not files:
        raise CanonicalError(f"{folder}: expected photographs ({', '.join(EXTENSIONS)}), found none in this folder.")
    return files


@contextmanager
def open_photo(path: PathType) -> Iterator[Image.Image]:
    """The image in a regular file of one of the :data:`FORMATS`, with its header read.

    Raises:
        OSError: there is no such file, it is no regular one, or it has another format.

    Example::

        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (6, 4)).save(f"{folder}/photo.png")
        ...     with open_photo(f"{folder}/photo.png") as image:
        ...         print(image.size, image.format)
        (6, 4) PNG
    """
    from PIL import Image

    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]  # AVIF: Pillow 11.3 and later
    with open_regular(path) as file, Image.open(file, formats=known) as image:
        yield image


def read_photo(path: PathType) -> np.ndarray:
    """A photograph as it is meant to be looked at: upright, in colour, on white where it is transparent.

    The EXIF orientation is applied; grey (8 or 16 bits), palette and CMYK images become RGB. Files with 16 or 32 bits
    for each pixel may hold 8, 10, 12 or 16: the least that holds the largest value is taken as the range. Only
    regular files of the :data:`FORMATS` are read: no pipes and devices, and nothing that needs another program.

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
    from PIL import ImageOps

    try:
        with open_photo(path) as image:
            return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except CanonicalError as error:
        raise CanonicalError(f"{path}: {error}") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise CanonicalError(f"{path}: {_why_unreadable(Path(path), error)}") from error


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


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise CanonicalError("expected 8 or 16 bits, got floating point numbers of unknown range; save it with 8 bits.")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips them to 255 instead of scaling
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode.endswith("A") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    if grey.min() < 0 or grey.max() > 65535:
        raise CanonicalError(
            f"expected 8 or 16 bits, got whole numbers from {grey.min()} to {grey.max()}; save it with 8 or 16 bits."
        )
    bits = next(bits for bits in BIT_DEPTHS if grey.max() < 2**bits)
    return np.rint(grey * (255 / (2**bits - 1))).astype(np.uint8)
