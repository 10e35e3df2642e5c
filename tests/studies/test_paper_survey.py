"""The survey of the reproduced paper: its pictures, the answers that are read back, and their percentages."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import captum_canonical as cc
from captum_canonical.faces.photos import read_photo
from face_tools import mesh_of
from small_networks import SmallNet
from studies.paper import answers as replies
from studies.paper import stimuli as pictures_of
from studies.paper import survey
from studies.paper.answers import intervals, read_answers, wrong_answers
from studies.paper.stimuli import METHODS, Stimulus, chosen_photographs
from studies.paper.study import Settings, Task

SIDE = 40
PEOPLE = 8


def small_task(name: str, channels: int = 3, classes: tuple[str, ...] = ()) -> Task:
    net = SmallNet(SIDE, in_channels=channels, classes=max(2, len(classes)), pool=1, softmax=False)
    net.classes = classes
    mesh = mesh_of(cc.CanonicalFace.default(SIDE), moved=(2 * torch.rand(PEOPLE, 2)).tolist())
    odds, probability = cc.ClassConfidence(net, link="log_odds"), cc.ClassConfidence(net)
    target, photos = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1]), 0.2 + 0.8 * torch.rand(PEOPLE, channels, SIDE, SIDE)
    return Task(
        name, f"{name} net", odds, probability, "log-odds", net.conv0, target, photos, mesh, torch.zeros(1, 1, 1)
    )


@dataclass
class SmallResults:
    """What the survey needs of the real results."""

    out: Path
    answers: Path | None = None
    settings: Settings = field(default_factory=lambda: Settings(resamples=100))
    canonical: cc.CanonicalFace = field(default_factory=cc.CanonicalFace.default)

    def __post_init__(self) -> None:
        self.tasks = {
            "gender": small_task("gender"),
            "gender_mini": small_task("gender_mini", channels=1),
            "expression": small_task("expression", classes=("neutral", "happy", "sad")),
        }

    def task(self, name: str) -> Task:
        return self.tasks[name]

    def maps(self, name: str) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        maps = torch.randn(PEOPLE, 1, *self.canonical.size, generator=generator)
        return maps, (torch.rand(maps.shape, generator=generator) > 0.3).float()

    def arrays(self, name: str, compute) -> dict[str, np.ndarray]:
        return compute()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallResults:
    torch.manual_seed(5)
    results = SmallResults(tmp_path_factory.mktemp("study"))
    pictures_of.survey(results)
    return results


# --------------------------------------------------------------------------------------------------------- pictures
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.sampled_from([2, 6, 12]))
def test_photographs_are_as_balanced_as_their_numbers_allow(answers: list[int], count: int) -> None:
    rows = chosen_photographs(torch.tensor(answers), (1, 2), count)
    available = [answers.count(1), answers.count(2)]
    assert rows == sorted(set(rows)) == chosen_photographs(torch.tensor(answers), (1, 2), count)
    chosen = [sum(answers[row] == answer for row in rows) for answer in (1, 2)]
    assert sum(chosen) == len(rows) == min(count, sum(available))
    # The rarer answer is never given up for the other one.
    assert min(chosen) == min(*available, count // 2)


def test_the_mean_leaves_its_own_photograph_and_other_answers_out() -> None:
    face = cc.CanonicalFace.default()
    maps, target = torch.randn(5, 1, *face.size).double(), torch.tensor([0, 1, 0, 0, 2])
    coverage = (torch.rand(maps.shape) > 0.4).double()
    for row, others in ((0, [2, 3]), (3, [0, 2]), (4, [0, 1, 2, 3])):
        found = pictures_of.mean_without(maps, coverage, target, row, face)
        for y, x in ((50, 60), (100, 112), (170, 90), (120, 30)):
            seen = [float(maps[other, 0, y, x]) for other in others if coverage[other, 0, y, x]]
            assert float(found[y, x]) == pytest.approx(sum(seen) / len(seen) if seen else 0.0, abs=1e-5)
        everybody = pictures_of.mean_without(maps, coverage, target, row, face, alike=False)
        rest = [other for other in range(5) if other != row]
        seen = [float(maps[other, 0, 100, 112]) for other in rest if coverage[other, 0, 100, 112]]
        assert float(everybody[100, 112]) == pytest.approx(sum(seen) / len(seen) if seen else 0.0, abs=1e-5)
        changed = maps.clone()
        changed[row] = 1e6
        torch.testing.assert_close(pictures_of.mean_without(changed, coverage, target, row, face), found)


def test_all_methods_hide_equally_many_pixels_and_nothing_else_changes() -> None:
    task = small_task("gender")
    ramp = torch.arange(SIDE * SIDE).view(1, 1, SIDE, SIDE).expand(PEOPLE, -1, -1, -1) + 1.0
    maps = {"noise": torch.randn(PEOPLE, 1, SIDE, SIDE), "ramp": ramp, "nothing": -ramp}
    pictures, masses = pictures_of.hidden(task, maps)
    torch.testing.assert_close(masses["noise"], masses["ramp"])
    assert (masses["noise"] > 50).all() and (masses["nothing"] == 0).all()
    light = pictures_of.vignette(task.mesh).float()
    torch.testing.assert_close(pictures["nothing"], task.photos * light)
    for name in ("noise", "ramp"):
        changed = (pictures[name] != pictures["nothing"]).any(1, keepdim=True)
        assert not changed[light <= 0.5].any()
        assert ((changed.sum((1, 2, 3)) - masses[name]).abs() <= 1).all()  # the last pixel is hidden in part
        black = changed & (pictures[name].amax(1, keepdim=True) == 0)
        assert ((changed & ~black).sum((1, 2, 3)) <= 1).all()
    lowest = torch.where(pictures["ramp"] != pictures["nothing"], ramp, torch.inf).amin((1, 2, 3))
    assert (lowest > ramp.max() / 2).all()  # the highest of the ramp


def test_the_vignette_is_bright_in_the_middle_and_black_in_the_corners() -> None:
    face = cc.CanonicalFace.default(SIDE)
    mesh = cc.FaceMesh(face.vertices[None], image_size=(SIDE, SIDE), topology=face.topology)
    light = pictures_of.vignette(mesh)[0, 0]
    torch.testing.assert_close(light, light.flip(1))  # the shipped face is symmetric
    assert light[SIDE // 2, SIDE // 2] == 1 and light[0, 0] == 0 and light[-1, -1] == 0
    assert (light[SIDE // 2].diff()[SIDE // 2 :] <= 0).all()


def test_participants_cannot_tell_the_method(small: SmallResults) -> None:
    folder, stimuli = small.out / "survey", pictures_of.survey(small)
    with open(folder / "stimuli.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "task", "choice_1", "choice_2"]
    assert [row["file"] for row in rows] == [f"{number:03d}.png" for number in range(1, len(rows) + 1)]
    assert sorted(path.name for path in folder.glob("*.png")) == [row["file"] for row in rows]
    assert len(stimuli) == 2 * 8 * len(METHODS)
    runs = sum(one.method != other.method for one, other in pairwise(stimuli))
    assert runs > len(stimuli) / 2  # neither sorted by method nor by task
    groups = Counter((stimulus.task, stimulus.photograph) for stimulus in stimuli)
    assert set(groups.values()) == {len(METHODS)}
    for stimulus in stimuli:
        task = small.task(stimulus.task)
        assert stimulus.truth == task.class_name(int(task.target[stimulus.photograph])) in stimulus.choices
        assert read_photo(folder / stimulus.file).shape == (SIDE, SIDE, 3)


def test_a_survey_is_made_once(small: SmallResults) -> None:
    before = pictures_of.survey(small)
    first = small.out / "survey" / before[0].file
    first.touch()
    time = first.stat().st_mtime_ns
    again = SmallResults(small.out)  # other weights, other photographs
    assert pictures_of.survey(again) == before
    assert first.stat().st_mtime_ns == time


# ---------------------------------------------------------------------------------------------------------- answers
def stimulus(number: int, method: str, photograph: int = 0, truth: str = "male", task: str = "gender") -> Stimulus:
    return Stimulus(f"{number:03d}.png", task, "male", "female", photograph, method, truth, 10.0)


FEW = [stimulus(number, method) for number, method in enumerate(METHODS, 1)]


def test_single_bad_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    lines = ["participant,answer,file,seconds", "ann, Male ,001.png,3", "bob,female,001.png,2", "ann,female,001.png,1"]
    lines += ["ann,male,009.png,1", "ann,maybe,002.png,1", ",male,002.png,1", "ann,,002.png,1", "ann,male", ""]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    answers, left_out = read_answers(path, FEW)
    assert answers == {("ann", "001.png"): "male", ("bob", "001.png"): "female"}
    assert left_out == {
        "a second answer of a participant to a file": 1,
        "unknown file": 2,
        "none of the two choices": 2,
        "no participant": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "participant, file, answer missing, found nothing"),
        (b"participant,file\nann,001.png\n", "answer missing, found participant, file"),
        (b"participant,file,answer\n", "none of its 0 lines"),
        (b"participant,file,answer\nann,x.png,male\n", r"none of its 1 lines can be used. Left out: 1 lines \(unknown"),
        (b"\xff\xfe\x00p", "codec"),
    ],
)
def test_files_that_hold_no_answers_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "answers.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        read_answers(path, FEW)


def test_percentages_of_answers_made_by_hand() -> None:
    stimuli = [
        stimulus(10 * photo + place, method, photo, truth)
        for photo, truth in ((1, "male"), (2, "female"))
        for place, method in enumerate(METHODS)
    ]
    answers = {(who, one.file): "male" for who in ("ann", "bob") for one in stimuli}
    answers["ann", "013.png"] = "female"  # CMS of photograph 1: wrong
    del answers["bob", "020.png"]  # Grad-CAM of photograph 2
    wrong = wrong_answers(answers, stimuli, "gender")
    nan = float("nan")
    expected = [[[0, 1], [0, nan]], [[0, 1], [0, 1]], [[0, 1], [0, 1]], [[1, 1], [0, 1]], [[0, 1], [0, 1]]]
    torch.testing.assert_close(wrong, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert [intervals(100 * values, 50)[0] for values in wrong] == pytest.approx([100 / 3, 50, 50, 75, 50])
    assert wrong_answers(answers, stimuli, "expression").numel() == 0


# -------------------------------------------------------------------------------------------------------- intervals
def test_the_interval_is_that_of_a_loop_over_drawn_participants_and_photographs() -> None:
    values = torch.tensor([[0.0, 100, 100, 0, 100], [0, 100, float("nan"), 0, 0], [0, 0, 100, 0, 100]]).double()
    mean, low, high = intervals(values, 400, seed=9)
    generator = torch.Generator().manual_seed(9)
    people = torch.randint(3, (400, 3), generator=generator)
    photos = torch.randint(5, (400, 5), generator=generator)
    means = []
    for draw in range(400):
        cells = [float(values[p, b]) for p in people[draw] for b in photos[draw]]
        cells = [cell for cell in cells if cell == cell]
        means.append(sum(cells) / len(cells))
    assert mean == pytest.approx(600 / 14)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_one_participant_is_not_drawn_and_agreement_has_no_width() -> None:
    one = torch.tensor([[0.0, 100, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]]).double()
    mean, low, high = intervals(one, 2000)
    assert mean == pytest.approx(200 / 12) and low == 0 and 25 <= high <= 50
    assert intervals(torch.zeros(3, 12).double(), 100) == (0, 0, 0)
    assert np.isnan(intervals(torch.zeros(2, 1).double(), 100)[1:]).all()


# ---------------------------------------------------------------------------------------------------------- figures
def test_figures_without_answers_say_that_nobody_was_asked(small: SmallResults) -> None:
    sheet = survey.figure_14(small, small.out / "fig14.png")
    assert sheet.n == 16 and "80 pictures" in sheet.text and not sheet.missing
    shown = survey.figure_15(small, small.out / "fig15.png")
    assert shown.missing.startswith("Nobody was asked") and "--answers" in shown.missing
    answers, left_out = read_answers(small.out / "survey" / "machine_answers.csv", pictures_of.survey(small))
    assert len(answers) == 80 and not left_out
    assert {who for who, _ in answers} == {replies.OTHER, replies.ITSELF}
    assert min((small.out / name).stat().st_size for name in ("fig14.png", "fig15.png")) > 5000


def test_answers_of_people_are_what_the_figure_shows(small: SmallResults, tmp_path: Path) -> None:
    lines = ["participant,file,answer", "ann,lost.png,male"]
    for one in pictures_of.survey(small):
        other = one.choice_2 if one.truth == one.choice_1 else one.choice_1
        lines += [f"{who},{one.file},{other if one.method == 'CMS' else one.truth}" for who in ("ann", "bob")]
    (tmp_path / "answers.csv").write_text("\n".join(lines))
    asked = SmallResults(small.out, tmp_path / "answers.csv")
    shown = survey.figure_15(asked, tmp_path / "fig15.png")
    assert not shown.missing and "Left out: 1 lines (unknown file)." in shown.text and "machine" not in shown.text
    assert "| gender | CMS | 2 | 8 | 16 | 100.0 [100.0, 100.0] |  |" in shown.table
    assert "| expression | Score-CAM | 2 | 8 | 16 | 0.0 [0.0, 0.0] | +100.0 [+100.0, +100.0] |" in shown.table
