"""Deletion and insertion: the score while a face disappears, the most or the least relevant pixels first.

References:
    Samek et al.: Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE TNNLS 2017 (MoRF, LeRF).
    Petsiuk, Das, Saenko: RISE, BMVC 2018 (deletion and insertion).
    Rong et al.: ROAD, ICML 2022 (the same with imputed pixels: ``fill="imputed"``).
    Bluecher, Vielhaben, Strodthoff: Decoupling Pixel Flipping and Occlusion Strategy, arXiv 2401.06654 (LeRF - MoRF).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical._captum import TargetType, format_forward_args
from captum_canonical.attributions.base import FacesArgument, face_for, meshes_of
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.checks import check_images, check_integer, check_tensor
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faithfulness.explanations import checked_clean_scores, score_batches
from captum_canonical.faithfulness.fills import FillLike, fill_name, fill_pixels, filled_once
from captum_canonical.faithfulness.masks import check_maps, removal_order
from captum_canonical.faithfulness.measures import RemovalCurves
from captum_canonical.inference.scorer import Scorer, check_per_image

STEPS = 20


@torch.no_grad()
def removal_curves(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    maps: Tensor,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    space: Literal["image", "canonical"] = "image",
    area: Tensor | None = None,
    faces: FacesArgument = None,
    canonical_face: CanonicalFace | None = None,
    fill: FillLike = "blur",
    fractions: Sequence[float] | Tensor | None = None,
    clean_scores: Tensor | None = None,
    batch_size: int = 32,
    show_progress: bool = False,
) -> RemovalCurves:
    """Deletion and insertion curves of one map for each image.

    Pixels go in the order of the map's values, whatever their sign; pixels that tie fade together, in proportion, so
    no curve depends on the direction in which an image is read. In canonical space the order is that of the pixels of
    the canonical face, and each share of it is carried into the image through the mesh: the same share of the *facial
    surface* is hidden in every image, whatever its pose.

    Args:
        forward_func, target, additional_forward_args: as in :class:`CanonicalOcclusion`.
        inputs: (N, C, H, W).
        maps: (N, 1, H, W); in canonical space (N or 1, 1, H_F, W_F).
        space: where pixels are ordered and counted.
        area: bool, in the shape of ``maps`` or of one of them: the pixels that may be hidden, the face. Default: the
            whole image; in canonical space the whole canonical face.
        faces, canonical_face: in canonical space, where the face lies in each image, as in
            :class:`CanonicalProjector`.
        fill: what hidden pixels become: a name, a number, a tensor or a callable (:func:`fill_pixels`).
        fractions: shares of the area to hide, ascending in 0..1, to the nearest pixel. Default: 0, 1/20, ..., 1.
        clean_scores: (N,) scores of the images themselves, if they are known already.
        batch_size: images per forward call; results do not depend on it.
        show_progress: a bar on stderr that counts forward calls.

    Returns:
        The curves. Their cost is 2 S - 3 evaluations per image, and one more if the clean scores are not given.

    Raises:
        CanonicalError: an argument, a mesh or the output of ``forward_func`` does not fit.

    Example::

        >>> images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> curves = removal_curves(lambda x: x.sum((1, 2, 3)), images, images, fill="zero", fractions=[0, 0.5, 1])
        >>> curves.deletion, curves.insertion
        (tensor([[10.,  3.,  0.]], dtype=torch.float64), tensor([[ 0.,  7., 10.]], dtype=torch.float64))
    """
    check_images("inputs", inputs)
    images = inputs.detach()
    shares = _shares(fractions)
    if space == "canonical":
        order, flags = canonical_order(images, maps, area, faces, canonical_face)
    elif space == "image":
        order, flags = image_order(images, maps, area)
    else:
        raise CanonicalError(f"space: expected 'image' or 'canonical', got {space!r}.")
    scorer = Scorer(forward_func, target, format_forward_args(additional_forward_args), len(images))
    check_per_image(scorer, (images,))
    jobs = _jobs(order, shares)
    make_images = _HiddenImages(images, order, shares, fill)
    check_integer("batch_size", batch_size, 1)
    calls = -(-len(jobs[0]) // batch_size) + (-(-len(images) // batch_size) if clean_scores is None else 0)
    with tqdm(total=calls, desc="Removal curves", disable=not show_progress) as bar:
        clean = _clean(scorer, images, clean_scores, batch_size, bar.update)
        hidden = score_batches(
            scorer, lambda rows: make_images(*(j[rows] for j in jobs)), jobs[0], batch_size, bar.update
        )
    table = clean[None, :, None].repeat(2, 1, len(shares))  # what has no job is the clean image
    table[jobs[1], jobs[0], jobs[2]] = hidden
    gone = shares == 1
    table[1, :, gone] = table[0, :, gone]  # the same image, scored once
    return RemovalCurves(shares, table[0], table[1], flags, fill_name(fill), space)


class _HiddenImages:
    """Images with a share of the face hidden."""

    def __init__(self, images: Tensor, order: RemovalOrder, shares: Tensor, fill: FillLike) -> None:
        self.images, self.order, self.shares, self.fill = images, order, shares, fill
        self.filled = filled_once(images, fill)

    def __call__(self, image: Tensor, least_first: Tensor, step: Tensor) -> Tensor:
        hidden = self.order.hidden(image, least_first == 1, self.shares[step]).to(self.images.device)
        rows = image.to(self.images.device)
        clean = self.images[rows]
        filled = self.filled[rows] if self.filled is not None else fill_pixels(clean, hidden > 0, self.fill)
        return torch.lerp(clean, filled, hidden.to(clean.dtype))


def _jobs(order: RemovalOrder, shares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, order (0 MoRF, 1 LeRF) and step of each evaluation, three (J,) int64 on the CPU."""
    wanted = (
        (order.total > 0).cpu()[:, None, None] & (shares > 0) & torch.tensor([[True], [False]]).logical_or(shares < 1)
    )
    image, least_first, step = torch.nonzero(wanted, as_tuple=True)
    return image, least_first, step


def _shares(fractions: Sequence[float] | Tensor | None) -> Tensor:
    if fractions is None:
        return torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    shares = check_tensor("fractions", fractions).double().cpu()
    if shares.ndim != 1 or len(shares) < 2 or not (shares.diff() > 0).all() or shares[0] < 0 or shares[-1] > 1:
        raise CanonicalError(f"fractions: expected two or more ascending numbers in 0..1, got {shares.tolist()}.")
    return shares


def _clean(scorer: Scorer, images: Tensor, given: Tensor | None, batch_size: int, tick: Callable[[], object]) -> Tensor:
    """(N,) float64, the scores of the images themselves: those given, or the network's."""
    if given is None:
        return score_batches(scorer, lambda rows: images[rows].clone(), torch.arange(len(images)), batch_size, tick)
    return checked_clean_scores(given, len(images))


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
    values, areas = check_maps(maps, area)
    first, last = torch.zeros_like(values), torch.ones_like(values)
    flags = []
    for row, (own, face) in enumerate(zip(values, areas, strict=True)):
        first[row, face], last[row, face] = removal_order(own[face])
        together = last[row, face] - first[row, face]
        flags.append("no area" if not face.any() else "constant" if (together == face.sum()).all() else "")
    shape = maps.shape
    order = RemovalOrder(first.view(shape), last.view(shape), areas.reshape(shape), areas.sum(1).double())
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
