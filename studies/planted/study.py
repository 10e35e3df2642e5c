"""Trials of both kinds of networks, and how often each method finds what was planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy import stats

import captum_canonical as cc
from studies.planted.finding import CMS, IMAGE, METHODS, Finding, find, occlusion_maps
from studies.planted.photographs import Photographs, Source, draw_photographs
from studies.planted.trained import accuracy, explained, log_odds, train
from studies.planted.trials import GROUPS, Effect, interventions, make_trial, uses_mark
from studies.planted.wired import wire

WIRED, TRAINED = "wired", "trained"


@dataclass(frozen=True)
class Outcome:
    """One trial of one network.

    Attributes:
        network: :data:`WIRED` or :data:`TRAINED`.
        effect: how strong the mark is, or how well it agrees with the class.
        seed: of the trial.
        planted, decoy: regions.
        uses_mark: whether interventions say that the network uses the mark in group A, and the decoy nowhere.
        interventions: what they changed.
        findings: one for each method.
        accuracy: share of right answers in each group, of a trained network.
    """

    network: str
    effect: float
    seed: int
    planted: str
    decoy: str
    uses_mark: bool
    interventions: dict[str, Effect]
    findings: tuple[Finding, ...]
    accuracy: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Outcome:
        """What :meth:`as_json` gave."""
        changes = {name: Effect(**effect) for name, effect in record["interventions"].items()}
        findings = tuple(
            Finding(**{name: tuple(part) if isinstance(part, list) else part for name, part in finding.items()})
            for finding in record["findings"]
        )
        return cls(**{**record, "interventions": changes, "findings": findings})


def photographs_of(faces: Sequence[Source], seed: int) -> Photographs:
    """The photographs of one trial, which no other has."""
    return draw_photographs(faces, GROUPS, torch.Generator().manual_seed(30_000 + seed))


def wired_outcome(pool: Photographs, seed: int, strength: float, methods: Sequence[str] = (CMS, IMAGE)) -> Outcome:
    """A wired network on photographs of a pool; the decoy is the same paint elsewhere."""
    trial = make_trial(pool, seed, same_colour=True)
    net, extra = wire(trial.photographs, trial.planted, strength, torch.Generator().manual_seed(20_000 + seed))
    changes = interventions(trial, lambda photos: net(photos, *extra))
    results = {method: occlusion_maps(net, trial, None, extra, aligned=method == CMS) for method in methods}
    findings = tuple(find(method, result, trial) for method, result in results.items())
    return Outcome(WIRED, strength, seed, *trial.names, uses_mark(changes), changes, findings)


def trained_outcome(
    learning: Photographs, pool: Photographs, seed: int, effect: float, methods: Sequence[str] = METHODS
) -> Outcome:
    """A network trained on some photographs, asked about others; the decoy has another colour than the mark."""
    trial = make_trial(pool, seed, effect)
    net = train(learning, trial, effect)
    changes = interventions(trial, lambda photos: log_odds(net, photos))
    findings = tuple(find(method, result, trial) for method, result in explained(net, trial, methods).items())
    right = accuracy(net, trial)
    return Outcome(TRAINED, effect, seed, *trial.names, uses_mark(changes), changes, findings, right)


def adjoin(first: str, second: str) -> bool:
    """Whether two regions of the face share a vertex; patches that hide one then reach into the other."""
    face = cc.CanonicalFace.default()
    corners = [set(face.triangles[face.regions[name]].flatten().tolist()) for name in (first, second)]
    return bool(corners[0] & corners[1])


# -------------------------------------------------------------------------------------------------------------- rates
@dataclass(frozen=True)
class Rate:
    """How often something came out, with its exact 95 % binomial interval (Clopper and Pearson)."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        ends = stats.binomtest(self.count, self.of).proportion_ci(0.95, "exact")
        return float(ends.low), float(ends.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count}/{self.of} [{low:.2f}, {high:.2f}]"


TOP, PEAK, DECOY = "top region is the planted one", "peak lies in the planted region", "top region is the decoy's"
GROUPED, GROUPED_DECOY, PIXELS = "group test, regions", "group test names the decoy's region", "group test, pixels"
FAR_DECOY = "group test names the decoy's region, which does not adjoin the planted one"
AGAIN, AGAIN_PIXELS = "B against B, regions", "B against B, pixels"
QUESTIONS: dict[str, Callable[[Outcome, Finding], bool]] = {
    TOP: lambda outcome, finding: finding.top == outcome.planted,
    PEAK: lambda outcome, finding: finding.peak == outcome.planted,
    DECOY: lambda outcome, finding: finding.top == outcome.decoy,
    GROUPED: lambda outcome, finding: outcome.planted in finding.different,
    PIXELS: lambda outcome, finding: finding.pixels,
    GROUPED_DECOY: lambda outcome, finding: outcome.decoy in finding.different,
    FAR_DECOY: lambda outcome, finding: (
        outcome.decoy in finding.different and not adjoin(outcome.planted, outcome.decoy)
    ),
    AGAIN: lambda outcome, finding: bool(finding.again),
    AGAIN_PIXELS: lambda outcome, finding: finding.again_pixels,
}


def answers(outcomes: Sequence[Outcome], method: str, question: str) -> list[bool]:
    """One for each trial that the method was asked about."""
    ask = QUESTIONS[question]
    return [ask(outcome, found) for outcome in outcomes for found in outcome.findings if found.method == method]


def rate(outcomes: Sequence[Outcome], method: str, question: str) -> Rate:
    """How often the answer is yes."""
    said = answers(outcomes, method, question)
    return Rate(sum(said), len(said))


def used(outcomes: Sequence[Outcome]) -> Rate:
    """How often interventions say that the network uses the mark."""
    return Rate(sum(outcome.uses_mark for outcome in outcomes), len(outcomes))


def most_by_chance(trials: int, error: float = 0.05) -> int:
    """False findings that tests of this error make in so many trials: the upper end of the 95 % binomial interval."""
    return int(stats.binom.ppf(0.975, trials, error))


@dataclass(frozen=True)
class Duel:
    """Two methods on the same trials: how often only one of them was right, and the exact sign test of that."""

    first: int
    second: int

    @property
    def p_value(self) -> float:
        """Two-sided; 1 where they never differ."""
        differ = self.first + self.second
        return float(stats.binomtest(self.first, differ).pvalue) if differ else 1.0


def duel(outcomes: Sequence[Outcome], first: str, second: str, question: str) -> Duel:
    """Counts the trials that only one of two methods got right."""
    pairs = list(zip(*(answers(outcomes, method, question) for method in (first, second)), strict=True))
    return Duel(sum(one and not other for one, other in pairs), sum(other and not one for one, other in pairs))
