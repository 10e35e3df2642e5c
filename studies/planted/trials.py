"""One trial: photographs, a place where a mark counts in group A, a decoy that counts nowhere, and interventions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_canonical.statistics.bootstrap import bootstrap_interval
from studies.planted.photographs import BLUE, RED, Mark, Photographs, plantable

EACH = 20  # photographs of each group, 40 together; and 20 more of group B, to compare with itself
GROUPS = ("A",) * EACH + ("B",) * (2 * EACH)
AGAIN = "B again"


@dataclass(frozen=True)
class Trial:
    """Photographs and what is planted in them.

    Attributes:
        seed: of the trial.
        photographs: EACH of group A, then twice as many of group B, without marks.
        planted, decoy: indices of regions in :func:`~planted.photographs.plantable`.
        colours: of the mark and of the decoy.
        carries, decoyed: (N,) 0 or 1, whether the mark and the decoy are there.
        labels: (N,) 0 or 1, the class.
    """

    seed: int
    photographs: Photographs
    planted: int
    decoy: int
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    carries: Tensor
    decoyed: Tensor
    labels: Tensor

    @property
    def photos(self) -> Tensor:
        """(N, 3, SIZE, SIZE) with their marks and decoys."""
        return self.photographs.marked(
            Mark(self.planted, self.carries, self.colours[0]), Mark(self.decoy, self.decoyed, self.colours[1])
        )

    @property
    def names(self) -> tuple[str, str]:
        """The regions of the mark and of the decoy."""
        return plantable()[self.planted], plantable()[self.decoy]

    @property
    def groups(self) -> list[str]:
        """Group of each photograph; the second half of group B is called :data:`AGAIN`."""
        return [*GROUPS[: 2 * EACH], *[AGAIN] * EACH]


def places(seed: int) -> tuple[int, int]:
    """The regions of mark and decoy: every region gets its turn, and the decoy is any other."""
    count = len(plantable())
    generator = torch.Generator().manual_seed(seed)
    planted = seed % count
    return planted, (planted + 1 + int(torch.randint(count - 1, (1,), generator=generator))) % count


def drawn(labels: Tensor, in_a: Tensor, effect: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Who carries the mark and who the decoy, (N,) 0 or 1 each.

    In group A the mark agrees with the label in (1 + effect) / 2 of the photographs; in group B, and the decoy in both,
    a coin decides.
    """
    agrees, coin, other = torch.rand(3, len(labels), generator=generator)
    in_group_a = torch.where(agrees < (1 + effect) / 2, labels, 1 - labels)
    return torch.where(in_a, in_group_a, (coin < 0.5).float()), (other < 0.5).float()


def make_trial(pool: Photographs, seed: int, effect: float = 1.0, same_colour: bool = False) -> Trial:
    """A trial on photographs drawn from a pool.

    Args:
        pool: photographs to draw from.
        seed: of everything.
        effect: see :func:`drawn`.
        same_colour: whether the decoy has the colour of the mark; else one is blue and the other red, by turns.
    """
    generator = torch.Generator().manual_seed(10_000 + seed)
    rows = []
    for here, count in ((pool.in_a, EACH), (~pool.in_a, 2 * EACH)):
        members = torch.nonzero(here).flatten()
        rows.append(members[torch.randperm(len(members), generator=generator)[:count]])
    photographs = pool.rows(torch.cat(rows))
    # As many of each class in each group: with few marks in group A by chance, no test could find anything.
    halves = torch.arange(EACH) % 2
    labels = torch.cat([halves[torch.randperm(EACH, generator=generator)] for _ in range(3)]).float()
    carries, decoyed = drawn(labels, photographs.in_a, effect, generator)
    colours = (BLUE, BLUE) if same_colour else (BLUE, RED) if seed % 2 else (RED, BLUE)
    return Trial(seed, photographs, *places(seed), colours, carries, decoyed, labels)


# ------------------------------------------------------------------------------------------------------ interventions
@dataclass(frozen=True)
class Effect:
    """Mean change of a score with a 95 % interval over photographs."""

    mean: float
    low: float
    high: float


def interventions(trial: Trial, score: Callable[[Tensor], Tensor]) -> dict[str, Effect]:
    """What painting does to a score, for each group.

    Args:
        trial: its photographs are taken without marks, and then with one.
        score: photographs -> (N,).

    Returns:
        "mark in A" and so on: the change when the mark is painted (and the reverse when it is removed); "moved in A":
        when it is painted in the decoy's place; "decoy in A": when the decoy is.
    """
    photographs, every = trial.photographs, torch.ones(len(trial.photographs))
    with torch.no_grad():
        plain = score(photographs.images)
        painted = {
            "mark": Mark(trial.planted, every, trial.colours[0]),
            "moved": Mark(trial.decoy, every, trial.colours[0]),
            "decoy": Mark(trial.decoy, every, trial.colours[1]),
        }
        changes = {name: score(photographs.marked(mark)) - plain for name, mark in painted.items()}
    in_a = photographs.in_a
    return {
        f"{name} in {group}": mean_change(change[here])
        for name, change in changes.items()
        for group, here in (("A", in_a), ("B", ~in_a))
    }


def mean_change(change: Tensor) -> Effect:
    """The mean of some changes (N,) and its interval."""
    low, high = bootstrap_interval(change, torch.arange(len(change)))
    return Effect(float(change.mean()), low, high)


def uses_mark(found: dict[str, Effect], least: float = 3.0) -> bool:
    """Whether a network uses the mark in group A: its effect there is above 0, and ``least`` times all others."""
    mark = found["mark in A"]
    others = [found[name] for name in ("mark in B", "decoy in A", "decoy in B")]
    return mark.low > 0 and mark.mean > least * max(abs(other.mean) for other in others)
