"""Images as arrays and as tensors, and cutting a box or a face out of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical.checks import check_number, check_size
from captum_canonical.errors import AlignmentError, CanonicalError, NoFaceError
from captum_canonical.faces.mesh import FaceMesh

Images = Tensor | np.ndarray | Sequence[np.ndarray]
"""(H, W, 3) uint8 RGB arrays of one size, one such array, or a (B, 3, H, W) tensor."""
Statistics = float | Sequence[float] | Tensor
"""A mean or a standard deviation: one number, or one for each channel."""

TOLERANCE = 1e-3  # what interpolation may leave outside 0..1


def to_tensor(images: Sequence[np.ndarray], size: tuple[int, int] | None = None) -> Tensor:
    """Photographs as the tensor that networks take.

    Args:
        images: (H, W, 3) uint8 RGB arrays.
        size: (H, W) to bring all of them to, as :func:`crop_photo` does with the whole photo. Default: as they are,
            which needs one size.

    Returns:
        (B, 3, H, W) float32 in 0..1.

    Raises:
        CanonicalError: the images differ in size and no ``size`` is given.

    Example::

        >>> to_tensor([np.full((4, 6, 3), 51, np.uint8)], size=(2, 2))[0, 0]
        tensor([[0.2000, 0.2000],
                [0.2000, 0.2000]])
    """
    arrays = to_arrays(images)
    if size is not None:
        arrays = [crop_photo(array, (0, 0, array.shape[1], array.shape[0]), size) for array in arrays]
    if len({array.shape for array in arrays}) != 1:
        sizes = sorted({array.shape[:2] for array in arrays})
        raise CanonicalError(f"to_tensor: expected images of one size, got {sizes[:5]}; give size=(height, width).")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().float() / 255


def to_arrays(images: Images, denormalize: tuple[Statistics, Statistics] | None = None) -> list[np.ndarray]:
    """Images in any usual form as 8-bit photographs, the inverse of :func:`to_tensor`.

    Args:
        images: (H, W, 3) or grey (H, W) uint8 arrays, one such array, or a (B, 3, H, W) or (B, 1, H, W) tensor of
            uint8, or of floats in 0..1 up to :data:`TOLERANCE`. Tensors may be on any device and are left unchanged.
        denormalize: (mean, std) of the normalisation ``(image - mean) / std`` that a float tensor went through.

    Returns:
        List of (H, W, 3) uint8 RGB arrays.

    Raises:
        CanonicalError: another shape or type, or floats outside 0..1 (after undoing the normalisation).

    Example::

        >>> to_arrays(torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2), denormalize=(0.5, 0.5))[0].tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    if isinstance(images, Tensor):
        batch = _tensor_to_uint8(images, denormalize).expand(-1, 3, -1, -1)
        return list(batch.permute(0, 2, 3, 1).contiguous().numpy())
    if isinstance(images, np.ndarray) and images.ndim < 4:
        images = [images]
    elif isinstance(images, (str, PathLike)) or not isinstance(images, (Sequence, np.ndarray)):
        raise CanonicalError(
            f"images: expected a list of (H, W, 3) uint8 arrays or a (B, 3, H, W) tensor, got {type(images).__name__}; "
            "photos.read_photo reads files."
        )
    return [_checked(image, number) for number, image in enumerate(images)]


def _checked(image: object, number: int) -> np.ndarray:
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0
    if fits and image.ndim == 2:  # type: ignore[attr-defined]  # an array, as was just checked
        return np.repeat(image[..., None], 3, axis=2)  # type: ignore[index]
    if fits and image.ndim == 3 and image.shape[2] == 3:  # type: ignore[attr-defined]
        return image  # type: ignore[return-value]
    got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise CanonicalError(
        f"image {number}: expected an (H, W, 3) uint8 RGB array, got {got}; photos.read_photo reads files, and floats "
        "in 0..1 are taken as one (B, 3, H, W) tensor."
    )


def _tensor_to_uint8(images: Tensor, denormalize: tuple[Statistics, Statistics] | None) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise CanonicalError(
            f"images: expected a tensor of shape (B, 3, H, W), or (B, 1, H, W) for grey, got {tuple(images.shape)}."
        )
    if images.dtype == torch.uint8:
        return images.detach().cpu()
    if not images.dtype.is_floating_point:
        raise CanonicalError(f"images: expected uint8 or floats in 0..1, got {images.dtype}.")
    values = images.detach().cpu().double()
    if denormalize is not None:
        mean, std = (_per_channel(numbers, images.shape[1]) for numbers in denormalize)
        values = values * std + mean
    slack = TOLERANCE + torch.finfo(images.dtype).eps
    if values.numel() and not bool(((values >= -slack) & (values <= 1 + slack)).all()):
        raise CanonicalError(_out_of_range(values, denormalize is not None))
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def _out_of_range(values: Tensor, denormalized: bool) -> str:
    got = (
        f"got {values.min():.4g} to {values.max():.4g}" if bool(torch.isfinite(values).all()) else "got NaN or infinity"
    )
    if denormalized:
        return f"images: expected floats in 0..1 after denormalize=(mean, std), {got}; mean or std is not the model's."
    return (
        f"images: expected floats in 0..1, {got}; images that went through a model's normalisation need "
        "denormalize=(mean, std), and 0..255 a division by 255 or uint8."
    )


def _per_channel(numbers: Statistics, channels: int) -> Tensor:
    values = torch.as_tensor(numbers, dtype=torch.float64).detach().cpu().flatten()
    if len(values) not in (1, channels) or not bool(torch.isfinite(values).all()):
        raise CanonicalError(
            f"denormalize: expected (mean, std), each one finite number or one for each of {channels} channels, got "
            f"{values.tolist()}."
        )
    return values.reshape(-1, 1, 1)


def count_and_size(images: Images) -> tuple[int, tuple[int, int]]:
    """Number of images and their common (H, W), whatever their values.

    Raises:
        AlignmentError: the images differ in size, or their shapes are not those of images.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4:
            raise AlignmentError(f"images: expected a tensor of shape (B, C, H, W), got {tuple(images.shape)}.")
        return len(images), (int(images.shape[2]), int(images.shape[3]))
    arrays = [images] if isinstance(images, np.ndarray) and images.ndim < 4 else list(images)
    sizes = {np.shape(array)[:2] for array in arrays}
    if len(sizes) != 1 or len(min(sizes)) != 2:
        got = ", ".join("x".join(map(str, size)) for size in sorted(sizes)[:5])
        raise AlignmentError(
            f"images: expected images of one size (height x width), got {got or 'no images'}; align images of "
            "different sizes one by one, or bring them to one size first (images.crop_photo)."
        )
    height, width = sizes.pop()
    return len(arrays), (int(height), int(width))


# ---------------------------------------------------------------------------------------------------- cutting
def crop_photo(
    image: np.ndarray,
    box: Sequence[float],
    size: tuple[int, int],
    fill: str | float | Sequence[float] = "edge",
) -> np.ndarray:
    """A box of the photo, brought to another size: bilinear when enlarging, area averages when shrinking.

    Coordinates are continuous (pixel (row r, column c) covers [c, c + 1) x [r, r + 1)), so a mesh follows its photo
    exactly by ``mesh.cropped(left, top, width, height).resized(size)``. Each new pixel is the mean of the photo over
    a rectangle around the point that it shows, as large as the new pixel but at least one old pixel wide.

    Args:
        image: (H, W, 3) uint8.
        box: (left, top, right, bottom) in pixels, not necessarily whole; it may reach beyond the photo.
        size: (H, W) of the result.
        fill: what is beyond the photo: ``"edge"`` repeats its border, a number or one per channel (0..255) is a colour.

    Returns:
        ``size`` x 3 uint8.

    Raises:
        CanonicalError: the box is empty or not finite, or another argument is not as above.

    Example::

        >>> photo = np.array([[0, 100], [200, 100]], np.uint8)[..., None].repeat(3, 2)
        >>> crop_photo(photo, (0, 0, 2, 2), (1, 1))[..., 0], crop_photo(photo, (0.5, 0, 1.5, 2), (2, 1))[..., 0].T
        (array([[100]], dtype=uint8), array([[ 50, 150]], dtype=uint8))
    """
    from scipy.sparse import csr_array  # 0.2 s to import, needed by few

    pixels = _checked(image, 0)
    left, top, right, bottom = _checked_box(box)
    height, width = check_size("size", size)
    edge = isinstance(fill, str)
    if edge and fill != "edge":
        raise CanonicalError(f'crop_photo: expected fill="edge", a number or a colour, got {fill!r}.')
    colour = np.zeros(3, np.float32) if edge else _colour(fill)
    rows, first_row = _window_weights(top, bottom, height, pixels.shape[0], edge)
    columns, first_column = _window_weights(left, right, width, pixels.shape[1], edge)
    part = pixels[first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
    inside = part.astype(np.float32) - colour  # what windows hold of the outside is then zero, that is, the colour
    strips = (csr_array(rows) @ inside.reshape(len(inside), -1)).reshape(height, -1, 3)  # each row sums few pixels
    shown = np.einsum("rhc,wh->rwc", strips, columns, optimize=True) + colour
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def _colour(fill: Any) -> np.ndarray:
    try:
        return np.broadcast_to(np.asarray(fill, np.float32), 3)
    except (TypeError, ValueError):
        raise CanonicalError(f'crop_photo: expected fill="edge", a number or a colour, got {fill!r}.') from None


def crop_to_face(
    image: np.ndarray,
    mesh: FaceMesh,
    margin: float = 0.25,
    size: int | tuple[int, int] = 224,
    fill: str | float | tuple[float, float, float] = "edge",
) -> tuple[np.ndarray, FaceMesh]:
    """The part of a photo around a face, brought to a network's input size, and the mesh in it.

    The part is the smallest box of the new size's shape around all vertices and their margin, with sides of whole
    pixels; it may reach beyond the photo.

    Args:
        image: (H, W, 3) uint8.
        mesh: one row, made for this image.
        margin: what to leave around the vertices on each side, as a share of the longer side of the box around them.
        size: (H, W) of the result; a number for a square.
        fill: what is beyond the photo, see :func:`captum_canonical.faces.images.crop_photo`.

    Returns:
        The photo, ``size`` x 3 uint8, and the mesh with ``image_size=size``.

    Raises:
        AlignmentError: the mesh has not one row, or belongs to another image size.
        NoFaceError: the mesh's row says that no face was found.

    Example::

        >>> corners = torch.tensor([[[40.0, 20.0, 0.0], [60.0, 20.0, 0.0], [50.0, 40.0, 0.0]]])
        >>> mesh = FaceMesh(corners, image_size=(80, 100))
        >>> part, moved = crop_to_face(np.zeros((80, 100, 3), np.uint8), mesh, margin=0.25, size=60)
        >>> part.shape, moved.vertices[0, :, :2].tolist()
        ((60, 60, 3), [[10.0, 10.0], [50.0, 10.0], [30.0, 50.0]])
    """
    check_one_face("crop_to_face", image, mesh)
    try:
        check_number("margin", margin, least=0, below=math.inf, expected="a share of at least 0")
    except CanonicalError as error:
        raise AlignmentError(str(error)) from None
    height, width = check_size("size", (size, size) if isinstance(size, int) else size)
    left, top, right, bottom = mesh.boxes[0].double().tolist()
    longer = max(right - left, bottom - top) * (1 + 2 * margin)
    scale = longer / min(height, width)
    wide, high = max(1, math.ceil(scale * width)), max(1, math.ceil(scale * height))
    left, top = (left + right - wide) / 2, (top + bottom - high) / 2
    photo = crop_photo(image, (left, top, left + wide, top + high), (height, width), fill)
    return photo, mesh.cropped(left, top, wide, high).resized((height, width))


def check_one_face(name: str, image: np.ndarray, mesh: FaceMesh) -> None:
    """Raises unless a mesh is that of one face in this image; ``name`` is what messages begin with.

    Raises:
        AlignmentError: it has not one row, or belongs to another image size.
        NoFaceError: its row says that no face was found.
    """
    if not isinstance(mesh, FaceMesh):
        raise AlignmentError(f"{name}: expected a FaceMesh, got a {type(mesh).__name__}.")
    if len(mesh) != 1 or tuple(image.shape[:2]) != mesh.image_size:
        raise AlignmentError(
            f"{name}: expected a mesh of one row made for an image of (height, width) = {tuple(image.shape[:2])}, got "
            f"{len(mesh)} rows for {mesh.image_size}; mesh[3] is the fourth row."
        )
    if mesh.missing:
        raise NoFaceError(f"{name}: the mesh has no face (found=False); leave such images out.")


def _window_weights(start: float, end: float, count: int, length: int, edge: bool) -> tuple[np.ndarray, int]:
    """Share of each old pixel in the window of each new one along one axis, and the first old pixel that counts.

    Returns:
        (count, used) float32 and ``first``: column j belongs to old pixel first + j. Rows add up to one, less the
        part of the window beyond the photo unless ``edge``.
    """
    step = (end - start) / count
    centres = start + (np.arange(count) + 0.5) * step
    width = max(step, 1.0)
    first = int(np.clip(np.floor(centres[0] - width / 2), 0, length - 1))
    last = int(np.clip(np.ceil(centres[-1] + width / 2), first + 1, length))
    borders = np.arange(first, last + 1)
    below = np.clip((borders - centres[:, None]) / width + 0.5, 0, 1)  # share of each window below each pixel border
    if edge:
        below[:, 0], below[:, -1] = 0, 1
    return np.diff(below, axis=1).astype(np.float32), first


def _checked_box(box: Sequence[float]) -> np.ndarray:
    values = np.asarray(box, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[2:] <= values[:2]).any():
        raise CanonicalError(
            f"box: expected finite (left, top, right, bottom) with right > left and bottom > top, got "
            f"{values.tolist()}."
        )
    return values
