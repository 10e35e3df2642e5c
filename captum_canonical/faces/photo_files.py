"""Files of photographs: which they are, by their contents, and opening one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING

from captum_canonical.errors import MissingDependencyError
from captum_canonical.files import open_regular

if TYPE_CHECKING:
    from PIL import Image

PathType = str | PathLike[str]

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif", ".heic", ".heif"),
    *(".tif", ".tiff", ".jp2", ".j2k", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm"),
)
"""Names of files that should be photographs; others are photographs if their contents are."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever a file is called, and HEIC if pillow-heif is installed. Pillow decodes them itself;
for others (EPS) it starts programs."""
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_photo(path: Path) -> bool:
    """Whether a file has one of the :data:`EXTENSIONS`, be it damaged, or else the contents of a photograph.

    Example::

        >>> is_photo(Path("absent.JPG")), is_photo(Path("absent.txt"))
        (True, False)
    """
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        with open_photo(path):
            return True
    except Exception:  # decoders of damaged files raise nearly anything
        return False


@contextmanager
def open_photo(path: PathType) -> Iterator[Image.Image]:
    """The image in a regular file of one of the :data:`FORMATS`, with its header read; its first frame if it has more.

    Raises:
        OSError: there is no such file, it is no regular one, or it has another format.
        MissingDependencyError: it is a HEIC file, and pillow-heif is not installed.

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
    with open_regular(path) as file:
        start = file.read(12)
        file.seek(0)
        heic = start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS
        with _heic(file) if heic else Image.open(file, formats=known) as image:
            yield image


def _heic(file: IO[bytes]) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile  # without registering it, which would change Pillow for other programs
    except ImportError as error:
        raise MissingDependencyError(
            "this is a HEIC file, which needs pillow-heif: pip install pillow-heif."
        ) from error
    return HeifImageFile(file)
