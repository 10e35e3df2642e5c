"""The page about planted marks: tables, what they say, and figures."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

import captum_canonical as cc
from captum_canonical.statistics.permutation import holm
from studies.paper.page import PACKAGES, table
from studies.planted.finding import CMS, IMAGE, METHODS, PERMUTATIONS, POINTS
from studies.planted.photographs import PATCH, SIZE
from studies.planted.study import (
    AGAIN,
    AGAIN_PIXELS,
    DECOY,
    GROUPED,
    GROUPED_DECOY,
    PEAK,
    PIXELS,
    TOP,
    TRAINED,
    WIRED,
    Outcome,
    duel,
    most_by_chance,
    rate,
    used,
)
from studies.planted.trials import EACH

SHOWN = ((WIRED, (CMS, IMAGE)), (TRAINED, METHODS))
LEVEL, NONE = 0.05, "no difference detected"
CURVES, MAPS, PAGE = "planted_bias.png", "planted_bias_maps.png", "planted_bias.md"


def of(outcomes: Sequence[Outcome], network: str, effect: float | None = None) -> list[Outcome]:
    """Those of one kind of network, and of one size of effect."""
    return [each for each in outcomes if each.network == network and effect in (None, each.effect)]


def effects_of(outcomes: Sequence[Outcome], network: str) -> list[float]:
    """Sizes of effect that were tried."""
    return sorted({each.effect for each in of(outcomes, network)})


# ------------------------------------------------------------------------------------------------------------- tables
def interventions_table(outcomes: Sequence[Outcome], network: str) -> str:
    """What painting changes: means over trials."""
    names = ("mark in A", "mark in B", "moved in A", "decoy in A", "decoy in B")
    rows: list[tuple] = [("effect", "use the mark", *names, "right in A", "right in B")]
    for effect in effects_of(outcomes, network):
        here = of(outcomes, network, effect)
        changes = [np.mean([each.interventions[name].mean for each in here]) for name in names]
        right = ["", ""]
        if here[0].accuracy is not None:
            right = [f"{np.mean([each.accuracy[group] for each in here if each.accuracy]):.0%}" for group in "AB"]
        rows.append((f"{effect:g}", used(here), *(f"{change:+.2f}" for change in changes), *right))
    return table([row if network == TRAINED else row[:-2] for row in rows])


def rates_table(outcomes: Sequence[Outcome], network: str, methods: Sequence[str], questions: Sequence[str]) -> str:
    """How often each method answers yes, with exact intervals."""
    rows: list[tuple] = [("effect", "method", *questions)]
    for effect in effects_of(outcomes, network):
        here = of(outcomes, network, effect)
        rows += [(f"{effect:g}", method, *(rate(here, method, each) for each in questions)) for method in methods]
    return table(rows)


def duels_table(outcomes: Sequence[Outcome]) -> tuple[str, list[str]]:
    """CMS against the others on the same trials, and sentences about where they differ or do not."""
    compared = [
        (network, effect, other, question)
        for network, methods in SHOWN
        for effect in effects_of(outcomes, network)
        if effect > 0
        for other in methods[1:]
        for question in (TOP, GROUPED, PIXELS)
    ]
    duels = [duel(of(outcomes, network, effect), CMS, other, question) for network, effect, other, question in compared]
    p = holm(torch.tensor([each.p_value for each in duels], dtype=torch.float64)).tolist()
    rows: list[tuple] = [("networks", "effect", "question", "other method", "CMS only", "other only", "p (Holm)")]
    said: dict[str, list[str]] = {"finds it more often": [], "finds it less often": [], NONE: []}
    for (network, effect, other, question), each, chance in zip(compared, duels, p, strict=True):
        rows.append((network, f"{effect:g}", question, other, each.first, each.second, f"{chance:.2g}"))
        words = NONE
        if chance < LEVEL:
            words = "finds it more often" if each.first > each.second else "finds it less often"
        said[words].append(f"{other} ({question}; {network}, effect {effect:g})")
    sentences = [f"CMS {words}: {'; '.join(those) or 'nowhere'}." for words, those in said.items() if words != NONE]
    return table(rows), [*sentences, f"{NONE[0].upper()}{NONE[1:]}: in {len(said[NONE])} of {len(compared)} rows."]


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The strongest effect of each kind of network in a table."""
    parts = []
    for network, methods in SHOWN:
        strongest = of(outcomes, network, effects_of(outcomes, network)[-1])
        asked = (TOP, DECOY, GROUPED, PIXELS, AGAIN, AGAIN_PIXELS)
        rows: list[tuple] = [("method", *asked, "regions named, mean")]
        for method in methods:
            named = np.mean([len(each.different) for o in strongest for each in o.findings if each.method == method])
            rows.append((method, *(rate(strongest, method, each) for each in asked), f"{named:.1f}"))
        use = f"{used(strongest)} use the mark by intervention"
        parts += [f"{network.capitalize()} networks, effect {strongest[0].effect:g} ({use}):", "", table(rows), ""]
    return parts[:-1]


# --------------------------------------------------------------------------------------------------------------- page
def write_page(outcomes: Sequence[Outcome], out: Path, command: str, faces: str, seconds: float) -> Path:
    """The Markdown page beside its figures."""
    duels, said = duels_table(outcomes)
    counts = {network: len(of(outcomes, network)) for network in (WIRED, TRAINED)}
    where, test = (TOP, PEAK, DECOY), (GROUPED, PIXELS, GROUPED_DECOY, AGAIN, AGAIN_PIXELS)
    parts = [
        "# A planted bias: is it found?",
        "",
        f"Written by `{command}` ({counts[WIRED]} trials of wired and {counts[TRAINED]} of trained networks, "
        f"{seconds / 60:.0f} minutes of one core).",
        "",
        _METHOD.format(faces=faces, size=SIZE, each=EACH, patch=PATCH, points=POINTS, permutations=PERMUTATIONS),
        "",
        f"![How often each method finds the mark]({CURVES})",
        "",
        f"![Mean maps of three trained networks]({MAPS})",
        "",
        "## What came out",
        "",
        f"Counts of trials, with exact 95 % binomial intervals. {ERRORS}",
        "",
        *summary(outcomes),
        "",
        "CMS against each other method on the same trials (sign tests, Holm over all rows of the last table):",
        "",
        *(f"- {sentence}" for sentence in said),
        "",
        _LIMITS,
        "",
    ]
    for network, methods in SHOWN:
        parts += [
            f"## {network.capitalize()} networks: the check by intervention",
            "",
            _CHECKED[network],
            "",
            interventions_table(outcomes, network),
            "",
            f"## {network.capitalize()} networks: where maps are largest",
            "",
            rates_table(outcomes, network, methods, where),
            "",
            f"## {network.capitalize()} networks: the group test",
            "",
            rates_table(outcomes, network, methods, test),
            "",
        ]
    versions = [("captum_canonical", cc.__version__), ("python", platform.python_version())]
    versions += [(name, metadata.version(name)) for name in PACKAGES]
    parts += ["## CMS against the others, trial by trial", "", duels, "", "## Versions", ""]
    path = out / PAGE
    path.write_text("\n".join([*parts, table([("package", "version"), *versions]), ""]), encoding="utf-8")
    return path


ERRORS = (
    "Of 40 comparisons of B with B, tests with an error of 5 % find something in at most "
    f"{most_by_chance(40)} (upper end of the 95 % interval)."
)

_METHOD = """\
In each trial a coloured mark lies at one place of the face. In group A it decides the class, in group B it means
nothing. A decoy, which changes the colours as much, lies at another place in a random half of all photographs and
means nothing anywhere. Every region that is large enough gets its turn as the mark's place. Photographs ({size} x
{size} pixels) are drawn anew for each trial, in other poses, proportions, light and backdrops, from {faces}. The
brightness of the photograph's rim, away from the face, tells the groups apart.

- **Wired networks** add up brightness all over the face, weighted at random for each photograph, and in group A the
  mark's colour at its place. The effect is by how many standard deviations of the rest (between photographs) the
  mark raises the score. The decoy is the same paint elsewhere.
- **Trained networks** (two convolutions, 4,000 weights) learn from 600 other photographs in which the mark agrees
  with the class in (1 + effect) / 2 of group A. The decoy has another colour of equal contrast.

Before any map is looked at, painting and not painting shows what the network uses. Then three methods are asked:
CMS (patches of {patch} pixels at {points} points); the same occlusion drops averaged in image space without
alignment, with the regions of the mean mesh; and Grad-CAM of the last convolution, carried to the canonical face.
In which region has the mean map of {each} photographs of A and {each} of B the largest share of its positive mass
for its area? In which regions, and at which pixels, is there more in A than in B (`compare_groups`, {permutations}
permutations, family-wise error 5 %)? What is found between the {each} photographs of B and {each} others of B?"""

_LIMITS = """\
What this does not show: photographs are warped copies of few faces, marks are spots of plain colour, and networks
are small. Image-space means are given the regions of the mean mesh, and faces are roughly centred, which is the
best case for them. Patches over the mark reach into regions that adjoin it, so that neighbours are named, too:
among them the decoy's, where it is one. Too few points leave gaps between patches: with half as many, no patch
hides the middle of the chin, and a mark there is easily missed, however strong its effect."""

_CHECKED = {
    WIRED: """\
Mean change of the score (in standard deviations between photographs) when the mark is painted, and when the same
paint is put in the decoy's place (*moved*, which here is the decoy). A network uses the mark if that raises the
score in A (95 % interval above 0) by more than three times any change by the mark in B and by the decoy.""",
    TRAINED: """\
Mean change of the log-odds. *Moved* is the mark's paint in the decoy's place, where no training photograph had it:
these networks take the largest value of each channel over the photograph, and react to the colour anywhere; that it
lies at one place is a fact of the photographs. Right answers are those on the trial's own 60 photographs, which
training has not seen; in B nothing can be learned. At effect 0 the marks mean nothing, but are still the most
conspicuous thing in the photographs, and what little these networks react to may lie there.""",
}
