"""The colours of a photograph: from any mode of Pillow, and any embedded colour profile, to 8-bit sRGB."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_canonical.errors import CanonicalError

if TYPE_CHECKING:
    from PIL import Image

BIT_DEPTHS = (8, 10, 12, 16)  # that wide integers of a photograph may hold
LEAST_OF_16_BITS = 16  # of 255 levels: what 12 bits in 16 reach stays below
STRIP = 512  # rows that are converted at once: a large photograph has no second copy in another mode
SAME_COLOURS = 2  # of 255 levels: what two descriptions of sRGB may differ by
_PROFILE_MODES = {"RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "L": "L", "LA": "L", "CMYK": "CMYK"}


def srgb_pixels(image: Image.Image) -> np.ndarray:
    """The pixels of a decoded image, (H, W, 3) uint8 sRGB: on white where it is transparent, profiles applied.

    Raises:
        CanonicalError: the image holds numbers of a range that is not known.

    Example::

        >>> from PIL import Image
        >>> srgb_pixels(Image.new("LA", (1, 1), (40, 0))).tolist()
        [[[255, 255, 255]]]
    """
    if image.mode == "F":
        raise CanonicalError("expected 8 or 16 bits, got floating point numbers of unknown range; save it with 8 bits.")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion clips them to 255 instead of scaling
        return _eight_bits(np.asarray(image))[..., None].repeat(3, 2)
    profile = EmbeddedProfile.of(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP):
        bottom = min(top + STRIP, image.height)
        pixels[top:bottom] = np.asarray(_to_rgb(image.crop((0, top, image.width, bottom)), profile))
    return pixels


def has_wide_colours(image: Image.Image) -> bool:
    """Whether the file of an image that is not loaded yet has 16 bits for each colour, of which Pillow keeps 8."""
    return image.mode[0] != "I" and any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def check_wide_colours(image: Image.Image) -> None:
    """Refuses a loaded image of 16 bits for each colour which holds fewer bits, that Pillow did not keep.

    Raises:
        CanonicalError: it is all but black.
    """
    colours = np.asarray(image)[..., : 1 if image.mode[0] == "L" else 3]  # without the transparency
    if colours.max() < LEAST_OF_16_BITS:
        raise CanonicalError(
            "expected colours that use the range of 16 bits, got values that fewer bits hold; save it with 8 bits."
        )


def _to_rgb(image: Image.Image, profile: EmbeddedProfile | None) -> Image.Image:
    from PIL import Image

    colours = image.convert("RGB") if profile is None else profile.to_srgb(image)
    if not image.mode.endswith(("A", "a")) and "transparency" not in image.info:
        return colours
    alpha = image.convert("RGBA").getchannel("A")
    return Image.composite(colours, Image.new("RGB", image.size, "white"), alpha)


@dataclass(frozen=True)
class EmbeddedProfile:
    """The conversion from the colours that an image's ICC profile describes to sRGB.

    Attributes:
        mode: of Pillow, in which the profile takes colours.
        transform: of Little CMS.
    """

    mode: str
    transform: Any

    @classmethod
    def of(cls, image: Image.Image) -> EmbeddedProfile | None:
        """None without a profile, for one of sRGB itself, and for one that is damaged or for images of other modes."""
        from PIL import ImageCms

        content, mode = image.info.get("icc_profile"), _PROFILE_MODES.get(image.mode)
        if not content or mode is None:
            return None
        try:
            theirs, ours = ImageCms.ImageCmsProfile(io.BytesIO(content)), ImageCms.createProfile("sRGB")
            found = cls(mode, ImageCms.buildTransform(theirs, ours, mode, "RGB"))
        except (ImageCms.PyCMSError, OSError, TypeError, ImportError):  # other programs show such files without it
            return None
        return None if mode == "RGB" and found._changes_nothing() else found

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """An image of the profile's mode, or of one that converts to it, in sRGB."""
        from PIL import ImageCms

        converted = ImageCms.applyTransform(image.convert(self.mode), self.transform)
        assert converted is not None  # a new image, since inPlace is not given
        return converted

    def _changes_nothing(self) -> bool:
        from PIL import Image

        levels = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), -1).reshape(1, -1, 3)
        converted = np.asarray(self.to_srgb(Image.fromarray(levels)))
        return int(np.abs(converted.astype(int) - levels).max()) <= SAME_COLOURS


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    if grey.min() < 0 or grey.max() > 65535:
        raise CanonicalError(
            f"expected 8 or 16 bits, got whole numbers from {grey.min()} to {grey.max()}; save it with 8 or 16 bits."
        )
    bits = next(bits for bits in BIT_DEPTHS if grey.max() < 2**bits)
    return np.rint(grey * (255 / (2**bits - 1))).astype(np.uint8)
