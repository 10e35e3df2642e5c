"""Where a model-level map is other than 0, corrected for all its pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.clusters import Cluster, ClusterTest, Measure, cluster_test
from captum_canonical.statistics.max_t import Statistic, counted, kind_for, max_t, testable
from captum_canonical.statistics.permutation import Patterns

Clusters = bool | Literal["mass", "extent"]


@dataclass(frozen=True)
class Settings:
    """Of a corrected test.

    Attributes:
        permutations: random patterns; where there are no more, all are tried.
        alpha: the chance of any false finding in a map without effect.
        seed: of the patterns.
        clusters: False for single pixels, or what a cluster is measured by; True is "mass".
        forming: two-sided p value of a single pixel from which on it belongs to a cluster.
        share: of the units (of each group) that must cover a pixel for it to be tested.

    Raises:
        CanonicalError: a value does not fit.
    """

    permutations: int = 10_000
    alpha: float = 0.05
    seed: int = 0
    clusters: Clusters = False
    forming: float = 0.001
    share: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("permutations", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise CanonicalError(f"{name}: expected an integer from {least} on, got {value!r}.")
        for name in ("alpha", "forming", "share"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, Real)
                or not 0 < float(value) < 1 + (name == "share") * 1e-9
            ):
                raise CanonicalError(f"{name}: expected a number above 0 and below 1, got {value!r}.")
        if self.clusters not in (False, True, "mass", "extent"):
            raise CanonicalError(f'clusters: expected False, True, "mass" or "extent", got {self.clusters!r}.')

    @property
    def measure(self) -> Measure:
        """Of clusters."""
        return "extent" if self.clusters == "extent" else "mass"


@dataclass(frozen=True, eq=False)
class Significance:
    """A map of corrected p values; see :meth:`ModelSaliency.significance`.

    Attributes:
        t: (1, H, W) float64 Student's t, of two groups Welch's as the normal deviate z that is as unlikely; NaN where
            not tested.
        p_values: (1, H, W) float64, corrected over all tested pixels; NaN where not tested. With clusters that of the
            pixel's cluster, 1 outside of all.
        mask: (1, H, W) bool, p at most alpha.
        critical_value: abs(t) has to exceed it; infinite if there are too few units, None with clusters.
        clusters: found by the forming threshold, or None.
        settings: of the test.
        units: that signs are flipped of, or that are dealt out anew, in words.
        patterns: of signs or groups that were tried, the observed one among them.
        exhaustive: whether these are all.
        smallest: the smallest p value that these patterns can give.
        subject: what is tested, in words.
    """

    t: Tensor
    p_values: Tensor
    mask: Tensor
    critical_value: float | None
    clusters: tuple[Cluster, ...] | None
    settings: Settings
    units: str
    patterns: int
    exhaustive: bool
    smallest: float
    subject: str

    @property
    def alpha(self) -> float:
        """The chance of any false finding in a map without effect."""
        return self.settings.alpha

    @property
    def tested(self) -> Tensor:
        """(1, H, W) bool, pixels that enough units cover."""
        return ~self.t.isnan()

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        how = f"{self.patterns:,} {'(all)' if self.exhaustive else 'random'} {self.method}"
        family = f"family-wise error {self.alpha:.3g}, {how}"
        if self.smallest > self.alpha:
            return (
                f"{self.units} are too few for a test: no p value can be below {self.smallest:.3g}, and "
                f"{self.alpha:.3g} is asked for."
            )
        tested = int(self.tested.sum())
        if not tested:
            return f"No pixel is covered by {self.settings.share:.0%} of {self.units}, so that none is tested."
        if self.clusters is not None:
            return self._of_clusters(family)
        found = int(self.mask.sum())
        if not found:
            return f"No {self.subject} detected in any of {tested:,} pixels (max-T, {family})."
        return (
            f"{self.subject[:1].upper()}{self.subject[1:]} in {found:,} of {tested:,} pixels (|{self.letter}| above "
            f"{self.critical_value:.3g}; max-T, {family})."
        )

    @property
    def method(self) -> str:
        """How patterns come about, in words."""
        return f"sign patterns of {self.units}"

    @property
    def letter(self) -> str:
        """Of the statistic."""
        return "t"

    def _of_clusters(self, family: str) -> str:
        clusters = self.clusters or ()
        found = [cluster for cluster in clusters if cluster.p_value <= self.alpha]
        formed = f"{self.settings.measure} of clusters of pixels with p below {self.settings.forming:.3g}"
        if not found:
            return f"No {self.subject} detected in any of {len(clusters)} clusters ({formed}; {family})."
        return (
            f"{self.subject[:1].upper()}{self.subject[1:]} somewhere in each of {len(found)} of {len(clusters)} "
            f"clusters, {int(self.mask.sum()):,} pixels in all ({formed}; {family})."
        )

    def as_json(self) -> dict[str, Any]:
        """For a file: all but the maps."""
        finite = self.critical_value is not None and self.critical_value != float("inf")
        return {
            "sentence": self.sentence,
            "settings": asdict(self.settings),
            "units": self.units,
            "patterns": self.patterns,
            "exhaustive": self.exhaustive,
            "critical_value": self.critical_value if finite else None,
            "tested_pixels": int(self.tested.sum()),
            "significant_pixels": int(self.mask.sum()),
            "clusters": None if self.clusters is None else [asdict(cluster) for cluster in self.clusters],
        }


@dataclass(frozen=True, eq=False)
class GroupSignificance(Significance):
    """Of a difference between two groups of units."""

    @property
    def method(self) -> str:
        """How patterns come about, in words."""
        return f"ways to deal {self.units} out to the groups"

    @property
    def letter(self) -> str:
        """Of the statistic."""
        return "z"


def significance_of(
    bands: Iterable[tuple[slice, Tensor, Tensor]],
    size: tuple[int, int],
    patterns: Patterns,
    statistic: type[Statistic],
    settings: Settings,
    units: str,
    subject: str,
    kind: type[Significance] = Significance,
) -> Significance:
    """The test of all pixels of a map.

    Args:
        bands: which pixels, (U, P) values of them and whether they are covered; all pixels in order.
        size: (H, W).
        patterns, statistic: as in :func:`max_t`.
        settings: of the test.
        units, subject, kind: for the verdict.
    """
    whole = (1, *size)
    flags: list[Tensor] = []

    def seen() -> Iterable[tuple[Tensor, Tensor]]:
        for _, values, covered in bands:
            flags.append(_tested(covered, patterns, statistic, settings.share))
            yield values, covered

    if settings.clusters:
        test = _clusters_of(seen(), size, patterns, statistic, settings)
        t, p_values, clusters, critical = test.t.reshape(-1), test.p_values.reshape(-1), test.clusters, None
    else:
        found = max_t(seen(), patterns, statistic, settings.share)
        t, p_values, clusters, critical = found.t, found.p_values, None, found.critical_value(settings.alpha)
    tested = torch.cat(flags)
    t, p_values = (torch.where(tested, each, torch.nan).reshape(whole) for each in (t, p_values))
    mask = p_values <= settings.alpha  # NaN is not
    return kind(
        t,
        p_values,
        mask,
        critical,
        clusters,
        settings,
        units,
        len(patterns),
        patterns.exhaustive,
        patterns.smallest,
        subject,
    )


def _clusters_of(
    bands: Iterable[tuple[Tensor, Tensor]],
    size: tuple[int, int],
    patterns: Patterns,
    statistic: type[Statistic],
    settings: Settings,
) -> ClusterTest:
    """Clusters need all pixels at once: only those are kept that can be tested."""
    places, parts = [], []
    for values, covered in bands:
        some = testable(covered, statistic, settings.share)
        places.append(some)
        parts.append((values[:, some].to(kind_for(patterns)), covered[:, some]))
    values, covered = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    parts.clear()
    thresholds = _forming_thresholds(covered, statistic, settings.forming)
    where = torch.cat(places).reshape(size)
    return cluster_test(values, covered, where, patterns, statistic, thresholds, settings.measure, settings.share)


def _tested(covered: Tensor, patterns: Patterns, statistic: type[Statistic], share: float) -> Tensor:
    """(P,) bool, pixels that enough units of the sample, or of both groups as they are, cover."""
    members = patterns.rows[0] > 0
    groups = [covered[members], covered[~members]] if (~members).any() else [covered]
    counts = [(counted(group), share * len(group)) for group in groups]
    return torch.stack([(count >= 2) & (count >= least) for count, least in counts]).all(0)


def _forming_thresholds(covered: Tensor, statistic: type[Statistic], forming: float) -> Tensor:
    """(P,) the statistic of a two-sided p value, of t by the number of units that cover the pixel."""
    counts, inverse = counted(covered).unique(return_inverse=True)
    normal = np.full(len(counts), stats.norm.ppf(1 - forming / 2))
    limits = stats.t.ppf(1 - forming / 2, (counts.numpy() - 1).clip(min=1)) if statistic.groups == 1 else normal
    return torch.from_numpy(limits)[inverse]
