"""The registry of measures: what each of them is computed from, and a measure of one's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from captum.attr import Saliency
from torch.testing import assert_close

from captum_canonical import BenchmarkResult, CanonicalFace, benchmark
from captum_canonical.benchmarking.measures import MEASURES, BenchmarkMeasure, FillScores
from captum_canonical.faithfulness.measures import RemovalCurves
from face_tools import mesh_of, noise
from small_networks import SmallNet

LABEL = "saliency, per image"


def curves(start: float, space: str = "image") -> RemovalCurves:
    """The score falls from ``start`` to 0, halfway at once if the most relevant pixels go first."""
    morf, lerf = torch.tensor([[start, 0.0, 0.0]]), torch.tensor([[start, start, 0.0]])
    return RemovalCurves(torch.tensor([0, 0.5, 1.0]).double(), morf.double(), lerf.double(), ("",), "zero", space)


SCORES = FillScores(
    clean=torch.tensor([0.8]).double(),
    explained={"negative": torch.tensor([0.2]).double(), "positive": torch.tensor([0.9]).double()},
    curves={"image": curves(0.8), "canonical": curves(0.4)},
)


@pytest.mark.parametrize(
    ("measure", "value", "direction"),
    [
        ("average_drop", 75.0, "higher"),
        ("increase_rate", 0.0, "lower"),
        ("mean_drop", 0.6, "higher"),
        ("average_drop_positive", 0.0, "lower"),
        ("increase_rate_positive", 100.0, "higher"),
        ("mean_drop_positive", -0.1, "lower"),
        ("deletion_auc", 0.2, "lower"),
        ("insertion_auc", 0.6, "higher"),
        ("gain", 0.4, "higher"),
        ("deletion_auc_canonical", 0.1, "lower"),
        ("insertion_auc_canonical", 0.3, "higher"),
        ("gain_canonical", 0.2, "higher"),
    ],
)
def test_measures_by_hand(measure: str, value: float, direction: str) -> None:
    values = MEASURES[measure].values(SCORES)
    assert values is not None
    assert_close(values, torch.tensor([value], dtype=torch.float64))
    assert MEASURES[measure].direction == direction
    assert MEASURES[measure].percent == (("drop" in measure and "mean" not in measure) or "increase" in measure)


def test_measures_without_their_curves_have_no_values() -> None:
    without = FillScores(SCORES.clean, SCORES.explained, {"image": curves(0.8)})
    missing = [name for name, measure in MEASURES.items() if measure.values(without) is None]
    assert missing == ["deletion_auc_canonical", "insertion_auc_canonical", "gain_canonical"]


@pytest.fixture
def own_measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    start = BenchmarkMeasure("Insertion, start", "higher", lambda scores: scores.curves["image"].insertion[:, 0])
    monkeypatch.setitem(MEASURES, "insertion_start", start)
    yield


def test_one_entry_adds_a_measure_everywhere(own_measure: None, face: CanonicalFace) -> None:
    net, photos = SmallNet(32), noise(4, 32)
    options = {"faces": mesh_of(face, 4), "canonical_face": face, "fills": ["mean"], "folds": 2, "target": 1}
    methods = {"saliency": Saliency(net)}
    result = benchmark(net, photos, methods, fractions=[0, 0.5, 1], resamples=20, permutations=20, **options)
    row = result[LABEL]
    assert_close(row.per_image["insertion_start", "mean"], row.curves["mean"].lerf[:, -1])
    low, high = result.interval(LABEL, "insertion_start", "mean")
    assert low <= row.value("insertion_start", "mean") <= high
    assert len(result.comparisons("insertion_start", "mean")) == len(result.comparisons("gain", "mean")) > 0
    assert "Insertion, start (higher)" in result.table(measures=["insertion_start"])
    assert f"saliency,per image,0,mean,insertion_start,higher,{row.value('insertion_start', 'mean')}" in result.table(
        "csv"
    )
    again = BenchmarkResult.from_json(result.to_json(per_image=True))
    assert again.table("csv") == result.table("csv")
