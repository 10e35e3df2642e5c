"""Where a model-level map differs from 0, corrected for the number of pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from captum_canonical.checks import check_integer, check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.clusters import Cluster, ClusterMeasure, ClusterTest, cluster_test
from captum_canonical.statistics.max_t import Statistic, count_covered, dtype_for, max_t, testable
from captum_canonical.statistics.permutation import Patterns

Clusters = bool | Literal["mass", "extent"]


@dataclass(frozen=True)
class MaxTSettings:
    """Settings of a test of all pixels, corrected by the largest statistic of each pattern.

    Attributes:
        permutations: number of random patterns; if there are no more in all, each is used once.
        alpha: the chance of any false finding in a map without effect.
        seed: of the patterns.
        clusters: False for single pixels, or the measure of a cluster; True is "mass".
        forming: two-sided p value at or below which a pixel belongs to a cluster.
        share: of the units (of each group) that must cover a pixel for it to be tested.

    Raises:
        CanonicalError: a value is not valid.
    """

    permutations: int = 10_000
    alpha: float = 0.05
    seed: int = 0
    clusters: Clusters = False
    forming: float = 0.001
    share: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("permutations", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        for name in ("alpha", "forming"):
            check_number(name, getattr(self, name), above=0, below=1)
        check_number("share", self.share, above=0, most=1)
        if self.clusters not in (False, True, "mass", "extent"):
            raise CanonicalError(f'clusters: expected False, True, "mass" or "extent", got {self.clusters!r}.')

    @property
    def measure(self) -> ClusterMeasure:
        """The measure of clusters."""
        return "extent" if self.clusters == "extent" else "mass"


@dataclass(frozen=True, eq=False)
class Significance:
    """A map of corrected p values, see :meth:`ModelSaliency.significance`.

    Attributes:
        t: (1, H, W) float64 Student's t; for two groups, Welch's t as the normal deviate z of the same probability.
            NaN where not tested.
        p_values: (1, H, W) float64, corrected over all tested pixels; NaN where not tested. With clusters that of the
            pixel's cluster, 1 outside of all clusters.
        mask: (1, H, W) bool, p at most alpha.
        critical_value: the value that abs(t) has to exceed; infinite if there are too few units, None with clusters.
        clusters: those formed by the threshold, or None.
        settings: of the test.
        units: the number and kind of the units, such as "40 people"; of two groups "20 people and 30 people".
        patterns: number of patterns of signs or groups that were used, including the observed one.
        exhaustive: whether these are all patterns.
        smallest: the smallest p value that these patterns can give.
        subject: what is tested, such as "mean other than 0".
        two_groups: whether two groups were compared, by random groups instead of random signs.
    """

    t: Tensor
    p_values: Tensor
    mask: Tensor
    critical_value: float | None
    clusters: tuple[Cluster, ...] | None
    settings: MaxTSettings
    units: str
    patterns: int
    exhaustive: bool
    smallest: float
    subject: str
    two_groups: bool = False

    @property
    def alpha(self) -> float:
        """The chance of any false finding in a map without effect."""
        return self.settings.alpha

    @property
    def tested(self) -> Tensor:
        """(1, H, W) bool, the pixels that enough units cover."""
        return ~self.t.isnan()

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        patterns = (
            f"ways to deal {self.units} out to the groups" if self.two_groups else f"sign patterns of {self.units}"
        )
        how = f"{self.patterns:,} {'(all)' if self.exhaustive else 'random'} {patterns}"
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
            return self._cluster_sentence(family)
        found = int(self.mask.sum())
        if not found:
            return f"No {self.subject} detected in any of {tested:,} pixels (max-T, {family})."
        return (
            f"{self.subject[:1].upper()}{self.subject[1:]} in {found:,} of {tested:,} pixels "
            f"(|{'z' if self.two_groups else 't'}| above {self.critical_value:.3g}; max-T, {family})."
        )

    def _cluster_sentence(self, family: str) -> str:
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
        """JSON-ready values, without the maps."""
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


def significance_of(
    bands: Iterable[tuple[slice, Tensor, Tensor]],
    size: tuple[int, int],
    patterns: Patterns,
    statistic: type[Statistic],
    settings: MaxTSettings,
    units: str,
    subject: str,
) -> Significance:
    """Tests all pixels of a map.

    Args:
        bands: which pixels, (U, P) values of them and whether they are covered; all pixels in order.
        size: (H, W).
        patterns, statistic: as in :func:`max_t`.
        settings: of the test.
        units, subject: see :class:`Significance`.
    """
    flags: list[Tensor] = []

    def seen() -> Iterable[tuple[Tensor, Tensor]]:
        for _, values, covered in bands:
            flags.append(_tested(covered, patterns, statistic, settings.share))
            yield values, covered

    if settings.clusters:
        test = _cluster_test(seen(), size, patterns, statistic, settings)
        t, p_values, clusters, critical = test.t.reshape(-1), test.p_values.reshape(-1), test.clusters, None
    else:
        found = max_t(seen(), patterns, statistic, settings.share)
        t, p_values, clusters, critical = found.t, found.p_values, None, found.critical_value(settings.alpha)
    tested = torch.cat(flags)
    t, p_values = (torch.where(tested, each, torch.nan).reshape(1, *size) for each in (t, p_values))
    mask = p_values <= settings.alpha  # NaN is not
    return Significance(
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
        two_groups=statistic.groups == 2,
    )


def _cluster_test(
    bands: Iterable[tuple[Tensor, Tensor]],
    size: tuple[int, int],
    patterns: Patterns,
    statistic: type[Statistic],
    settings: MaxTSettings,
) -> ClusterTest:
    # Clusters need all pixels at once: only those that can be tested are kept.
    places, parts = [], []
    for values, covered in bands:
        some = testable(covered, statistic, settings.share)
        places.append(some)
        parts.append((values[:, some].to(dtype_for(patterns)), covered[:, some]))
    values, covered = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    parts.clear()
    thresholds = _forming_thresholds(covered, statistic, settings.forming)
    where = torch.cat(places).reshape(size)
    return cluster_test(values, covered, where, patterns, statistic, thresholds, settings.measure, settings.share)


def _tested(covered: Tensor, patterns: Patterns, statistic: type[Statistic], share: float) -> Tensor:
    """(P,) bool, pixels that enough units of the sample, or of each of the observed groups, cover."""
    members = patterns.rows[0] > 0
    groups = [covered[members], covered[~members]] if (~members).any() else [covered]
    counts = [(count_covered(group), share * len(group)) for group in groups]
    return torch.stack([(count >= 2) & (count >= least) for count, least in counts]).all(0)


def _forming_thresholds(covered: Tensor, statistic: type[Statistic], forming: float) -> Tensor:
    """(P,) the statistic with this two-sided p value; t depends on the number of units that cover the pixel."""
    counts, inverse = count_covered(covered).unique(return_inverse=True)
    normal = np.full(len(counts), stats.norm.ppf(1 - forming / 2))
    limits = stats.t.ppf(1 - forming / 2, (counts.numpy() - 1).clip(min=1)) if statistic.groups == 1 else normal
    return torch.from_numpy(limits)[inverse]
