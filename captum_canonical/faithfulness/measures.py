"""Does a network's confidence fall when what a map points at is hidden? Measures of scores; no network runs here.

Every result says which explanation images it is about and which direction is better: the Average Drop of negative
images, as in the paper, is better the higher it is; that of positive images, as in the CAM literature, the lower it is.

References:
    John, Balasubramanian, Jawahar: Canonical Saliency Maps, IEEE TBIOM 2021, doi 10.1109/TBIOM.2021.3120758,
    Eqs. 11-13.
    Chattopadhay et al.: Grad-CAM++, WACV 2018 (the same measures of positive images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from captum_canonical.checks import check_choice, check_tensor
from captum_canonical.errors import CanonicalError

Direction = Literal["higher", "lower"]
Explanation = Literal["negative", "positive"]
TOLERANCE = 1e-6
"""Scores that differ by less than this share of the larger one count as equal: float32 networks give the same image
scores that differ by about as much from batch to batch."""


@dataclass(frozen=True, eq=False)
class FaithfulnessScore:
    """A measure of the maps of a method, with its values for single images.

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
    def settings(self) -> tuple[tuple[float, ...], str, str]:
        """Fractions, fill and space: curves are averaged or compared only where these agree."""
        return tuple(self.fractions.tolist()), self.fill, self.space

    @staticmethod
    def cat(curves: Sequence[RemovalCurves]) -> RemovalCurves:
        """The curves of several batches of images, in order."""
        found = {c.settings for c in curves}
        if len(found) != 1:
            raise CanonicalError(
                f"RemovalCurves.cat: expected one set of fractions, fill and space, got {sorted(map(str, found))}."
            )
        return replace(
            curves[0],
            morf=torch.cat([c.morf for c in curves]),
            lerf=torch.cat([c.lerf for c in curves]),
            flags=tuple(flag for c in curves for flag in c.flags),
        )

    def _mean_height(self, scores: Tensor) -> Tensor:
        x = self.fractions.to(scores)
        return torch.trapezoid(scores, x, dim=1) / (x[-1] - x[0])


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


def check_explanation(explanation: str) -> None:
    """Raises CanonicalError unless it is "negative" or "positive"."""
    check_choice("explanation", explanation, ("negative", "positive"))


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
    given = (check_tensor("clean", clean), check_tensor("explained", explained))
    f, e = (scores.detach().double().cpu().clone() for scores in given)
    if f.ndim != 1 or f.shape != e.shape or not len(f) or not torch.isfinite(torch.cat([f, e])).all():
        raise CanonicalError(
            f"scores: expected two times N finite scores of the same images in the same order, N from 1 on, got shapes "
            f"{tuple(f.shape)} and {tuple(e.shape)}, or NaN."
        )
    return f, e
