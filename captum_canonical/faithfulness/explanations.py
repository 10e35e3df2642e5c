"""Explanation images, in which the pixels that a map marks are hidden or alone shown, and their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_canonical._captum import TargetType, format_forward_args
from captum_canonical.checks import check_images, check_integer, check_tensor
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.fills import FillLike, fill_pixels, filled_once
from captum_canonical.faithfulness.masks import ExplanationMasks
from captum_canonical.faithfulness.measures import Explanation, check_explanation
from captum_canonical.inference.scorer import Scorer, check_per_image


def explanation_images(
    images: Tensor,
    masks: ExplanationMasks | Tensor,
    explanation: Explanation = "negative",
    fill: FillLike = "zero",
) -> Tensor:
    """Photographs in which the relevant pixels are hidden (negative) or only they are shown (positive).

    Negative: (1 - H) I + H F, which is Eq. 9 where the fill F is 0. Positive: H I + (1 - H) F. Exactly the photograph
    where nothing is hidden, exactly the fill where everything is.

    Args:
        images: (N, C, H, W) floating point, as the network takes them.
        masks: of the same images, or a tensor (N, 1, H, W) in 0..1.
        explanation: ``"negative"`` or ``"positive"``.
        fill: what hidden pixels become, see :func:`as_fill`. Pixels hidden to any degree are imputed as a whole.

    Returns:
        (N, C, H, W) in the images' type.

    Raises:
        CanonicalError: shapes or arguments do not fit.

    Example::

        >>> explanation_images(torch.tensor([[[[8.0, 4.0]]]]), torch.tensor([[[[0.25, 1.0]]]]))
        tensor([[[[6., 0.]]]])
    """
    check_explanation(explanation)
    values = masks.values if isinstance(masks, ExplanationMasks) else masks
    _check_masked(images, values)
    hide = (values if explanation == "negative" else 1 - values.double()).to(images.device)
    return torch.lerp(images.detach(), fill_pixels(images.detach(), hide > 0, fill), hide.to(images.dtype))


def _check_masked(images: Tensor, values: Tensor) -> None:
    check_images("images", images)
    if not isinstance(values, Tensor) or values.shape != (len(images), 1, *images.shape[2:]):
        raise CanonicalError(
            f"masks: expected floating point images (N, C, H, W) and masks (N, 1, H, W), got {images.dtype} "
            f"{tuple(images.shape)} and {tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__}."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise CanonicalError(
            f"explanation_images: expected masks in 0..1, got {float(values.min()):g} to {float(values.max()):g}."
        )


@torch.no_grad()
def score_explanations(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    masks: ExplanationMasks,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    explanation: Explanation = "negative",
    fill: FillLike = "zero",
    clean_scores: Tensor | None = None,
    batch_size: int = 32,
) -> Tensor:
    """The scores of explanation images, each of its own image whatever the batches.

    Args:
        forward_func, inputs, target, additional_forward_args: as in :class:`CanonicalOcclusion`.
        masks: what is hidden (negative) or shown (positive), of these inputs.
        explanation, fill: as in :func:`explanation_images`; a tensor may have an entry for each input.
        clean_scores: (N,) scores of the images themselves. If they are given, a negative image in which nothing is
            hidden is not run again but has its clean score: no drop, no increase, not even by rounding.
        batch_size: images per forward call.

    Returns:
        (N,) float64 on the CPU.

    Example::

        >>> from captum_canonical.faithfulness import explanation_masks
        >>> photos = torch.ones(1, 1, 2, 2)
        >>> masks = explanation_masks(torch.tensor([[[[4.0, 1.0], [1.0, 0.0]]]]), budget=0.25)
        >>> score_explanations(lambda x: x.mean((1, 2, 3)), photos, masks)  # a quarter of the brightness is hidden
        tensor([0.7500], dtype=torch.float64)
    """
    check_images("inputs", inputs)
    if not isinstance(masks, ExplanationMasks):
        raise CanonicalError(f"masks: expected those of explanation_masks, got a {type(masks).__name__}.")
    clean = None if clean_scores is None else checked_clean_scores(clean_scores, len(inputs))
    if len(masks.values) != len(inputs):
        raise CanonicalError(
            f"score_explanations: expected one mask for each input, got {len(masks.values)} masks of {len(inputs)} "
            "inputs."
        )
    scorer = Scorer(forward_func, target, format_forward_args(additional_forward_args), len(inputs))
    check_per_image(scorer, (inputs,))
    copied = masks.empty.cpu() & (clean is not None and explanation == "negative")
    images = torch.nonzero(~copied).flatten()
    _check_masked(inputs, masks.values)
    filled = filled_once(inputs, fill)

    def make(rows: Tensor) -> Tensor:
        chosen = images[rows].to(inputs.device)
        behind = fill if filled is None else filled[chosen]
        return explanation_images(inputs[chosen], masks.values.to(inputs.device)[chosen], explanation, behind)

    scores = torch.zeros(len(inputs), dtype=torch.float64) if clean is None else clean
    scores[images] = score_batches(scorer, make, images, batch_size)
    return scores


def score_batches(
    scorer: Scorer,
    make: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """Scores of J images that are made batch by batch.

    Args:
        scorer: gives the scores of a batch.
        make: indices (R,) of images -> these images (R, C, H, W), which the network may write into.
        images: (J,) int64 on the CPU, the input that each image was made from: its target and arguments apply.
        batch_size: images per forward call.
        tick: called after each forward call.

    Returns:
        (J,) float64 on the CPU.

    Raises:
        CanonicalError: a score is not finite, or ``batch_size`` is no positive integer.
    """
    check_integer("batch_size", batch_size, 1)
    scores = [torch.zeros(0, dtype=torch.float64)]
    for rows in torch.arange(len(images)).split(int(batch_size)):
        if len(rows):
            scores.append(scorer((make(rows),), images[rows]).cpu())
            tick()
    result = torch.cat(scores)
    broken = images[~torch.isfinite(result)].unique().tolist()
    if broken:
        raise CanonicalError(
            f"forward_func returned NaN or infinity for explanation images of images {broken[:10]}; leave them out."
        )
    return result


def checked_clean_scores(scores: Tensor, count: int) -> Tensor:
    """The given scores of the images themselves as (N,) float64 on the CPU.

    Raises:
        CanonicalError: they are not finite, or not ``count``.
    """
    clean = check_tensor("clean_scores", scores).detach().double().cpu().clone()
    if clean.shape != (count,) or not torch.isfinite(clean).all():
        raise CanonicalError(f"clean_scores: expected {count} finite scores, got shape {tuple(clean.shape)}.")
    return clean
