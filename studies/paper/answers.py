"""Answers to the survey: read from a CSV, given by networks where nobody was asked, and counted."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_canonical.faces.images import crop_photo, to_tensor
from captum_canonical.faces.photos import read_photo
from captum_canonical.statistics.bootstrap import bootstrap_interval
from studies.face_nets.networks import LUMA
from studies.face_nets.photographs import TIGHT, WITH_HAIR
from studies.paper.stimuli import METHODS, SEED, Stimulus, write_csv
from studies.paper.study import Results

COLUMNS = ("participant", "file", "answer")
OTHER_NAMES = {"woman": "female", "man": "male"}  # what mini-XCEPTION calls the choices
ITSELF, OTHER = "the explained network itself (machine)", "mini-XCEPTION (machine)"
Answers = dict[tuple[str, str], str]
"""(participant, file) -> one of the file's two choices."""


def read_answers(path: Path, stimuli: Sequence[Stimulus]) -> tuple[Answers, Counter[str]]:
    """The usable lines of a file of answers, and how many lines are left out for which reason.

    Raises:
        SystemExit: there is no such file, it is no CSV with the columns, or none of its lines can be used.
    """
    expected = f"{path}: expected a CSV file with the columns {', '.join(COLUMNS)} and a line for each answer"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a byte order mark
            reader = csv.DictReader(file)
            columns, lines = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"{expected} ({error}).") from None
    if missing := [name for name in COLUMNS if name not in columns]:
        raise SystemExit(f"{expected}; {', '.join(missing)} missing, found {', '.join(columns) or 'nothing'}.")
    known = {stimulus.file: {choice.lower(): choice for choice in stimulus.choices} for stimulus in stimuli}
    answers: Answers = {}
    left_out: Counter[str] = Counter()
    for line in lines:
        who, name, answer = ((line[column] or "").strip() for column in COLUMNS)
        if reason := _why_not(who, name, answer.lower(), known, answers):
            left_out[reason] += 1
        else:
            answers[who, name] = known[name][answer.lower()]
    if not answers:
        raise SystemExit(f"{expected}; none of its {len(lines)} lines can be used. {lines_left_out(left_out)}".strip())
    return answers, left_out


def _why_not(who: str, file: str, answer: str, known: Mapping[str, Mapping[str, str]], answers: Answers) -> str:
    """Why a line does not count, or nothing."""
    if not who:
        return "no participant"
    if file not in known:
        return "unknown file"
    if answer not in known[file]:
        return "none of the two choices"
    return "a second answer of a participant to a file" if (who, file) in answers else ""


def lines_left_out(reasons: Counter[str]) -> str:
    """A sentence about lines that do not count."""
    return "".join(f"Left out: {count} lines ({reason}). " for reason, count in reasons.items())


def machine_answers(results: Results, stimuli: Sequence[Stimulus]) -> Path:
    """What two networks answer, in the same kind of file, which shows that reading answers back works."""
    rows = []
    for stimulus in stimuli:
        photo = read_photo(results.out / "survey" / stimulus.file)
        rows.append({"participant": respondent(stimulus.task), "file": stimulus.file})
        rows[-1]["answer"] = machine_answer(results, stimulus.task, stimulus.choices, photo)
    path = results.out / "survey" / "machine_answers.csv"
    write_csv(path, COLUMNS, rows)
    return path


def respondent(task: str) -> str:
    """Which network answers: for gender another than the one that is explained."""
    return OTHER if task == "gender" else ITSELF


@torch.no_grad()
def machine_answer(results: Results, name: str, choices: Sequence[str], photo: np.ndarray) -> str:
    """The likelier of two choices for a picture (H, W, 3) uint8 of the survey."""
    task = results.task("gender_mini" if name == "gender" else name)
    if name == "gender":  # its faces fill less of the picture: the black around is the vignette's
        side, border = photo.shape[0], photo.shape[0] * ((1 + 2 * WITH_HAIR) / (1 + 2 * TIGHT) - 1) / 2
        box = (-border, -border, side + border, side + border)
        photo = crop_photo(photo, box, tuple(task.photos.shape[2:]), fill=0)
    shown = to_tensor([photo])
    if task.photos.shape[1] == 1:
        shown = (shown * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    scores = task.net(shown)[0]
    called = [task.class_name(index) for index in range(len(scores))]
    places = [[OTHER_NAMES.get(label, label) for label in called].index(choice) for choice in choices]
    return choices[int(scores[places].argmax())]


def wrong_answers(answers: Answers, stimuli: Sequence[Stimulus], task: str) -> Tensor:
    """(M, P, B) for each method, participant and photograph 1 for a wrong answer, 0 for a right one, NaN for none."""
    asked = {stimulus.file: stimulus for stimulus in stimuli if stimulus.task == task}
    people = sorted({who for who, file in answers if file in asked})
    photos = sorted({stimulus.photograph for stimulus in asked.values()})
    found = torch.full((len(METHODS), len(people), len(photos)), torch.nan, dtype=torch.float64)
    for (who, file), answer in answers.items():
        if file in asked:
            one = asked[file]
            place = METHODS.index(one.method), people.index(who), photos.index(one.photograph)
            found[place] = float(answer != one.truth)
    return found


def intervals(values: Tensor, resamples: int, seed: int = SEED) -> tuple[float, float, float]:
    """Mean of (P, B) values and its 95 % interval; participants and photographs are both drawn anew.

    One participant (the machine) is not drawn: the interval is then about photographs alone. Both are crossed, so that
    an answer is drawn as often as its participant times as often as its photograph (Owen 2007, the pigeonhole
    bootstrap). Missing answers are NaN. Fewer than two photographs have no interval.
    """
    mean = float(values.nanmean())
    people, photos = values.shape
    if people == 1:
        return mean, *bootstrap_interval(values[0], torch.arange(photos), resamples=resamples, seed=seed)
    if photos < 2:
        return mean, float("nan"), float("nan")
    generator = torch.Generator().manual_seed(seed)
    drawn = [_times_drawn(count, resamples, generator) for count in (people, photos)]

    def totals(cells: Tensor) -> Tensor:
        return torch.einsum("rp,pb,rb->r", drawn[0], cells, drawn[1])

    means = totals(values.nan_to_num()) / totals((~values.isnan()).double())
    low, high = means.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return mean, low, high


def _times_drawn(count: int, resamples: int, generator: torch.Generator) -> Tensor:
    """(R, count) float64, how often each of them is drawn among as many draws with replacement."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    none = torch.zeros(resamples, count, dtype=torch.float64)
    return none.scatter_add_(1, drawn, torch.ones_like(none))
