"""How well similarities tell pairs of one person from pairs of two: accuracy with held-out thresholds, TAR at a FAR.

A pair is accepted, taken for one person, if its similarity is above the threshold. A similarity that is NaN stands for
a pair that could not be compared, such as one with a photograph in which no face was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from captum_canonical.errors import CanonicalError


@dataclass(frozen=True, eq=False)
class HeldOutAccuracy:
    """Shares of right answers, fold by fold, with the threshold chosen on the other folds.

    Attributes:
        folds: (F,) their numbers, in ascending order.
        accuracy: (F,) the share of right answers in each.
        threshold: (F,) that was used there.
    """

    folds: np.ndarray
    accuracy: np.ndarray
    threshold: np.ndarray

    @property
    def mean(self) -> float:
        """The mean over the folds."""
        return float(self.accuracy.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, from the spread of the folds, as LFW's protocol reports it."""
        return float(self.accuracy.std(ddof=1) / math.sqrt(len(self.accuracy)))


def held_out_accuracy(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> HeldOutAccuracy:
    """The accuracy of verification as in View 2 of LFW's protocol.

    Args:
        similarity: (P,) of the pairs; a pair with NaN counts as answered wrong.
        same: (P,) bool, whether a pair shows one person.
        fold: (P,) int, at least two different numbers.

    Raises:
        CanonicalError: other shapes, fewer than two folds, or no similarity in all folds but one.

    Example::

        >>> same, fold = np.array([True, False] * 4), np.repeat([0, 1], 4)
        >>> found = held_out_accuracy(np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.2, 0.4]), same, fold)
        >>> found.accuracy.tolist(), found.threshold.round(2).tolist()
        ([1.0, 0.75], [0.55, 0.5])
    """
    similarity, same = _checked(similarity, same)
    numbers = np.unique(fold)
    if np.shape(fold) != similarity.shape or len(numbers) < 2:
        raise CanonicalError(f"fold: expected a number for each pair and at least two folds, got {len(numbers)}.")
    thresholds, shares = [], []
    for number in numbers:
        others, here = fold != number, fold == number
        thresholds.append(best_threshold(similarity[others], same[others]))
        known = ~np.isnan(similarity[here])
        shares.append(np.mean(known & ((similarity[here] > thresholds[-1]) == same[here])))
    return HeldOutAccuracy(numbers, np.array(shares), np.array(thresholds))


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """The threshold with the most right answers; of several, the lowest. Only halves between similarities are tried.

    Example::

        >>> best_threshold(np.array([0.125, 0.25, 0.5, 0.75]), np.array([False, False, True, True]))
        0.375
    """
    similarity, same = _checked(similarity, same)
    known = ~np.isnan(similarity)
    order = np.argsort(similarity[known], kind="stable")
    values, truth = similarity[known][order], same[known][order]
    if len(values) < 2:
        raise CanonicalError(f"expected at least two pairs with a similarity to choose a threshold, got {len(values)}.")
    right = np.cumsum(~truth) + truth.sum() - np.cumsum(truth)  # with the threshold above this pair
    right = np.where(values[:-1] < values[1:], right[:-1], -1)  # no threshold is between equal ones
    best = int(np.argmax(right)) if right.max() >= 0 else 0
    return float((values[best] + values[best + 1]) / 2)


def acceptance_at(similarity: np.ndarray, same: np.ndarray, false_acceptance: float) -> tuple[float, float]:
    """The share of pairs of one person that are accepted (TAR) where at most this share of the others is (FAR).

    Args:
        similarity: (P,) of the pairs; those with NaN are left out.
        same: (P,) bool, whether a pair shows one person.
        false_acceptance: the FAR, 0..1.

    Returns:
        The TAR, and the lowest threshold that keeps to the FAR; both NaN if there are fewer than 1 / FAR pairs of two
        people, which cannot show such a rate.

    Example::

        >>> scores, same = np.array([0.9, 0.6, 0.3, 0.7, 0.5, 0.4, 0.1]), np.arange(7) < 3
        >>> acceptance_at(scores, same, 0.25), acceptance_at(scores, same, 0.1)
        ((0.6666666666666666, 0.5), (nan, nan))
    """
    similarity, same = _checked(similarity, same)
    known = ~np.isnan(similarity)
    genuine, impostors = similarity[known & same], np.sort(similarity[known & ~same])[::-1]
    allowed = math.floor(false_acceptance * len(impostors) + 1e-9)
    if not len(genuine) or allowed < 1:
        return math.nan, math.nan
    threshold = float(impostors[allowed]) if allowed < len(impostors) else -math.inf
    return float(np.mean(genuine > threshold)), threshold


def _checked(similarity: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(similarity, np.float64), np.asarray(same)
    if values.ndim != 1 or truth.shape != values.shape or truth.dtype != np.bool_:
        raise CanonicalError(
            f"expected P similarities and P bools, got shapes {values.shape} and {truth.shape} of {truth.dtype}."
        )
    return values, truth
