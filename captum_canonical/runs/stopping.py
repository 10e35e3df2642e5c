"""Stopping rules: how many photographs are enough, judged during a run.

The paper explains 22,000 photographs, sees the trend after 100 and a stable map after 1,000 (its Fig. 5). Here a number
decides. Both rules rest on one ratio, the variance of a single photograph's map, mean over the pixels, to the variance
of the true mean map over its pixels; it predicts how many photographs are needed.

A rule is judged at a few fixed numbers of photographs only. What it reads when it stops the run is still a little
optimistic: it is met sooner where chance favours it. For a figure to be reported, take more photographs than the rule
asks for, or others.

References:
    Spearman: Correlation calculated from faulty data, and Brown: Some experimental results in the correlation of mental
    abilities, both British Journal of Psychology 3, 1910 (reliability of a mean of more measurements).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_canonical.checks import check_number
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import finite
from captum_canonical.saliency.metric import CanonicalModelSaliency

FIRST = 32  # photographs before a rule is judged for the first time
SPLITS = 32


def checkpoints() -> Iterator[int]:
    """The numbers of photographs at which rules are judged: 32, 48, 64, 96, 128, 192, ...

    Example::

        >>> from itertools import islice
        >>> list(islice(checkpoints(), 5))
        [32, 48, 64, 96, 128]
    """
    for power in count():
        yield FIRST << power
        yield (FIRST + FIRST // 2) << power


@dataclass(frozen=True)
class StandardError:
    """Stop when the map's standard error is small beside the map's own differences from pixel to pixel.

    The value judged is the root mean square of the standard error over the standard deviation of the mean map, both
    over the pixels that at least half of the photographs cover. Photographs of one person count as independent here.

    Args:
        limit: above 0 and below 1; 0.05 for a standard error of a twentieth of the map's spread.

    Example::

        >>> StandardError(0.05).needed(noise=2.0)  # a photograph's variance is twice that of the map over its pixels
        798
    """

    limit: float

    def __post_init__(self) -> None:
        check_number("StandardError", self.limit, above=0, below=1)

    def __str__(self) -> str:
        return f"StandardError({self.limit:g})"

    def met(self, value: float) -> bool:
        """Whether this value is small enough."""
        return value <= self.limit

    def expected(self, noise: float, photos: int) -> float:
        """The value to expect with so many photographs; ``noise``: see :attr:`Verdict.noise`."""
        return math.sqrt(noise / photos / (1 + noise / photos))

    def needed(self, noise: float) -> int:
        """The photographs that bring the expected value to the limit."""
        return math.ceil(noise * (1 - self.limit**2) / self.limit**2)

    def begin(self, face: CanonicalFace, symmetric: bool, seed: int) -> Monitor:
        """A monitor for the maps of one run."""
        return _ErrorMonitor(self, face, symmetric)


@dataclass(frozen=True)
class SplitHalf:
    """Stop when other photographs would give nearly the same map.

    The value judged is the correlation of the mean maps of two random halves (mean of 32 splits), over the pixels that
    at least half of the photographs cover. All photographs of a person are in one half. The formula of Spearman and
    Brown extends it to maps of twice as many: it is the correlation to expect between this map and one of as many
    photographs of other people.

    Args:
        correlation: above 0 and below 1.

    Example::

        >>> SplitHalf(0.95).needed(noise=10.0)
        190
    """

    correlation: float

    def __post_init__(self) -> None:
        check_number("SplitHalf", self.correlation, above=0, below=1)

    def __str__(self) -> str:
        return f"SplitHalf({self.correlation:g})"

    def met(self, value: float) -> bool:
        """Whether this value is large enough."""
        return value >= self.correlation

    def expected(self, noise: float, photos: int) -> float:
        """The value to expect with so many photographs; ``noise``: see :attr:`Verdict.noise`."""
        return 1 / (1 + noise / photos)

    def needed(self, noise: float) -> int:
        """The photographs that bring the expected value to the limit."""
        return math.ceil(round(noise * self.correlation / (1 - self.correlation), 9))

    def begin(self, face: CanonicalFace, symmetric: bool, seed: int) -> Monitor:
        """A monitor for the maps of one run."""
        return _HalvesMonitor(self, face, symmetric, seed)


Rule = StandardError | SplitHalf


@dataclass(frozen=True)
class Verdict:
    """What a rule says at some number of photographs.

    Attributes:
        rule: that was judged.
        photos: with a map, so far.
        value: that the rule judges; NaN where it is not defined yet.
        noise: variance of one photograph's map, mean over the pixels, over that of the true mean map over its pixels,
            as estimated so far; None if no pattern stands out yet.

    Example::

        >>> print(Verdict(SplitHalf(0.95), 64, 0.8, noise=16.0))
        SplitHalf(0.95): 0.8 after 64 photographs, not met; about 304 are needed, and 128 would bring 0.889
    """

    rule: Rule
    photos: int
    value: float
    noise: float | None

    @property
    def met(self) -> bool:
        """Whether there are enough photographs."""
        return self.rule.met(self.value)

    @property
    def needed(self) -> int | None:
        """How many photographs the rule will probably take; None if no pattern stands out yet."""
        return None if self.noise is None else max(1, self.rule.needed(self.noise))

    def expected(self, photos: int) -> float | None:
        """The value to expect with another number of photographs; None if no pattern stands out yet."""
        return None if self.noise is None else self.rule.expected(self.noise, photos)

    def __str__(self) -> str:
        start = f"{self.rule}: {self.value:.3g} after {self.photos} photographs, {'met' if self.met else 'not met'}; "
        twice = self.expected(2 * self.photos)
        if twice is None:
            return start + "no pattern stands out yet, so the number needed is unknown"
        if self.met:
            return start + f"{2 * self.photos} would bring {twice:.3g}"
        return start + f"about {self.needed} are needed, and {2 * self.photos} would bring {twice:.3g}"

    def as_json(self) -> dict[str, Any]:
        """As a JSON object; what is not defined is None."""
        return {
            "rule": str(self.rule),
            "photos": self.photos,
            "value": finite(self.value),
            "met": self.met,
            "noise": self.noise,
            "needed": self.needed,
            "says": str(self),
        }


class Monitor(Protocol):
    """Follows the value that a rule judges while maps come in."""

    def update(self, maps: Tensor, coverage: Tensor, identities: Sequence[Hashable | None]) -> None:
        """Adds maps (N, 1, H, W), their coverage, and who is on each; rows without coverage are skipped."""

    def verdict(self) -> Verdict:
        """The rule's verdict on all maps so far."""


class _ErrorMonitor:
    def __init__(self, rule: StandardError, face: CanonicalFace, symmetric: bool) -> None:
        self._rule = rule
        self._metric = CanonicalModelSaliency(face, symmetric, sync_on_compute=False)

    def update(self, maps: Tensor, coverage: Tensor, identities: Sequence[Hashable | None]) -> None:
        self._metric.update(maps, coverage)

    def verdict(self) -> Verdict:
        saliency = self._metric.compute()
        photos = saliency.n
        judged = (saliency.count * 2 >= saliency.count.max()) & (saliency.count > 1)
        if photos < 2 or judged.sum() < 2:
            return Verdict(self._rule, photos, math.nan, None)
        error = float((saliency.variance / saliency.count)[judged].mean())
        spread = float(saliency.mean[judged].var(correction=0))
        value = math.sqrt(error / spread) if spread > 0 else math.nan
        true = spread - error  # the error of the mean map adds to its spread
        noise = photos * error / true if true > 0 else None  # of a photograph, which covers some of the pixels only
        return Verdict(self._rule, photos, value, noise)


class _HalvesMonitor:
    """Sums of random halves: of two people that come after each other one goes into each half of a split."""

    def __init__(self, rule: SplitHalf, face: CanonicalFace, symmetric: bool, seed: int) -> None:
        self._rule, self._size, self._symmetric = rule, face.size, symmetric
        pixels = face.size[0] * face.size[1]
        self._generator = torch.Generator().manual_seed(seed)
        self._coins: Tensor | None = None  # of the person who waits for a partner
        self._sides: dict[Hashable, Tensor] = {}  # person -> (SPLITS,) bool, whether in the first half
        self._sums = torch.zeros(2 * SPLITS, pixels, dtype=torch.float64)
        self._counts = torch.zeros(2 * SPLITS, pixels, dtype=torch.float64)
        self._photos = 0

    def update(self, maps: Tensor, coverage: Tensor, identities: Sequence[Hashable | None]) -> None:
        covered = coverage.flatten(1) > 0
        seen = covered.any(1)
        if not seen.any():
            return
        people = [name for name, known in zip(identities, seen.tolist(), strict=True) if known]
        first = torch.stack([self._side(name) for name in people], 1)
        members = torch.cat([first, ~first]).double()  # first halves, then second ones
        covered = covered[seen].double()
        self._sums += members @ (maps.flatten(1)[seen].double() * covered)
        self._counts += members @ covered
        self._photos += len(people)

    def _side(self, name: Hashable | None) -> Tensor:
        """(SPLITS,) bool, whether a person is in the first half; one without a name is new each time."""
        if name is None or name not in self._sides:
            if self._coins is None:
                side = self._coins = torch.randint(2, (SPLITS,), generator=self._generator).bool()
            else:
                side, self._coins = ~self._coins, None
            if name is None:
                return side
            self._sides[name] = side
        return self._sides[name]

    def verdict(self) -> Verdict:
        sums, counts = (each.reshape(2, SPLITS, *self._size) for each in (self._sums, self._counts))
        if self._symmetric:
            sums, counts = sums + sums.flip(-1), counts + counts.flip(-1)
        total = counts.sum(0)[0]  # the same for all splits
        judged = (counts > 0).all(0).all(0) & (2 * total >= total.max())
        if self._photos < 4 or judged.sum() < 2:
            return Verdict(self._rule, self._photos, math.nan, None)
        means = (sums / counts.clamp(min=1))[:, :, judged]
        means = means - means.mean(-1, keepdim=True)
        first, second = means / torch.linalg.vector_norm(means, dim=-1, keepdim=True)
        half = float((first * second).sum(-1).mean())  # NaN for a constant map
        if not half > -1:
            return Verdict(self._rule, self._photos, math.nan, None)
        value = 2 * half / (1 + half)
        noise = self._photos * (1 - value) / value if value > 0 else None
        return Verdict(self._rule, self._photos, value, noise)
