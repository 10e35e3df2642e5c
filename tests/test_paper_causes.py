"""Where the advantage of model-level maps comes from: differences of rows counted by hand, and sentences about them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from captum_canonical.benchmarking import BenchmarkResult, Row
from captum_canonical.benchmarking.saved import KnownFill
from captum_canonical.benchmarking.settings import Settings
from paper import causes
from paper.causes import CIS, CMS, CONTRASTS, Difference, cells_table, contrasts_table, counted, differences, sentences
from paper.methods import MEAN, PER_IMAGE

N = 12
FILLS = ("zero", "blur")


def result_of(rows: dict[str, Tensor]) -> BenchmarkResult:
    """A benchmark in which each row has these values of Average Drop %, and half of them with the second fill."""
    made = []
    for label, values in rows.items():
        name, kind = label.rsplit(", ", 1)
        made.append(Row(name, kind, control=name == "random"))
        made[-1].per_image = {("average_drop", "zero"): values, ("average_drop", "blur"): values / 2}
    settings = Settings(
        fills=tuple(KnownFill(name) for name in FILLS),
        folds=2,
        budget=0.1,
        sign="positive",
        fractions=(0.0, 1.0),
        spaces=(),
        unbounded=False,
        symmetric=False,
        per_target=True,
        batch_size=4,
        resamples=50,
        permutations=5000,
        seed=0,
    )
    units = torch.arange(N)
    return BenchmarkResult(tuple(made), {}, (), torch.ones(N).double(), units, units, {}, {}, {}, settings)


@pytest.fixture
def result() -> BenchmarkResult:
    """The mean hides 20 points less than single maps, for every photograph; random maps hide as much as the mean."""
    single = torch.linspace(30, 52, N, dtype=torch.float64)
    turns = torch.tensor([1.0, -1.0]).double().repeat(N // 2)
    return result_of({CIS: single, CMS: single - 20, f"random, {PER_IMAGE}": single - 20 + turns})


def test_differences_are_those_of_the_rows(result: BenchmarkResult) -> None:
    found = {(d.question, d.fill): d for d in differences(result, permutations=5000)}
    assert {question for question, _ in found} == {
        "mean minus single maps, Occlusion",
        "CMS minus random maps",
        "occlusion's single maps minus random maps",
    }
    assert len(found) == 3 * len(FILLS)
    fell = found["mean minus single maps, Occlusion", "zero"]
    assert (fell.mean, fell.low, fell.high, fell.outcome) == (-20, -20, -20, -1)
    # All of 2^12 sign patterns: only the observed one and its opposite reach it, in four of the six tests alike.
    assert fell.p_value == pytest.approx(6 * 2 / 2**12)
    none = found["CMS minus random maps", "blur"]
    assert none.mean == 0 and none.p_value == 1 and none.outcome == 0 and none.low < 0 < none.high
    more = found["occlusion's single maps minus random maps", "blur"]
    assert more.mean == 10 and more.outcome == 1


def test_tables_say_what_was_found(result: BenchmarkResult) -> None:
    found = differences(result, permutations=5000)
    lines = contrasts_table(found, FILLS).split("\n")
    assert lines[0] == "| may come from | difference | fill zero | fill blur |" and len(lines) == 2 + 3
    assert "| averaging | mean minus single maps, Occlusion | **-20.0 [-20.0, -20.0]** | **-10.0" in lines[2]
    assert "CMS minus random maps | +0.0 [" in lines[3]
    cells = cells_table(result, "blur").split("\n")
    assert cells[0].startswith("| fill blur | canonical, per image | canonical, canonical mean | keypoint, per image |")
    assert cells[2].startswith("| Occlusion | 20.5 [") and cells[2].endswith("|  |  |  |  |") and len(cells) == 3
    rest = causes.rest_table(result).split("\n")
    assert len(rest) == 3 and rest[2].startswith("| random (control) | per image | 21.0 [")


def test_sentences_count_outcomes() -> None:
    def case(mean: float, p_value: float) -> Difference:
        return Difference("the face prior", "CMS minus the mean face", "zero", mean, 0, 0, p_value)

    cases = [case(3.0, 0.01), case(-4.0, 0.04), case(1.0, 0.05), case(9.0, 0.2)]
    assert counted(cases) == (
        "higher in 1 of 4, lower in 1, no difference detected in 2 (median +2.0, from -4.0 to +9.0)"
    )
    (told,) = sentences({"one": cases[:2], "other": cases[2:]})
    assert told == f"- **The face prior.** CMS minus the mean face: {counted(cases)}."


def test_every_cause_of_the_question_is_asked_about() -> None:
    """Occlusion, averaging, alignment, link, pooling, one map per class and the face prior, of all methods."""
    assert len(CONTRASTS) == 8
    pairs = [pair for contrasts in CONTRASTS.values() for pair in contrasts.values()]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    for name in ("Occlusion", "Grad-CAM", "Grad-CAM++", "Score-CAM", "Integrated gradients"):
        assert (f"{name}, canonical, {MEAN}", f"{name}, canonical, {PER_IMAGE}") in pairs
        for other in ("keypoint", "none"):
            assert (f"{name}, canonical, {MEAN}", f"{name}, {other}, {MEAN}") in pairs


def test_the_answer_is_a_page_without_pictures(
    result: BenchmarkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "FACTORIAL", ("gender",))
    monkeypatch.setattr(causes, "scored", lambda results, name: result)
    monkeypatch.setattr(causes, "draw", lambda *arguments: None)
    monkeypatch.setattr(causes, "facts", lambda results: [("points", 96)])
    settings = SimpleNamespace(fills=FILLS, permutations=5000, resamples=50)
    results = SimpleNamespace(
        task=lambda name: SimpleNamespace(title="Gender"), settings=settings, faces=[0] * N, out=tmp_path, command="RUN"
    )
    figure = causes.table_of_causes(results, tmp_path / "causes.png")
    page = (tmp_path / causes.ANSWER).read_text()
    assert "![" not in page and figure.table in page and "Written by `RUN`" in page and "| points | 96 |" in page
    assert f"### Gender, n = {N}" in page and "higher in 0 of 2, lower in 2, no" in page
