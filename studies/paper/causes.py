"""What the paper leaves open: how much of CMS's advantage comes from what, in numbers, and on a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import captum_canonical as cc
from studies.paper.contrasts import (
    CIS,
    CMS,
    MEASURE,
    ODDS,
    OTHERS,
    Difference,
    counted,
    differences,
    questions,
    spread,
    steps,
)
from studies.paper.drawing import bars, new_figure
from studies.paper.methods import (
    ALIGNMENTS,
    CAMS,
    FACTORIAL,
    FEWEST,
    LOG_ODDS,
    MEAN,
    OCCLUSION,
    ONE_MAP,
    PER_IMAGE,
    POOLED,
    scored,
)
from studies.paper.page import Figure, table, write_alone
from studies.paper.study import Results

ANSWER = "what_the_paper_leaves_open.md"
Found = Mapping[str, Sequence[Difference]]
OWN = {f"{name}, own maps": f"{name}, none, {PER_IMAGE}" for name in CAMS}
POOLED_MAPS = {
    f"CMS{link}, pooled left-right": f"{name}, canonical, {POOLED}, {MEAN}"
    for link, name in (("", OCCLUSION), (" of log-odds", LOG_ODDS))
}
SINGLE = {"occlusion, single maps": CIS, "occlusion of log-odds, single maps": ODDS[1]}
# What an earlier measurement gave: tasks -> (lowest, highest, which maps).
QUOTED: dict[tuple[str, ...], list[tuple[float, float, dict[str, str]]]] = {
    ("expression",): [
        (16, 25, {"CMS": CMS, "CMS of log-odds": ODDS[0], **POOLED_MAPS}),
        (1.3, 5.9, OWN),
        (6, 10, {"blurred noise (control: random)": f"random, {PER_IMAGE}"}),
        (25, 79, SINGLE),
    ],
    ("gender", "gender_mini"): [
        (1.7, 1.7, {"CMS": CMS}),
        (4.1, 4.1, {"CMS of log-odds": ODDS[0]}),
        (5.7, 5.7, POOLED_MAPS),
        (1.1, 2.9, OWN),
        (25, 79, SINGLE),
    ],
}


def overall_table(found: Found) -> str:
    """A row for each question: for each network the range over its fills, and how often a difference was detected."""
    rows: list[tuple] = [("may come from", "difference", *found, "over all")]
    for cause, question in questions():
        cases = {title: [d for d in one if (d.cause, d.question) == (cause, question)] for title, one in found.items()}
        together = [d for some in cases.values() for d in some]
        if together:
            cells = [spread(some) if some else "" for some in cases.values()]
            rows.append((cause, question, *cells, f"{counted(together)} of {len(together)}"))
    return table(rows)


def steps_table(found: Sequence[Difference], fills: Sequence[str]) -> str:
    """The way from each other method's own maps to CMS, whose steps add up."""
    known = {(d.cause, d.question, d.fill): d for d in found}
    rows: list[tuple] = [("from the own maps of", "fill", "to CMS in all", "carried over", "averaged", "occlusion")]
    for name in OTHERS:
        for fill in fills:
            cells = [known.get((*step, fill)) for step in steps(name)]
            if all(cells):
                rows.append((name, fill, *cells))
    return table(rows)


def contrasts_table(found: Sequence[Difference], fills: Sequence[str]) -> str:
    """A row for each question, a column for each fill."""
    rows: list[tuple] = [("may come from", "difference", *(f"fill {fill}" for fill in fills))]
    for cause, question in questions():
        cells = {d.fill: str(d) for d in found if (d.cause, d.question) == (cause, question)}
        if cells:
            rows.append((cause, question, *(cells[fill] for fill in fills)))
    return table(rows)


def cells_table(result: cc.BenchmarkResult, fill: str) -> str:
    """Every cell of methods x alignments x {per image, canonical mean}, with its interval."""
    kinds = [(alignment, kind) for alignment in ALIGNMENTS for kind in (PER_IMAGE, MEAN)]
    rows: list[tuple] = [(f"fill {fill}", *(", ".join(kind) for kind in kinds))]
    known = {row.label for row in result.scored}
    made = {row.label for row in result.rows}
    for name in (OCCLUSION, LOG_ODDS, *OTHERS):
        labels = [f"{name}, {alignment}, {kind}" for alignment, kind in kinds]
        if made & set(labels):
            cells = [value(result, x, fill) if x in known else "failed" if x in made else "" for x in labels]
            rows.append((name, *cells))
    return table(rows)


def rest_table(result: cc.BenchmarkResult) -> str:
    """Rows beside the factorial: pooled, one map for all classes, and the controls."""
    rows: list[tuple] = [("maps", "kind", *(f"fill {fill}" for fill in result.fills))]
    for row in result.scored:
        varied = any(word in row.name for word in (POOLED, ONE_MAP)) and row.kind == MEAN
        if row.control or varied:
            name = f"{row.name} (control)" if row.control else row.name
            rows.append((name, row.kind, *(value(result, row.label, fill) for fill in result.fills)))
    return table(rows)


def value(result: cc.BenchmarkResult, label: str, fill: str) -> str:
    """Average Drop % of a row with its interval."""
    low, high = result.interval(label, MEASURE, fill)
    return f"{result[label].value(MEASURE, fill):.1f} [{low:.1f}, {high:.1f}]"


def quoted_table(benchmarks: Mapping[str, cc.BenchmarkResult], titles: Mapping[str, str]) -> str:
    """What an earlier measurement gave beside what the same maps give here, with the fill that it had."""
    rows: list[tuple] = [("network", "maps", "earlier", "here", "agree")]
    for tasks, entries in QUOTED.items():
        for title in (titles[name] for name in tasks if name in titles):
            result = benchmarks[title]
            known = {row.label for row in result.scored}
            for low, high, maps in entries:
                earlier = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                rows += [
                    (title, shown_name, earlier, value(result, label, "zero"), agreement(result, label, low, high))
                    for shown_name, label in maps.items()
                    if label in known
                ]
    return table(rows)


def agreement(result: cc.BenchmarkResult, label: str, low: float, high: float) -> str:
    """Whether the interval of a row reaches the range of an earlier measurement."""
    ours = result.interval(label, MEASURE, "zero")
    return "lower here" if ours[1] < low else "higher here" if ours[0] > high else "yes"


EARLIER = (
    "One run on the same photographs, without intervals, before there was this script: fill zero, the mass of Eq. 10 "
    "(which depends on the maps that are compared) rather than 10 % of the face, means of the same class that leave "
    "the photograph out. It did not say which gender network, and gave single occlusion maps as one range for all. "
    "'yes': the 95 % interval here reaches the earlier value or range."
)


def table_of_causes(results: Results, path: Path) -> Figure:
    """The factorial of every network, its contrasts, and a page without photographs."""
    titles = {name: results.task(name).title for name in FACTORIAL}
    benchmarks = {title: scored(results, name) for name, title in titles.items()}
    permutations, resamples = results.settings.permutations, results.settings.resamples
    found = {title: differences(result, resamples, permutations) for title, result in benchmarks.items()}
    parts = ["### Over all networks and fills", "", OVERALL, "", overall_table(found), ""]
    parts += ["### Beside an earlier measurement", "", EARLIER, "", quoted_table(benchmarks, titles), ""]
    for title, result in benchmarks.items():
        parts += [f"### {title}, n = {len(result.clean_scores)}", "", confidence_of(result), ""]
        parts += [steps_table(found[title], result.fills), ""]
        for fill in result.fills:
            parts += [cells_table(result, fill), ""]
        parts += [rest_table(result), "", contrasts_table(found[title], result.fills), ""]
    draw(benchmarks, results.settings.fills[0], path)
    counts = ", ".join(f"{title} {len(result.clean_scores)}" for title, result in benchmarks.items())
    figure = Figure("where the advantage of CMS comes from", TEXT.format(counts), len(results.faces), "\n".join(parts))
    write_alone(
        results, figure, ANSWER, "What the paper leaves open: where the advantage of model-level maps comes from"
    )
    return figure


OVERALL = (
    "For each network the smallest and the largest difference over its fills, and in how many of them it was detected."
)
TEXT = (
    "Average Drop % of negative explanation images that hide 10 % of the face; higher is better. n: {}. "
    f"Classes of fewer than {FEWEST} photographs are left out, so that each class can have a mean map of its own, "
    "made without the photographs of the fold that it is scored on (5 folds). Occlusion explains the confidence, as in "
    "the paper; 'Occlusion (log-odds)' and all other methods explain the log-odds of the class, where there are any "
    "(the confidence of an age bin is explained as it is). 'Per image' maps of all methods are carried to the face of "
    "that alignment and back; 'none' hides one place after the other of the whole crop, as densely as the others do on "
    "the face, and leaves other methods' maps as they are. Integrated gradients point at single pixels: what they hide "
    "is scattered, which the fills zero, mean and blur turn into noise all over the face, and which only 'imputed' "
    "mends from the pixels between. The crop is a square around the face already: milder than "
    "raw photographs. Differences are of the same photographs, in points; intervals (95 %) draw photographs anew, and "
    "hold the mean maps and the folds as they are; who is on the photographs is not known. Bold where a two-sided "
    "sign-flip test, corrected by Holm over all differences and fills of a network, is below 0.05: what is not bold is "
    "no difference detected, not none."
)


def confidence_of(result: cc.BenchmarkResult) -> str:
    """How confident the network is to begin with: little can fall where nothing can rise."""
    low, middle, high = result.clean_scores.quantile(result.clean_scores.new_tensor([0.1, 0.5, 0.9])).tolist()
    return (
        f"Confidence in the answer: median {middle:.3f}; a tenth of the photographs is below {low:.3f}, a tenth above "
        f"{high:.3f}. The steps from another method's own maps to CMS, each after those before it, add up:"
    )


def draw(benchmarks: Mapping[str, cc.BenchmarkResult], fill: str, path: Path) -> None:
    """The cells that the paper compares, and those that it does not, of one fill."""
    shown = {
        "occlusion, single maps": CIS,
        "occlusion, mean (CMS)": CMS,
        "Grad-CAM, single maps": f"Grad-CAM, canonical, {PER_IMAGE}",
        "Grad-CAM, mean": f"Grad-CAM, canonical, {MEAN}",
        "mean face (control)": f"mean face, {PER_IMAGE}",
        "random (control)": f"random, {PER_IMAGE}",
    }
    groups = {
        title: {
            kind: (result[label].value(MEASURE, fill), *result.interval(label, MEASURE, fill))
            for kind, label in shown.items()
        }
        for title, result in benchmarks.items()
    }
    figure, axes = new_figure(8, 3)
    bars(groups, axes[0, 0], f"Average Drop % (higher is better), fill {fill}")
    axes[0, 0].legend(fontsize=7, frameon=False, ncols=2)
    figure.savefig(path, bbox_inches="tight")
