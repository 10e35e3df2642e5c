"""Which of several methods changes the confidence most, image by image (Eq. 13 of Canonical Saliency Maps)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from captum_canonical.checks import check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.faithfulness.measures import TOLERANCE, Direction, Explanation, confidences_of


class Wins(NamedTuple):
    """Which method's explanation images change the confidence most.

    Attributes:
        methods: their names, M of them.
        percent: (M,) float64, Win % of each; they sum to 100. Depends on who takes part.
        pairwise: (M, M) float64, in how many % of the images row beats column, a tie as half; 50 on the diagonal.
            An entry does not depend on the other methods.
        ties: number of images in which several methods share the win.
        pairwise_ties: (M, M) int64, number of images in which row and column tie.
        n: number of images.
        explanation: the explanation images that were scored: the lowest confidence wins with negative ones, the
            highest with positive ones.
        direction: ``"higher"``, of ``percent``.
    """

    methods: tuple[str, ...]
    percent: Tensor
    pairwise: Tensor
    ties: int
    pairwise_ties: Tensor
    n: int
    explanation: Explanation
    direction: Direction = "higher"


def win_rates(
    explained: Mapping[str, Tensor],
    *,
    explanation: Explanation = "negative",
    unbounded: bool = False,
    tolerance: float = TOLERANCE,
) -> Wins:
    """Win % (Eq. 13) of any number of methods, and who beats whom.

    Methods that tie share the win of an image, so that the percentages sum to 100 (by Eq. 13 nobody would win, in the
    released code the method listed first).

    Args:
        explained: for each method (N,) confidences of its explanation images, of the same images in the same order.
        explanation, unbounded: as in :func:`average_drop`.
        tolerance: as in :func:`increase_rate`; all within it of the winner tie with it.

    Raises:
        CanonicalError: as in :func:`average_drop`, or no methods.

    Example::

        >>> wins = win_rates({"a": torch.tensor([0.25, 0.5]), "b": torch.tensor([0.5, 0.5])})
        >>> wins.percent.tolist(), wins.ties
        ([75.0, 25.0], 1)
    """
    scores = scores_of(explained, explanation, unbounded)
    return wins_of(tuple(explained), explanation, len(scores[0]), *count_wins(scores, explanation, tolerance))


def win_shares(
    explained: Mapping[str, Tensor],
    *,
    explanation: Explanation = "negative",
    unbounded: bool = False,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """(M, N) float64, the share of each image that each of M methods wins: 1, 0, or 1 / k if k tie; as win_rates.

    Example::

        >>> win_shares({"a": torch.tensor([0.25, 0.5]), "b": torch.tensor([0.5, 0.5])}).tolist()
        [[1.0, 0.5], [0.0, 0.5]]
    """
    return _shares_of(scores_of(explained, explanation, unbounded), explanation, tolerance)


def scores_of(explained: Mapping[str, Tensor], explanation: Explanation, unbounded: bool) -> Tensor:
    """(M, N) float64 scores of all methods."""
    if not isinstance(explained, Mapping) or not explained:
        got = "none" if isinstance(explained, Mapping) else f"a {type(explained).__name__}"
        raise CanonicalError(f"explained: expected the scores of at least one method, got {got}.")
    first = next(iter(explained.values()))
    rows = [confidences_of(scores, first, explanation, unbounded, "win_rates")[0] for scores in explained.values()]
    return torch.stack(rows)


def _shares_of(scores: Tensor, explanation: Explanation, tolerance: float) -> Tensor:
    best = scores.amin(0) if explanation == "negative" else scores.amax(0)
    winner = _equal(scores, best, tolerance)
    return winner.double() / winner.sum(0)


def count_wins(scores: Tensor, explanation: Explanation, tolerance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of (M, N) scores, in images: wins (M,), ties at the top (), row beats column (M, M), row ties column (M, M)."""
    shares = _shares_of(scores, explanation, tolerance)
    row, column = scores[:, None], scores[None]
    tie = _equal(row, column, tolerance)
    beats = ((row < column) if explanation == "negative" else (row > column)) & ~tie
    return shares.sum(1), ((shares > 0).sum(0) > 1).sum(), beats.sum(2), tie.sum(2)


def wins_of(
    methods: tuple[str, ...], explanation: Explanation, n: int, won: Tensor, ties: Tensor, beats: Tensor, tied: Tensor
) -> Wins:
    """The counts of :func:`count_wins` over ``n`` images as percentages."""
    percent, pairwise = 100 * won / n, 100 * (beats.double() + tied.double() / 2) / n
    return Wins(methods, percent, pairwise, int(ties), tied, n, explanation)


def _equal(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    check_number("tolerance", tolerance, least=0, below=1)
    return (a - b).abs() <= tolerance * torch.maximum(a.abs(), b.abs())
