"""Where the advantage of model-level maps comes from: differences of rows counted by hand, and sentences about them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.scores import BenchmarkRow
from face_tools import mesh_of
from studies.paper import causes
from studies.paper.causes import agreement, cells_table, contrasts_table, overall_table, quoted_table, steps_table
from studies.paper.contrasts import CIS, CMS, CONTRASTS, OTHERS, TOTAL, Difference, counted, differences, spread, steps
from studies.paper.methods import MEAN, PER_IMAGE, occluding
from studies.paper.study import Results, Task
from studies.paper.study import Settings as StudySettings

N = 12
FILLS = ("zero", "blur")


def result_of(rows: dict[str, Tensor]) -> BenchmarkResult:
    """A benchmark in which each row has these values of Average Drop %, and half of them with the second fill."""
    made = []
    for label, values in rows.items():
        name, kind = label.rsplit(", ", 1)
        made.append(BenchmarkRow(name, kind, control=name == "random"))
        made[-1].per_image = {("average_drop", "zero"): values, ("average_drop", "blur"): values / 2}
    settings = {"fills": FILLS, "unbounded": False, "level": 0.95, "resamples": 50, "permutations": 5000, "seed": 0}
    units = torch.arange(N)
    return BenchmarkResult(tuple(made), settings, (), torch.ones(N).double(), units, units, {})


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


def case(mean: float, p_value: float = 0.01, question: str = "CMS minus the mean face") -> Difference:
    return Difference("the face prior", question, "zero", mean, 0, 0, p_value)


def test_outcomes_of_networks_are_counted() -> None:
    cases = [case(3.0), case(-4.0, 0.04), case(1.0, 0.05), case(9.0, 0.2)]
    assert counted(cases) == "1 higher, 1 lower" and counted(cases[2:]) == "none detected"
    assert spread(cases) == "-4.0 to +9.0 (1 higher, 1 lower)"
    lines = overall_table({"one": cases[:2], "other": cases[2:], "third": []}).split("\n")
    assert lines[0] == "| may come from | difference | one | other | third | over all |" and len(lines) == 3
    cells = "| -4.0 to +3.0 (1 higher, 1 lower) | +1.0 to +9.0 (none detected) |  | 1 higher, 1 lower of 4 |"
    assert lines[2] == "| the face prior | CMS minus the mean face " + cells


def test_steps_from_another_method_to_cms_add_up() -> None:
    """The rows at the ends of neighbouring steps are the same, and the outer ones are those of the whole."""
    for name in OTHERS:
        (_, whole), *parts = steps(name)
        first, last = CONTRASTS[TOTAL][whole]
        pairs = [CONTRASTS[cause][question] for cause, question in parts]
        assert pairs[0][1] == last and pairs[-1][0] == first
        assert [pair[0] for pair in pairs[:-1]] == [pair[1] for pair in pairs[1:]]
    rows = {f"Grad-CAM, none, {PER_IMAGE}": 1.0, f"Grad-CAM, canonical, {PER_IMAGE}": 3.0}
    rows |= {f"Grad-CAM, canonical, {MEAN}": 2.0, CMS: 9.0}
    found = differences(result_of({label: torch.full((N,), x).double() for label, x in rows.items()}))
    lines = steps_table(found, FILLS).split("\n")
    assert len(lines) == 2 + len(FILLS)  # only the method whose rows are there
    whole, carried, averaged, occlusion = ("+8.0", "+2.0", "-1.0", "+7.0")
    cells = " | ".join(f"**{x} [{float(x):.1f}, {float(x):.1f}]**" for x in (whole, carried, averaged, occlusion))
    assert lines[2] == f"| Grad-CAM | zero | {cells} |"


def test_what_was_measured_earlier_stands_beside(result: BenchmarkResult) -> None:
    """CMS is 10 to 32 here with mean 21, single maps are 41: the intervals of their means are a few points wide."""
    lines = quoted_table({"Faces": result}, {"expression": "Faces"}).split("\n")
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| Faces | CMS | 16 to 25 | 21.0 [") and lines[2].endswith("| yes |")
    assert "| blurred noise (control: random) | 6 to 10 | 21.0 [" in lines[3] and lines[3].endswith("| higher here |")
    assert "| occlusion, single maps | 25 to 79 | 41.0 [" in lines[4]
    assert agreement(result, CIS, 60, 70) == "lower here"


def test_without_alignment_all_of_the_photograph_is_hidden_somewhere_and_as_densely(tmp_path: Path) -> None:
    """A network that reads a corner beyond the face: only occlusion without alignment can find it."""

    class Corner(torch.nn.Module):
        def forward(self, photos: Tensor) -> Tensor:
            dark = photos[:, 0, :6, :6].mean((1, 2))
            return torch.stack([dark, -dark], 1)

    face = cc.CanonicalFace.default(64)
    mesh = mesh_of(face, scale=0.6)
    net = cc.ClassConfidence(Corner()).eval()
    parts = {"target": torch.zeros(1, dtype=torch.int64), "photos": torch.ones(1, 3, 64, 64), "mesh": mesh}
    task = Task("one", "One", net, net, "", net, **parts, fill=torch.zeros(1, 3, 1, 1))
    results = Results(tmp_path, tmp_path, None, tmp_path, StudySettings(points=48))
    for alignment, (aligned, canonical) in results.alignments(task).items():
        method, arguments = occluding(task, task.explained, results.settings, aligned, canonical)
        maps = method.attribute(task.photos, target=task.target, **arguments)
        assert bool(maps.abs().max() > 1e-3) == (alignment == "none")
        if alignment == "none":
            assert bool((maps[..., :6, :6] > 1e-3).all()) and maps[..., 20:, 20:].abs().max() < 1e-6
            share = float(cc.CanonicalProjector(None).reproject(torch.ones(1, 1, 224, 224), mesh).mean())
            assert abs(arguments["num_points"] * share - 48) < 6


def test_every_cause_of_the_question_is_asked_about() -> None:
    """Occlusion, averaging, alignment, link, pooling, one map per class and the face prior, of all methods."""
    assert len(CONTRASTS) == 10
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
    monkeypatch.setattr("studies.paper.page.facts", lambda results: [("points", 96)])
    settings = SimpleNamespace(fills=FILLS, permutations=5000, resamples=50)
    results = SimpleNamespace(
        task=lambda name: SimpleNamespace(title="Gender"), settings=settings, faces=[0] * N, out=tmp_path, command="RUN"
    )
    figure = causes.table_of_causes(results, tmp_path / "causes.png")
    page = (tmp_path / causes.ANSWER).read_text()
    assert "![" not in page and "Written by `RUN`" in page and "| points | 96 |" in page
    assert all(line in page for line in figure.table.split("\n") if line.startswith("|"))
    assert f"## Gender, n = {N}" in page and "| 2 lower of 2 |" in page
    levels = [len(line.split()[0]) for line in page.split("\n") if line.startswith("#")]
    assert levels == [1] + [2] * 4  # no level is left out, as Sphinx demands
