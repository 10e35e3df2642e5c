"""Does a network's confidence fall when what a map points at is hidden? Scores of explanation images, compared.

Every result says which explanation images it is about and which direction is better: the Average Drop of negative
images, as in the paper, is better the higher it is; that of positive images, as in the CAM literature, the lower it is.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    Eqs. 11-13.
    Chattopadhay et al.: Grad-CAM++, WACV 2018 (the same measures of positive images).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_canonical._captum import TargetType, format_forward_args
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.curves import score_batches
from captum_canonical.faithfulness.fills import Fill, filled_once
from captum_canonical.faithfulness.masks import (
    Explanation,
    ExplanationMasks,
    check_explanation,
    check_masked,
    explanation_images,
)
from captum_canonical.inference.dense import Scorer

Direction = Literal["higher", "lower"]
TOLERANCE = 1e-6
"""Scores that differ by less than this share of the larger one count as equal: float32 networks give the same image
scores that differ by about as much from batch to batch."""


@dataclass(frozen=True, eq=False)
class FaithfulnessScore:
    """One number about the maps of a method, and what it is made of.

    Attributes:
        name: of the measure, such as ``"Average Drop %"``.
        per_image: (N,) float64, NaN for images that are left out (clean confidence 0). ``value`` is their mean.
        direction: ``"higher"`` or ``"lower"``, which is better.
        explanation: ``"negative"`` or ``"positive"``, the explanation images that were scored.
    """

    name: str
    per_image: Tensor
    direction: Direction
    explanation: Explanation

    @property
    def value(self) -> float:
        """Mean over the images that count; NaN if none does."""
        return float(self.per_image.nanmean())

    @property
    def n(self) -> int:
        """Number of images that count."""
        return int((~self.per_image.isnan()).sum())

    @property
    def left_out(self) -> int:
        """Number of images that do not count."""
        return len(self.per_image) - self.n

    def __str__(self) -> str:
        return f"{self.name}, {self.explanation} images: {self.value:.4g} ({self.direction} is better, n = {self.n})"


@torch.no_grad()
def score_explanations(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    masks: ExplanationMasks,
    target: TargetType = None,
    *,
    additional_forward_args: object | None = None,
    explanation: Explanation = "negative",
    fill: str | float | Tensor | Fill = "zero",
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
    clean = None if clean_scores is None else _scores(clean_scores, clean_scores)[0]
    lengths = [len(inputs), len(masks.values), *([] if clean is None else [len(clean)])]
    if len(set(lengths)) > 1:
        raise CanonicalError(f"score_explanations: expected inputs, masks and clean scores of one N, got {lengths}.")
    scorer = Scorer(forward_func, target, format_forward_args(additional_forward_args), len(inputs))
    copied = masks.empty.cpu() & (clean is not None and explanation == "negative")
    images = torch.nonzero(~copied).flatten()
    check_masked(inputs, masks.values)
    filled = filled_once(inputs, fill)

    def picture(rows: Tensor) -> Tensor:
        chosen = images[rows].to(inputs.device)
        behind = fill if filled is None else filled[chosen]
        return explanation_images(inputs[chosen], masks.values.to(inputs.device)[chosen], explanation, behind)

    scores = torch.zeros(len(inputs), dtype=torch.float64) if clean is None else clean
    scores[images] = score_batches(scorer, picture, images, batch_size)
    return scores


# ------------------------------------------------------------------------------------------------------------ measures
def average_drop(
    clean: Tensor, explained: Tensor, *, explanation: Explanation = "negative", unbounded: bool = False
) -> FaithfulnessScore:
    """Average Drop %: mean of max(0, (f - e) / f) x 100, f and e the clean and the explained confidence (Eq. 11).

    A share of the confidence has a meaning only for confidences that start at 0: adding a constant to logits changes
    it. :func:`mean_drop` has no such limits. Images with f <= 0 are left out and counted.

    Args:
        clean: (N,) confidences of the images.
        explained: (N,) confidences of their explanation images.
        explanation: which images these are.
        unbounded: accept scores outside 0..1.

    Raises:
        CanonicalError: shapes do not fit, a score is not finite, or (unless ``unbounded``) not in 0..1.

    Example::

        >>> average_drop(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 1.0])).value
        25.0
    """
    f, e = confidences_of(clean, explained, explanation, unbounded, "average_drop")
    drop = torch.where(f > 0, ((f - e) / f).clamp(min=0) * 100, torch.nan)
    return FaithfulnessScore("Average Drop %", drop, better_direction(explanation, "higher"), explanation)


def increase_rate(
    clean: Tensor,
    explained: Tensor,
    *,
    explanation: Explanation = "negative",
    unbounded: bool = False,
    tolerance: float = TOLERANCE,
) -> FaithfulnessScore:
    """% Increase: the share of images whose explanation image has more confidence than the image itself (Eq. 12).

    Args:
        clean, explained, explanation, unbounded: as in :func:`average_drop`.
        tolerance: scores that differ by at most this share of the larger one are equal. 0: Eq. 12 to the last bit.

    Example::

        >>> increase_rate(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])).value
        50.0
    """
    f, e = confidences_of(clean, explained, explanation, unbounded, "increase_rate")
    more = (e - f > tolerance * torch.maximum(e.abs(), f.abs())).double() * 100
    return FaithfulnessScore("% Increase", more, better_direction(explanation, "lower"), explanation)


def mean_drop(clean: Tensor, explained: Tensor, *, explanation: Explanation = "negative") -> FaithfulnessScore:
    """Mean drop f - e in the unit of the scores, increases included as negative drops; for any kind of score.

    Example::

        >>> mean_drop(torch.tensor([2.0, -3.0]), torch.tensor([1.0, -2.5])).value
        0.25
    """
    f, e = confidences_of(clean, explained, explanation, True, "mean_drop")
    return FaithfulnessScore("Mean drop", f - e, better_direction(explanation, "higher"), explanation)


def better_direction(explanation: Explanation, for_negative: Direction) -> Direction:
    """The direction that is better for these explanation images, if it is ``for_negative`` for negative ones."""
    opposite: Direction = "lower" if for_negative == "higher" else "higher"
    return for_negative if explanation == "negative" else opposite


def confidences_of(
    clean: Tensor, explained: Tensor, explanation: Explanation, unbounded: bool, name: str
) -> tuple[Tensor, Tensor]:
    """Both as (N,) float64 on the CPU; raises unless they are confidences, or ``unbounded``."""
    check_explanation(explanation)
    f, e = _scores(clean, explained)
    if (
        not unbounded
        and not ((f >= -TOLERANCE) & (f <= 1 + TOLERANCE) & (e >= -TOLERANCE) & (e <= 1 + TOLERANCE)).all()
    ):
        low, high = float(torch.cat([f, e]).min()), float(torch.cat([f, e]).max())
        raise CanonicalError(
            f"{name}: expected confidences in 0..1, got scores from {low:g} to {high:g}: percentages of logits mean "
            "little. Score with probabilities (ClassConfidence), use mean_drop, or pass unbounded=True."
        )
    return f, e


def _scores(clean: Tensor, explained: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N,) float64 on the CPU."""
    f, e = (torch.as_tensor(scores).detach().double().cpu().clone() for scores in (clean, explained))
    if f.ndim != 1 or f.shape != e.shape or not len(f) or not torch.isfinite(torch.cat([f, e])).all():
        raise CanonicalError(
            f"scores: expected two times N finite scores of the same images in the same order, N from 1 on, got shapes "
            f"{tuple(f.shape)} and {tuple(e.shape)}, or NaN."
        )
    return f, e
