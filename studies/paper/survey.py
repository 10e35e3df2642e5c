"""Figures 14 and 15: the survey of section IV-C."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from captum_canonical.faces.images import to_arrays
from captum_canonical.faces.photos import read_photo
from studies.paper.answers import (
    COLUMNS,
    intervals,
    lines_left_out,
    machine_answer,
    machine_answers,
    read_answers,
    respondent,
    wrong_answers,
)
from studies.paper.drawing import SIDE, bars, new_figure, picture
from studies.paper.page import Figure, table
from studies.paper.stimuli import BUDGET, CMS, METHODS, SURVEYED, Stimulus, survey, vignette
from studies.paper.study import Results

SAMPLES = 3  # photographs of each task on the sheet


def figure_14(results: Results, path: Path) -> Figure:
    """Fig. 14: some pictures of the survey."""
    stimuli = survey(results)
    rows = []
    for name in SURVEYED:
        photos: dict[int, dict[str, Stimulus]] = {}
        for stimulus in stimuli:
            if stimulus.task == name:
                photos.setdefault(stimulus.photograph, {})[stimulus.method] = stimulus
        by_answer = sorted(photos, key=lambda row: (_rank(row, photos), photos[row][CMS].truth))  # both answers in turn
        rows += [(name, row, photos[row]) for row in by_answer[:SAMPLES]]
    figure, axes = new_figure((1 + len(METHODS)) * SIDE, len(rows) * (SIDE + 0.2), len(rows), 1 + len(METHODS))
    for line, (name, row, shown) in zip(axes, rows, strict=True):
        picture(line[0], results.task(name).photos[row], "", shown[CMS].truth)
        for axis, method in zip(line[1:], METHODS, strict=True):
            picture(axis, read_photo(results.out / "survey" / shown[method].file), "", shown[method].file)
    for axis, label in zip(axes[0], ("original", *METHODS), strict=True):
        axis.set_title(label, fontsize=8)
    figure.savefig(path, bbox_inches="tight")
    counts = {name: len({s.photograph for s in stimuli if s.task == name}) for name in SURVEYED}
    empty = Counter(stimulus.method for stimulus in stimuli if stimulus.mass == 0)
    nothing = ", ".join(f"{count} of {method}" for method, count in empty.items()) or "none"
    asked = ", ".join(f"{count} photographs for {name}" for name, count in counts.items())
    text = (
        f"{len(stimuli)} pictures in `survey/` ({asked}; {len(METHODS)} methods), named by numbers in random order; "
        "`stimuli.csv` says what is asked, `key.csv` what each is (keep it from participants). "
        f"Each hides those {100 * BUDGET:.0f} % of the face where its map is highest, in black, equally many pixels "
        "for all methods; what the vignette darkens anyway does not count. All maps explain the log-odds of the "
        "network's answer; CMS is the mean of the maps of all other photographs with the same answer, 'CMS of all' "
        "that of those with any answer, re-projected. Masks of CMS are alike for photographs of one answer, which "
        "could give it away: 'CMS of all' cannot. The budget was chosen after 10 %, spread in proportion to the maps "
        "as in the benchmark, had been seen to hide next to nothing from the machines. Maps without anything "
        f"positive hide nothing: {nothing}. Below: the network's answer, and the files."
    )
    return Figure("samples of the survey", text, sum(counts.values()))


def _rank(row: int, photos: Mapping[int, Mapping[str, Stimulus]]) -> int:
    """How many earlier photographs have the same answer."""
    return sum(photos[other][CMS].truth == photos[row][CMS].truth for other in photos if other < row)


def figure_15(results: Results, path: Path) -> Figure:
    """Fig. 15: how often people name what is hidden wrongly, or, where nobody was asked, how often machines do."""
    stimuli = survey(results)
    source = results.answers or machine_answers(results, stimuli)
    answers, left_out = read_answers(source, stimuli)
    groups: dict[str, dict[str, tuple[float, float, float]]] = {}
    rows: list[tuple] = [("task", "maps", "participants", "photographs", "answers", "wrong %", "CMS minus these")]
    for name in SURVEYED:
        wrong = 100 * wrong_answers(answers, stimuli, name)
        if not wrong.numel():
            continue
        title = results.task(name).title if results.answers else f"{name}, answered by, {respondent(name)}"
        cms = wrong[METHODS.index(CMS)]
        for method, values in zip(METHODS, wrong, strict=True):
            groups.setdefault(title, {})[method] = intervals(values, results.settings.resamples)
            counts = [values.shape[0], values.shape[1], int((~values.isnan()).sum())]
            more = "" if method == CMS else with_interval(intervals(cms - values, results.settings.resamples), "+")
            rows.append((name, method, *counts, with_interval(groups[title][method]), more))
    figure, axes = new_figure(6, 3.4)
    who = "participants" if results.answers else "MACHINE respondents, nobody was asked"
    bars(groups, axes[0, 0], f"wrong answers %, {who}")
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.savefig(path, bbox_inches="tight")
    text = (
        "More wrong answers: more of what matters was hidden. An answer is wrong if it is not the network's own for "
        "the unchanged photograph. Intervals (95 %) draw base photographs anew, and participants where there are "
        "several; with so few photographs they are rather too narrow, and where all answers agree they have no width, "
        "which is not certainty. Differences pair the same photograph (and participant). "
        f"{lines_left_out(left_out)}{'' if results.answers else _baseline(results, stimuli)}"
    )
    count = len({(s.task, s.photograph) for s in stimuli})
    return Figure("wrong answers", text.strip(), count, table(rows), "" if results.answers else NOBODY)


NOBODY = (
    "Nobody was asked. To ask: show people the pictures of `survey/` with the two choices of `survey/stimuli.csv`, "
    f"write a CSV file with the columns {', '.join(COLUMNS)}, and run `python examples/reproduce_paper.py` again with "
    "the same options and `--answers answers.csv`. The picture and the table show answers of networks "
    "(`survey/machine_answers.csv`), read back in the same way: they say nothing about people."
)


def with_interval(found: tuple[float, float, float], sign: str = "") -> str:
    """A value with its interval."""
    value, low, high = (format(number, f"{sign}.1f") for number in found)
    return f"{value} [{low}, {high}]"


def _baseline(results: Results, stimuli: Sequence[Stimulus]) -> str:
    """How often the machines are wrong when nothing but the vignette hides anything."""
    parts = []
    for name in SURVEYED:
        task, asked = results.task(name), {s.photograph: s for s in stimuli if s.task == name}
        few = task.rows(list(asked))
        shown = to_arrays(few.photos * vignette(few.mesh).to(few.photos.dtype))
        given = [
            machine_answer(results, name, s.choices, photo) for s, photo in zip(asked.values(), shown, strict=True)
        ]
        wrong = sum(answer != s.truth for answer, s in zip(given, asked.values(), strict=True))
        parts.append(f"{name} {wrong} of {len(asked)}")
    return f"Wrong answers of the machines to photographs under the vignette alone: {', '.join(parts)}."
