"""Deletion and insertion: the score while a face disappears, the most or the least relevant pixels first.

References:
    Samek et al.: Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE TNNLS 2017 (MoRF, LeRF).
    Petsiuk, Das, Saenko: RISE, BMVC 2018 (deletion and insertion).
    Rong et al.: ROAD, ICML 2022 (the same with imputed pixels: ``fill="imputed"``).
    Bluecher, Vielhaben, Strodthoff: Decoupling Pixel Flipping and Occlusion Strategy, arXiv 2401.06654 (LeRF - MoRF).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical._captum import TargetType, format_forward_args
from captum_canonical.attributions.base import FacesArgument
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faithfulness.fills import Fill, fill_name, fill_pixels, filled_once
from captum_canonical.faithfulness.orders import RemovalOrder, canonical_order, image_order
from captum_canonical.inference.dense import Scorer

STEPS = 20


@dataclass(frozen=True, eq=False)
class RemovalCurves:
    """Scores of N images with a growing part of the face hidden.

    Concretely ``morf[n, i]`` is the score of image n with the share ``fractions[i]`` of its face hidden, the most
    relevant pixels first; ``lerf[n, i]`` with the least relevant first.

    Attributes:
        fractions: (S,) float64, ascending, in 0..1.
        morf: (N, S) float64, in the unit of the forward function.
        lerf: (N, S) float64.
        flags: for each image ``""``, ``"constant"`` (the map has no order: all pixels fade together) or ``"no area"``
            (nothing could be hidden: the curve is the clean score).
        fill: what hidden pixels became.
        space: where shares were counted, ``"image"`` or ``"canonical"``.
    """

    fractions: Tensor
    morf: Tensor
    lerf: Tensor
    flags: tuple[str, ...]
    fill: str
    space: str

    DIRECTIONS = MappingProxyType({"deletion_auc": "lower", "insertion_auc": "higher", "gain": "higher"})
    """Which direction is better."""

    @property
    def deletion(self) -> Tensor:
        """(N, S), the most relevant pixels are hidden first: MoRF."""
        return self.morf

    @property
    def insertion(self) -> Tensor:
        """(N, S), the most relevant pixels are put back first, ``1 - fractions.flip(0)`` of them: LeRF, read backwards.

        Hiding the least relevant share t and showing the most relevant share 1 - t are the same image.
        """
        return self.lerf.flip(1)

    @property
    def deletion_auc(self) -> Tensor:
        """(N,) mean height of the deletion curve; lower is better."""
        return self._mean_height(self.morf)

    @property
    def insertion_auc(self) -> Tensor:
        """(N,) mean height of the insertion curve; higher is better."""
        return self._mean_height(self.lerf)

    @property
    def gain(self) -> Tensor:
        """(N,) ``insertion_auc - deletion_auc`` (symmetric relevance gain); higher is better, 0 for no order at all."""
        return self.insertion_auc - self.deletion_auc

    @property
    def kind(self) -> tuple[tuple[float, ...], str, str]:
        """Fractions, fill and space: curves are averaged or compared only where these agree."""
        return tuple(self.fractions.tolist()), self.fill, self.space

    @staticmethod
    def cat(curves: Sequence[RemovalCurves]) -> RemovalCurves:
        """The curves of several batches of images, in order."""
        kinds = {c.kind for c in curves}
        if len(kinds) != 1:
            raise CanonicalError(f"RemovalCurves.cat: expected curves of one kind, got {sorted(map(str, kinds))}.")
        return replace(
            curves[0],
            morf=torch.cat([c.morf for c in curves]),
            lerf=torch.cat([c.lerf for c in curves]),
            flags=tuple(flag for c in curves for flag in c.flags),
        )

    def _mean_height(self, scores: Tensor) -> Tensor:
        x = self.fractions.to(scores)
        return torch.trapezoid(scores, x, dim=1) / (x[-1] - x[0])


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
    fill: str | float | Tensor | Fill = "blur",
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
    images = inputs.detach()
    shares = _shares(fractions)
    if space == "canonical":
        order, flags = canonical_order(images, maps, area, faces, canonical_face)
    elif space == "image":
        order, flags = image_order(images, maps, area)
    else:
        raise CanonicalError(f"space: expected 'image' or 'canonical', got {space!r}.")
    scorer = Scorer(forward_func, target, format_forward_args(additional_forward_args), len(images))
    jobs = _jobs(order, shares)
    pictures = _Pictures(images, order, shares, fill)
    _check_batch_size(batch_size)
    calls = -(-len(jobs[0]) // batch_size) + (-(-len(images) // batch_size) if clean_scores is None else 0)
    with tqdm(total=calls, desc="Removal curves", disable=not show_progress) as bar:
        clean = _clean(scorer, images, clean_scores, batch_size, bar.update)
        hidden = score_batches(scorer, lambda rows: pictures(*(j[rows] for j in jobs)), jobs[0], batch_size, bar.update)
    table = clean[None, :, None].repeat(2, 1, len(shares))  # what has no job is the clean image
    table[jobs[1], jobs[0], jobs[2]] = hidden
    gone = shares == 1
    table[1, :, gone] = table[0, :, gone]  # the same image, scored once
    return RemovalCurves(shares, table[0], table[1], flags, fill_name(fill), space)


def score_batches(
    scorer: Scorer,
    picture: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """Scores of J pictures that are made batch by batch.

    Args:
        scorer: gives the scores of a batch.
        picture: indices (R,) of pictures -> the pictures (R, C, H, W), which the network may write into.
        images: (J,) int64 on the CPU, the image that each picture shows.
        batch_size: pictures per forward call.
        tick: called after each forward call.

    Returns:
        (J,) float64 on the CPU.

    Raises:
        CanonicalError: a score is not finite, or ``batch_size`` is no positive integer.
    """
    _check_batch_size(batch_size)
    scores = [torch.zeros(0, dtype=torch.float64)]
    for rows in torch.arange(len(images)).split(int(batch_size)):
        if len(rows):
            scores.append(scorer((picture(rows),), images[rows]).cpu())
            tick()
    result = torch.cat(scores)
    broken = images[~torch.isfinite(result)].unique().tolist()
    if broken:
        raise CanonicalError(
            f"forward_func returned NaN or infinity for explanation images of images {broken[:10]}; leave them out."
        )
    return result


class _Pictures:
    """Images with a share of the face hidden."""

    def __init__(self, images: Tensor, order: RemovalOrder, shares: Tensor, fill: str | float | Tensor | Fill) -> None:
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


def _check_batch_size(batch_size: Any) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise CanonicalError(f"batch_size: expected an integer from 1 on, got {batch_size!r}.")


def _shares(fractions: Sequence[float] | Tensor | None) -> Tensor:
    if fractions is None:
        return torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    shares = torch.as_tensor(fractions, dtype=torch.float64).cpu()
    if shares.ndim != 1 or len(shares) < 2 or not (shares.diff() > 0).all() or shares[0] < 0 or shares[-1] > 1:
        raise CanonicalError(f"fractions: expected two or more ascending numbers in 0..1, got {shares.tolist()}.")
    return shares


def _clean(scorer: Scorer, images: Tensor, given: Tensor | None, batch_size: int, tick: Callable[[], object]) -> Tensor:
    """(N,) float64, the scores of the images themselves: those given, or the network's."""
    if given is None:
        return score_batches(scorer, lambda rows: images[rows].clone(), torch.arange(len(images)), batch_size, tick)
    clean = torch.as_tensor(given).detach().double().cpu()
    if clean.shape != (len(images),) or not torch.isfinite(clean).all():
        raise CanonicalError(f"clean_scores: expected {len(images)} finite scores, got shape {tuple(clean.shape)}.")
    return clean
