"""From maps to every number, by hand: five images, two methods, with a tie, a zero map, an increase and a broad map.

Each image is four pixels wide, x = (1, 1/2, 1, c), and the confidence is x0/4 + x1/2 - x2/4 + 1/4 = 1/2, whatever c.
Hidden pixels are 0 and the budget is one pixel. Hiding pixel 0 or 1 takes 1/4 away, hiding pixel 2 adds 1/4, hiding
pixel 3 does nothing; with everything hidden the confidence is 1/4.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import average_drop, increase_rate, mean_drop
from captum_canonical.faithfulness.metrics import AverageDrop, IncreaseRate, MeanCurves, MeanDrop, WinRate
from captum_canonical.faithfulness.wins import win_rates

WEIGHTS = torch.tensor([1 / 4, 1 / 2, -1 / 4, 0.0], dtype=torch.float64)
IMAGES = torch.tensor([[1, 1 / 2, 1, c] for c in (0, 1, 2, 3, 4)], dtype=torch.float64)[:, None, None]
MAPS = {
    # a peak on pixel 1; zero; a peak on pixel 2, where the confidence rises; a peak on pixel 0; half on 0, half on 1
    "ours": [(0, 7, 0, 0), (0, 0, 0, 0), (0, 0, 7, 0), (7, 0, 0, 0), (1, 1, 0, 0)],
    # on pixel 3, which does nothing; on 1; on 3; on 1, which ties with pixel 0; nothing but counter-evidence
    "cam": [(0, 0, 0, 7), (0, 7, 0, 0), (0, 0, 0, 7), (0, 7, 0, 0), (-1, -1, -1, -1)],
}
NEGATIVE = {"ours": [1 / 4, 1 / 2, 3 / 4, 1 / 4, 1 / 4], "cam": [1 / 2, 1 / 4, 1 / 2, 1 / 4, 1 / 2]}
# One pixel shown, the others 0; nothing shown where the mask is empty.
POSITIVE = {"ours": [1 / 2, 1 / 4, 0, 1 / 2, 1 / 2], "cam": [1 / 4, 1 / 2, 1 / 4, 1 / 2, 1 / 4]}


def confidence(x: Tensor) -> Tensor:
    return (x[:, 0, 0] * WEIGHTS).sum(1) + 1 / 4


def maps_of(method: str) -> Tensor:
    return torch.tensor(MAPS[method], dtype=torch.float64)[:, None, None]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(params=[1, 7, 32])
def batch(request: pytest.FixtureRequest) -> int:
    return request.param


def explained(method: str, explanation: str, batch: int) -> Tensor:
    masks = explanation_masks(maps_of(method), budget=1 / 4)
    return score_explanations(confidence, IMAGES, masks, explanation=explanation, fill="zero", batch_size=batch)  # type: ignore[arg-type]


def exactly(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=0)


def test_masks() -> None:
    masks = explanation_masks(maps_of("ours"), budget=1 / 4)
    rows = [(0, 1, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0), (1 / 2, 1 / 2, 0, 0)]
    exactly(masks.values[:, 0, 0], torch.tensor(rows, dtype=torch.float64))
    assert masks.flags == ("", "zero", "", "", "")
    assert explanation_masks(maps_of("cam"), budget=1 / 4).flags == ("", "", "", "", "negative")


@pytest.mark.parametrize("method", ["ours", "cam"])
def test_scores(method: str, batch: int) -> None:
    exactly(explained(method, "negative", batch), numbers(*NEGATIVE[method]))
    exactly(explained(method, "positive", batch), numbers(*POSITIVE[method]))


def test_drops_and_increases(batch: int) -> None:
    clean = confidence(IMAGES)
    exactly(clean, numbers(*[1 / 2] * 5))
    ours, cam = (explained(name, "negative", batch) for name in ("ours", "cam"))
    exactly(average_drop(clean, ours).per_image, numbers(50, 0, 0, 50, 50))
    assert (average_drop(clean, ours).value, average_drop(clean, cam).value) == (30, 20)
    assert (increase_rate(clean, ours).value, increase_rate(clean, cam).value) == (20, 0)
    exactly(mean_drop(clean, ours).per_image, numbers(1 / 4, 0, -1 / 4, 1 / 4, 1 / 4))
    assert (mean_drop(clean, ours).value, mean_drop(clean, cam).value) == (0.1, 0.1)
    shown = explained("ours", "positive", batch)
    positive = average_drop(clean, shown, explanation="positive")
    exactly(positive.per_image, numbers(0, 50, 100, 0, 0))
    assert (positive.value, positive.direction) == (30, "lower")
    assert increase_rate(clean, shown, explanation="positive").value == 0


def test_wins(batch: int) -> None:
    """Ours, cam, cam, tie, ours. Positive: ours, cam, cam, tie, ours."""
    for explanation in ("negative", "positive"):
        scores = {name: explained(name, explanation, batch) for name in MAPS}
        wins = win_rates(scores, explanation=explanation)  # type: ignore[arg-type]
        exactly(wins.percent, numbers(50, 50))
        assert (wins.ties, wins.n, float(wins.percent.sum())) == (1, 5, 100)
        exactly(wins.pairwise, torch.full((2, 2), 50.0, dtype=torch.float64))
    # A third method that wins two images more, one of them shared with the tie, takes from each as much as it wins.
    scores = {name: numbers(*NEGATIVE[name]) for name in MAPS} | {"third": numbers(1, 1, 0, 1 / 4, 1)}
    wins = win_rates(scores)
    assert_close(wins.percent, numbers(2 + 1 / 3, 1 + 1 / 3, 1 + 1 / 3) * 20)
    exactly(wins.pairwise[:2, :2], torch.full((2, 2), 50.0, dtype=torch.float64))


def test_deletion_and_insertion(batch: int) -> None:
    fractions = [0, 1 / 4, 1 / 2, 3 / 4, 1]
    curves = removal_curves(confidence, IMAGES, maps_of("ours"), fill="zero", fractions=fractions, batch_size=batch)
    # Most relevant first. Pixels that tie fade together: those of image 0 change nothing in sum, 1/4 - 1/4 + 0.
    rows = [
        (1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4),
        (1 / 2, 7 / 16, 3 / 8, 5 / 16, 1 / 4),  # no order: everything fades
        (1 / 2, 3 / 4, 7 / 12, 5 / 12, 1 / 4),
        (1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4),
        (1 / 2, 1 / 4, 0, 1 / 8, 1 / 4),
    ]
    assert_close(curves.deletion, torch.tensor(rows, dtype=torch.float64))
    # Least relevant first, read backwards: from everything hidden to the image.
    rows = [
        (1 / 4, 1 / 2, 1 / 2, 1 / 2, 1 / 2),
        (1 / 4, 5 / 16, 3 / 8, 7 / 16, 1 / 2),
        (1 / 4, 0, 1 / 6, 1 / 3, 1 / 2),
        (1 / 4, 1 / 2, 1 / 2, 1 / 2, 1 / 2),
        (1 / 4, 1 / 2, 3 / 4, 5 / 8, 1 / 2),
    ]
    assert_close(curves.insertion, torch.tensor(rows, dtype=torch.float64))
    assert curves.flags == ("", "constant", "", "", "")
    # Mean heights: half of the first and last, and the three between, over 4.
    assert_close(curves.deletion_auc, numbers(9 / 32, 3 / 8, 17 / 32, 9 / 32, 3 / 16))
    assert_close(curves.insertion_auc, numbers(15 / 32, 3 / 8, 7 / 32, 15 / 32, 9 / 16))
    assert_close(curves.gain, numbers(6 / 32, 0, -10 / 32, 6 / 32, 12 / 32))


def test_metrics_that_add_up_batch_by_batch() -> None:
    clean = confidence(IMAGES)
    metrics = AverageDrop(), IncreaseRate(), MeanDrop(), WinRate(["ours", "cam"])
    curves = removal_curves(confidence, IMAGES, maps_of("ours"), fill="zero", fractions=[0, 1 / 2, 1])
    mean = MeanCurves(curves)
    for rows in (slice(0, 2), slice(2, 5)):
        scores = {name: numbers(*NEGATIVE[name])[rows] for name in MAPS}
        for metric in metrics[:3]:
            metric.update(clean[rows], scores["ours"])
        metrics[3].update(scores)
        part = maps_of("ours")[rows]
        mean.update(removal_curves(confidence, IMAGES[rows], part, fill="zero", fractions=[0, 1 / 2, 1]))
    assert [float(metric.compute()) for metric in metrics[:3]] == [30, 20, 0.1]
    assert metrics[3].compute().percent.tolist() == [50, 50]
    assert_close(mean.compute()["deletion_auc"], curves.deletion_auc.mean())
