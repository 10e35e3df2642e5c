"""The order in which the pixels of a face are hidden: that of a map in the image or on the canonical face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_canonical.attributions.base import FacesArgument, face_for, meshes_of
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.statistics.units import SAME


@dataclass(frozen=True, eq=False)
class RemovalOrder:
    """When each pixel of an image is hidden, the most relevant first.

    Attributes:
        first: (N, 1, H, W) float64, pixels of the area that go before it, and
        last: those that are gone when it is gone too.
        hideable: (N, 1, H, W) bool, the area.
        total: (N,) float64, pixels of the area.
    """

    first: Tensor
    last: Tensor
    hideable: Tensor
    total: Tensor

    def hidden(self, image: Tensor, least_first: Tensor, share: Tensor) -> Tensor:
        """(R, 1, H, W) float64 in 0..1, how much of each pixel is hidden."""
        image, least_first, share = (part.to(self.first.device) for part in (image, least_first, share))
        total = self.total[image].view(-1, 1, 1, 1)
        first, last, turned = self.first[image], self.last[image], least_first.view(-1, 1, 1, 1)
        start = torch.where(turned, total - last, first)
        # Whole pixels: none is to be imputed because a tiny part of it is hidden.
        count = (share.view(-1, 1, 1, 1) * total).round()
        return torch.where(self.hideable[image], ((count - start) / (last - first)).clamp(0, 1), 0.0)


def removal_order(values: Tensor) -> tuple[Tensor, Tensor]:
    """When each pixel goes if the highest go first.

    Args:
        values: (P,).

    Returns:
        Two (P,) float64: how many pixels are higher, and how many are at least as high. Pixels
        that tie (their values round to the same multiple of :data:`SAME` times the largest magnitude) go together: once
        k pixels are gone, clip((k - first) / (last - first), 0, 1) of each is.

    Example::

        >>> removal_order(torch.tensor([3.0, 1.0, 5.0, 3.0]))
        (tensor([1., 3., 0., 1.], dtype=torch.float64), tensor([3., 4., 1., 3.], dtype=torch.float64))
    """
    scale = values.abs().amax() if len(values) else 1.0
    rounded = torch.nan_to_num(values.double() / scale / SAME).round()
    _, level, size = torch.unique(rounded, return_inverse=True, return_counts=True)
    last = size.flip(0).cumsum(0).flip(0)
    return (last - size)[level].double(), last[level].double()


def check_maps(maps: Tensor, area: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maps as (N, P) float64 and their area as (N, P) bool.

    Raises:
        CanonicalError: a shape does not fit, the area is not bool, or a map is not finite in it.
    """
    good = isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[1] == 1 and not maps.dtype.is_complex
    if not good or not maps.numel():
        raise CanonicalError(
            f"maps: expected one or more maps of shape (N, 1, H, W), got "
            f"{tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__}."
        )
    if area is None:
        area = torch.ones(1, 1, *maps.shape[2:], dtype=torch.bool)
    if area.dtype != torch.bool or area.shape not in (maps.shape, (1, *maps.shape[1:])):
        raise CanonicalError(
            f"area: expected bool of shape {tuple(maps.shape)} or {(1, *maps.shape[1:])}, got {area.dtype} of shape "
            f"{tuple(area.shape)}."
        )
    faces = area.to(maps.device).expand(maps.shape).flatten(1)
    heights = maps.detach().double().flatten(1)
    broken = torch.nonzero(~torch.isfinite(heights).all(1)).flatten().tolist()
    if broken:
        raise CanonicalError(f"maps: expected finite values, got NaN or infinity in rows {broken[:10]}.")
    return heights, faces


def image_order(images: Tensor, maps: Tensor, area: Tensor | None) -> tuple[RemovalOrder, tuple[str, ...]]:
    """The order in the images themselves, and a flag for each: ``""``, ``"constant"`` or ``"no area"``."""
    _check_images(images)
    if not isinstance(maps, Tensor) or maps.shape != (len(images), 1, *images.shape[2:]):
        raise CanonicalError(
            f"maps: expected one map (1, H, W) for each of the images {tuple(images.shape)}, got "
            f"{tuple(getattr(maps, 'shape', ()))}; interpolate them to the images' size first."
        )
    return _ordered(maps, area)


def _ordered(maps: Tensor, area: Tensor | None) -> tuple[RemovalOrder, tuple[str, ...]]:
    heights, faces = check_maps(maps, area)
    first, last = torch.zeros_like(heights), torch.ones_like(heights)
    flags = []
    for row, (values, face) in enumerate(zip(heights, faces, strict=True)):
        first[row, face], last[row, face] = removal_order(values[face])
        together = last[row, face] - first[row, face]
        flags.append("no area" if not face.any() else "constant" if (together == face.sum()).all() else "")
    shape = maps.shape
    order = RemovalOrder(first.view(shape), last.view(shape), faces.reshape(shape), faces.sum(1).double())
    return order, tuple(flags)


def canonical_order(
    images: Tensor, maps: Tensor, area: Tensor | None, faces: FacesArgument, canonical_face: CanonicalFace | None
) -> tuple[RemovalOrder, tuple[str, ...]]:
    """The order on the canonical face, carried into the images; flags as in :func:`image_order`."""
    _check_images(images)
    mesh = meshes_of((images,), faces)[0]
    face = face_for(canonical_face, [mesh])
    if not isinstance(maps, Tensor) or maps.shape[1:] != (1, *face.size) or len(maps) not in (1, len(images)):
        raise CanonicalError(
            f"maps: expected (1 or {len(images)}, 1, {face.size[0]}, {face.size[1]}) on the canonical face, got "
            f"{tuple(getattr(maps, 'shape', ()))}."
        )
    surface = face.raster.covered[None, None]
    order, flags = _ordered(maps.to(images.device), surface if area is None else area.to(surface) & surface)
    inside = order.hideable.double()
    # Pixels at the rim are read between pixels of the face and others: the mean is taken over those of the face.
    planes = torch.cat([order.first * inside, order.last * inside, inside], 1)
    carried, covered = CanonicalProjector(None, canonical_face=face).reproject(planes, mesh, return_coverage=True)
    weight = carried[:, 2:]
    hideable = (covered > 0) & (weight > 1e-6)
    first, last = (torch.where(hideable, carried[:, i : i + 1] / weight.clamp(min=1e-6), float(i)) for i in (0, 1))
    total = torch.where(hideable.flatten(1).any(1), order.total.expand(len(images)), 0.0)
    flags = flags * (len(images) // len(flags))
    return RemovalOrder(first, last, hideable, total), tuple(
        flag if pixels else "no area" for flag, pixels in zip(flags, total.tolist(), strict=True)
    )


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or not images.dtype.is_floating_point or not len(images):
        raise CanonicalError(
            f"inputs: expected floating point images (N, C, H, W), got {images.dtype} of shape {tuple(images.shape)}."
        )
