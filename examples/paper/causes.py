"""What the paper leaves open: how much of CMS's advantage comes from what, in numbers, and on a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import captum_canonical as cc
from captum_canonical.statistics.resampling import bootstrap_interval, holm, sign_flip_p_values, unit_totals
from paper.drawing import bars, new_figure
from paper.methods import (
    ALIGNMENTS,
    CAMS,
    FACTORIAL,
    FEWEST,
    GRADIENTS,
    LOG_ODDS,
    MEAN,
    OCCLUSION,
    ONE_MAP,
    PER_IMAGE,
    POOLED,
    scored,
)
from paper.page import Figure, facts, table
from paper.study import Results

LEVEL = 0.05
ANSWER = "what_the_paper_leaves_open.md"
MEASURE = "average_drop"
OTHERS = (*CAMS, GRADIENTS)
CMS, CIS = f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, canonical, {PER_IMAGE}"
# Where an advantage may come from -> what is compared: a question, and the two rows whose difference answers it.
CONTRASTS: dict[str, dict[str, tuple[str, str]]] = {
    "occlusion, averaged": {f"CMS minus the mean of {name}": (CMS, f"{name}, canonical, {MEAN}") for name in OTHERS},
    "occlusion, single maps": {f"occlusion minus {name}": (CIS, f"{name}, canonical, {PER_IMAGE}") for name in OTHERS},
    "averaging": {
        f"mean minus single maps, {name}": (f"{name}, canonical, {MEAN}", f"{name}, canonical, {PER_IMAGE}")
        for name in (OCCLUSION, *OTHERS)
    },
    "alignment": {
        f"canonical minus {other}, mean of {name}": (f"{name}, canonical, {MEAN}", f"{name}, {other}, {MEAN}")
        for name in (OCCLUSION, *OTHERS)
        for other in ALIGNMENTS[1:]
    },
    "link": {
        f"log-odds minus probability, {kind}": (f"{LOG_ODDS}, canonical, {kind}", f"{OCCLUSION}, canonical, {kind}")
        for kind in (MEAN, PER_IMAGE)
    },
    "pooling left and right": {
        f"pooled minus not, mean of {name}": (f"{name}, canonical, {POOLED}, {MEAN}", f"{name}, canonical, {MEAN}")
        for name in (OCCLUSION, LOG_ODDS)
    },
    "a map for each class": {
        f"one for each class minus one for all, {name}": (
            f"{name}, canonical, {MEAN}",
            f"{name}, canonical, {ONE_MAP}, {MEAN}",
        )
        for name in (OCCLUSION, LOG_ODDS)
    },
    "the face prior": {
        "CMS minus the mean face": (CMS, f"mean face, {PER_IMAGE}"),
        "CMS minus uniform on the face": (CMS, f"uniform, {PER_IMAGE}"),
        "CMS minus random maps": (CMS, f"random, {PER_IMAGE}"),
        "CMS minus the mean of random maps": (CMS, f"random, {MEAN}"),
        "occlusion's single maps minus random maps": (CIS, f"random, {PER_IMAGE}"),
    },
}


@dataclass(frozen=True)
class Difference:
    """Two rows of a benchmark, compared photograph by photograph, in points of Average Drop %.

    Attributes:
        cause, question: what it answers.
        fill: what hidden pixels became.
        mean, low, high: first minus second, with its 95 % interval.
        p_value: of a sign-flip test, corrected over all differences and fills of the network (Holm).
    """

    cause: str
    question: str
    fill: str
    mean: float
    low: float
    high: float
    p_value: float

    @property
    def outcome(self) -> int:
        """1: the first is better, -1: worse, 0: no difference detected."""
        return 0 if self.p_value >= LEVEL else 1 if self.mean > 0 else -1

    def __str__(self) -> str:
        told = f"{self.mean:+.1f} [{self.low:.1f}, {self.high:.1f}]"
        return f"**{told}**" if self.outcome else told


def differences(result: cc.BenchmarkResult, resamples: int = 1000, permutations: int = 10_000) -> list[Difference]:
    """All contrasts whose rows the benchmark has, with all its fills."""
    known = {row.label for row in result.scored}
    asked = [
        (cause, question, fill, result[first].per_image[MEASURE, fill] - result[second].per_image[MEASURE, fill])
        for cause, contrasts in CONTRASTS.items()
        for question, (first, second) in contrasts.items()
        if {first, second} <= known
        for fill in result.fills
    ]
    totals = unit_totals(torch.stack([values for *_, values in asked]), result.units)[0]
    corrected = holm(sign_flip_p_values(totals, permutations=permutations)).tolist()
    return [
        Difference(
            *names,
            float(values.nanmean()),
            *bootstrap_interval(values, result.interval_units, resamples=resamples),
            p_value,
        )
        for (*names, values), p_value in zip(asked, corrected, strict=True)
    ]


def contrasts_table(found: Sequence[Difference], fills: Sequence[str]) -> str:
    """A row for each question, a column for each fill."""
    rows: list[tuple] = [("may come from", "difference", *(f"fill {fill}" for fill in fills))]
    for cause, contrasts in CONTRASTS.items():
        for question in contrasts:
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


def sentences(found: Mapping[str, Sequence[Difference]]) -> list[str]:
    """For each cause what came out, over all networks and fills."""
    parts = []
    for cause, contrasts in CONTRASTS.items():
        told = []
        for question in contrasts:
            cases = [d for network in found.values() for d in network if (d.cause, d.question) == (cause, question)]
            if cases:
                told.append(f"{question}: {counted(cases)}")
        if told:
            parts.append(f"- **{cause[0].upper()}{cause[1:]}.** {'. '.join(told)}.")
    return parts


def counted(cases: Sequence[Difference]) -> str:
    """How often the first was better, and by how much."""
    outcomes = [case.outcome for case in cases]
    means = sorted(case.mean for case in cases)
    middle = float(torch.tensor(means, dtype=torch.float64).quantile(0.5))
    return (
        f"higher in {outcomes.count(1)} of {len(cases)}, lower in {outcomes.count(-1)}, no difference detected in "
        f"{outcomes.count(0)} (median {middle:+.1f}, from {means[0]:+.1f} to {means[-1]:+.1f})"
    )


def table_of_causes(results: Results, path: Path) -> Figure:
    """The factorial of every network, its contrasts, sentences about all of them, and a page without photographs."""
    benchmarks = {results.task(name).title: scored(results, name) for name in FACTORIAL}
    permutations, resamples = results.settings.permutations, results.settings.resamples
    found = {title: differences(result, resamples, permutations) for title, result in benchmarks.items()}
    parts = ["### Over all networks and fills", "", *sentences(found), ""]
    for title, result in benchmarks.items():
        parts += [f"### {title}, n = {len(result.clean_scores)}", ""]
        for fill in result.fills:
            parts += [cells_table(result, fill), ""]
        parts += [rest_table(result), "", contrasts_table(found[title], result.fills), ""]
    draw(benchmarks, results.settings.fills[0], path)
    counts = ", ".join(f"{title} {len(result.clean_scores)}" for title, result in benchmarks.items())
    text = (
        f"Average Drop % of negative explanation images that hide 10 % of the face; higher is better. n: {counts}. "
        f"Classes of fewer than {FEWEST} photographs are left out, so that each class can have a mean map of its own, "
        "made without the photographs of the fold that it is scored on. 'Per image' maps of all methods are carried to "
        "the face of that alignment and back; 'none' hides one place after the other of the whole crop, which is a "
        "square around the face already: milder than raw photographs. Differences are of the same photographs, in "
        "points; intervals (95 %) draw photographs anew; bold where a two-sided sign-flip test, corrected by Holm over "
        "all differences and fills of a network, is below 0.05: what is not bold is no difference detected, not none."
    )
    figure = Figure("where the advantage of CMS comes from", text, len(results.faces), "\n".join(parts))
    write_answer(results, figure)
    return figure


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


def write_answer(results: Results, figure: Figure) -> None:
    """The tables alone, as a page that shows nobody."""
    parts = [
        "# What the paper leaves open: where the advantage of model-level maps comes from",
        "",
        f"Written by `{results.command}`, which leaves this file beside its other results. Networks and photographs "
        "are not those of the paper.",
        "",
        figure.text,
        "",
        figure.table,
        "",
        "### Settings and versions",
        "",
        table([("setting", "value"), *facts(results)]),
        "",
    ]
    (results.out / ANSWER).write_text("\n".join(parts), encoding="utf-8")
