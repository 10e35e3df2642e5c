"""Where a model-level map differs from 0, corrected for the number of pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from captum_canonical.checks import check_integer, check_number
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.units import Bands, Units
from captum_canonical.statistics.clusters import Cluster, ClusterMeasure, ClusterTest, cluster_test
from captum_canonical.statistics.max_t import (
    OneSample,
    Statistic,
    TwoSamples,
    count_covered,
    dtype_for,
    max_t,
    testable,
)
from captum_canonical.statistics.permutation import Patterns, group_patterns, sign_patterns

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

    def within(self, evaluated: float) -> MaxTSettings:
        """The same where no pixel can be covered by more than this share of the units, above 0 and at most 1."""
        return replace(self, share=self.share * evaluated)

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
        """(1, H, W) bool, the pixels of the face that enough units cover."""
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
                f"{self.alpha:.3g} is required."
            )
        tested = int(self.tested.sum())
        if not tested:
            return (
                f"No pixel of the face is covered by {self.settings.share:.0%} of {self.units}, so that none is tested."
            )
        if self.clusters is not None:
            return self._cluster_sentence(family)
        found = int(self.mask.sum())
        if not found:
            return f"No {self.subject} detected in any of {tested:,} pixels of the face (max-T, {family})."
        return (
            f"{self.subject[:1].upper()}{self.subject[1:]} in {found:,} of {tested:,} pixels of the face "
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


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """A test of the maps of U units, by random signs of the maps or random groups of the units.

    Attributes:
        units: number and kind of the units, see :class:`Significance`.
        patterns: of signs, or of groups.
        settings: of the test.
        first: number of units in the first of two groups; None for signs.
    """

    units: str
    patterns: Patterns
    settings: MaxTSettings
    first: int | None = None

    @classmethod
    def of_signs(cls, units: Units, settings: MaxTSettings) -> PermutationTest:
        """Does the mean differ from 0?"""
        patterns = sign_patterns(units.count, settings.permutations, settings.seed)
        return cls(units.description, patterns, settings)

    @classmethod
    def of_groups(cls, first: Units, second: Units, settings: MaxTSettings) -> PermutationTest:
        """Do the means of two groups of different units differ?"""
        patterns = group_patterns(first.count, second.count, settings.permutations, settings.seed)
        return cls(f"{first.description} and {second.description}", patterns, settings, first.count)

    @property
    def statistic(self) -> type[Statistic]:
        """Student's t for signs, Welch's t for groups."""
        return OneSample if self.first is None else TwoSamples

    def of_pixels(self, bands: Bands, face: CanonicalFace, subject: str) -> Significance:
        """Tests the pixels of a map that show the face; maps reach beyond its rim, where there is nothing to find.

        Args:
            bands: (U, P) values of all units, of the first group and then the second; all pixels in order.
            face: that the map is on. One without triangles is tested everywhere.
            subject: what is tested, see :class:`Significance`.
        """
        flags: list[Tensor] = []
        size = face.size
        shown = face.raster.covered.reshape(-1) if len(face.triangles) else torch.ones(size[0] * size[1]).bool()

        def seen() -> Iterator[tuple[Tensor, Tensor]]:
            for pixels, values, covered in bands:
                covered = covered & shown[pixels].to(covered.device)
                values = torch.where(covered, values, 0)
                flags.append(self._tested(covered))
                yield values, covered

        if self.settings.clusters:
            test = self._cluster_test(seen(), size)
            t, p_values, clusters, critical = test.t.reshape(-1), test.p_values.reshape(-1), test.clusters, None
        else:
            found = max_t(seen(), self.patterns, self.statistic, self.settings.share)
            t, p_values, clusters, critical = found.t, found.p_values, None, found.critical_value(self.settings.alpha)
        tested = torch.cat(flags)
        t, p_values = (torch.where(tested, each, torch.nan).reshape(1, *size) for each in (t, p_values))
        return Significance(
            t=t,
            p_values=p_values,
            mask=p_values <= self.settings.alpha,  # NaN is not
            critical_value=critical,
            clusters=clusters,
            settings=self.settings,
            units=self.units,
            patterns=len(self.patterns),
            exhaustive=self.patterns.exhaustive,
            smallest=self.patterns.smallest,
            subject=subject,
            two_groups=self.first is not None,
        )

    def of_numbers(self, numbers: Tensor) -> list[float]:
        """P values of (U, K) numbers, corrected for K; NaN where a number is NaN."""
        known = ~numbers.isnan().any(0)
        values = numbers[:, known]
        found = max_t([(values, torch.ones_like(values, dtype=torch.bool))], self.patterns, self.statistic, 0)
        p_values = torch.full((numbers.shape[1],), torch.nan, dtype=torch.float64)
        p_values[known] = found.p_values
        return p_values.tolist()

    def _cluster_test(self, bands: Iterable[tuple[Tensor, Tensor]], size: tuple[int, int]) -> ClusterTest:
        # Clusters need all pixels at once: only those that can be tested are kept.
        settings, places, parts = self.settings, [], []
        for values, covered in bands:
            some = testable(covered, self.statistic, settings.share)
            places.append(some)
            parts.append((values[:, some].to(dtype_for(self.patterns)), covered[:, some]))
        values, covered = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        parts.clear()
        return cluster_test(
            values,
            covered,
            torch.cat(places).reshape(size),
            self.patterns,
            self.statistic,
            self._forming_thresholds(covered),
            settings.measure,
            settings.share,
        )

    def _tested(self, covered: Tensor) -> Tensor:
        """(P,) bool, pixels that enough units, or enough of each of the observed groups, cover."""
        groups = [covered] if self.first is None else [covered[: self.first], covered[self.first :]]
        counts = [(count_covered(group), self.settings.share * len(group)) for group in groups]
        return torch.stack([(count >= 2) & (count >= least) for count, least in counts]).all(0)

    def _forming_thresholds(self, covered: Tensor) -> Tensor:
        """(P,) the statistic with the forming p value; t depends on the number of units that cover the pixel."""
        quantile = 1 - self.settings.forming / 2
        counts, inverse = count_covered(covered).unique(return_inverse=True)
        if self.first is None:
            limits = stats.t.ppf(quantile, (counts.numpy() - 1).clip(min=1))
        else:
            limits = np.full(len(counts), stats.norm.ppf(quantile))
        return torch.from_numpy(limits)[inverse]
