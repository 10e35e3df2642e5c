"""Where the advantage of model-level maps may come from: which rows answer that, compared photograph by photograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

import captum_canonical as cc
from captum_canonical.statistics.bootstrap import interval_of_mean
from captum_canonical.statistics.permutation import holm, sign_flip_p_values
from captum_canonical.statistics.units import unit_totals
from studies.paper.methods import ALIGNMENTS, CAMS, GRADIENTS, LOG_ODDS, MEAN, OCCLUSION, ONE_MAP, PER_IMAGE, POOLED

LEVEL = 0.05
MEASURE = "average_drop"
OTHERS = (*CAMS, GRADIENTS)
CMS, CIS = f"{OCCLUSION}, canonical, {MEAN}", f"{OCCLUSION}, canonical, {PER_IMAGE}"
ODDS = tuple(f"{LOG_ODDS}, canonical, {kind}" for kind in (MEAN, PER_IMAGE))
TOTAL = "the paper's comparison"
Contrasts = dict[str, dict[str, tuple[str, str]]]


def _canonical(name: str, kind: str) -> str:
    return f"{name}, canonical, {kind}"


# Where an advantage may come from -> what is compared: a question, and the two rows whose difference answers it.
CONTRASTS: Contrasts = {
    TOTAL: {f"CMS minus {name}'s own maps": (CMS, f"{name}, none, {PER_IMAGE}") for name in OTHERS},
    "occlusion, averaged": {f"CMS minus the mean of {name}": (CMS, _canonical(name, MEAN)) for name in OTHERS},
    "occlusion, single maps": {f"occlusion minus {name}": (CIS, _canonical(name, PER_IMAGE)) for name in OTHERS},
    "occlusion, all explain log-odds": {
        **{f"CMS minus the mean of {name}": (ODDS[0], _canonical(name, MEAN)) for name in OTHERS},
        **{f"single maps minus {name}": (ODDS[1], _canonical(name, PER_IMAGE)) for name in OTHERS},
    },
    "averaging": {
        f"mean minus single maps, {name}": (_canonical(name, MEAN), _canonical(name, PER_IMAGE))
        for name in (OCCLUSION, *OTHERS)
    },
    "alignment": {
        **{
            f"canonical minus {other}, mean of {name}": (_canonical(name, MEAN), f"{name}, {other}, {MEAN}")
            for name in (OCCLUSION, *OTHERS)
            for other in ALIGNMENTS[1:]
        },
        **{
            f"canonical minus none, single maps of {name}": (_canonical(name, PER_IMAGE), f"{name}, none, {PER_IMAGE}")
            for name in (OCCLUSION, *OTHERS)
        },
    },
    "link": {
        f"log-odds minus probability, {kind}": (odds, _canonical(OCCLUSION, kind))
        for odds, kind in zip(ODDS, (MEAN, PER_IMAGE), strict=True)
    },
    "pooling left and right": {
        f"pooled minus not, mean of {name}": (f"{name}, canonical, {POOLED}, {MEAN}", _canonical(name, MEAN))
        for name in (OCCLUSION, LOG_ODDS)
    },
    "a map for each class": {
        f"one for each class minus one for all, {name}": (
            _canonical(name, MEAN),
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


def steps(name: str) -> list[tuple[str, str]]:
    """Cause and question of the steps from a method's own maps to CMS: their differences add up to the whole one."""
    return [
        (TOTAL, f"CMS minus {name}'s own maps"),
        ("alignment", f"canonical minus none, single maps of {name}"),
        ("averaging", f"mean minus single maps, {name}"),
        ("occlusion, averaged", f"CMS minus the mean of {name}"),
    ]


def questions() -> Iterator[tuple[str, str]]:
    """Every cause and question, in order."""
    return ((cause, question) for cause, contrasts in CONTRASTS.items() for question in contrasts)


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
        text = f"{self.mean:+.1f} [{self.low:.1f}, {self.high:.1f}]"
        return f"**{text}**" if self.outcome else text


def differences(result: cc.BenchmarkResult, resamples: int = 1000, permutations: int = 10_000) -> list[Difference]:
    """All contrasts whose rows the benchmark has, with all its fills."""
    known = {row.label for row in result.scored}
    asked = [
        (cause, question, fill, result[first].per_image[MEASURE, fill] - result[second].per_image[MEASURE, fill])
        for cause, question in questions()
        for first, second in [CONTRASTS[cause][question]]
        if {first, second} <= known
        for fill in result.fills
    ]
    totals = unit_totals(torch.stack([values for *_, values in asked]), result.units)[0]
    corrected = holm(sign_flip_p_values(totals, permutations=permutations)).tolist()
    return [
        Difference(
            *names,
            float(values.nanmean()),
            *interval_of_mean(values, result.interval_units, resamples=resamples),
            p_value,
        )
        for (*names, values), p_value in zip(asked, corrected, strict=True)
    ]


def counted(cases: Sequence[Difference]) -> str:
    """How often the first was better, in words."""
    outcomes = [case.outcome for case in cases]
    parts = [f"{outcomes.count(sign)} {word}" for sign, word in ((1, "higher"), (-1, "lower")) if sign in outcomes]
    return ", ".join(parts) or "none detected"


def spread(cases: Sequence[Difference]) -> str:
    """From the smallest difference to the largest, and how many are detected."""
    means = sorted(case.mean for case in cases)
    return f"{means[0]:+.1f} to {means[-1]:+.1f} ({counted(cases)})"
