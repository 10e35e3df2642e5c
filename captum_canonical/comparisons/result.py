"""The result of a comparison of two model-level maps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from captum_canonical.checks import check_choice
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.files import finite
from captum_canonical.saliency.significance import Significance
from captum_canonical.tables import Column, Interval, Table

NO_DIFFERENCE = "no difference detected"
REGIONS_IN_VERDICT = 5  # at most this many are named


@dataclass(frozen=True)
class Matching:
    """How two groups were matched.

    Attributes:
        columns: the numbers in which the photographs of a pair are similar.
        caliper: largest difference of a pair in each column, in standard deviations of both groups together.
        pairs: number of photographs of each group that have a partner.
        left_out: number of photographs of the first and the second group without a partner.
        before, after: column -> difference of the groups' means, in the same unit, without and with matching.
    """

    columns: tuple[str, ...]
    caliper: float
    pairs: int
    left_out: tuple[int, int]
    before: dict[str, float]
    after: dict[str, float]

    @property
    def sentence(self) -> str:
        """The matching as a sentence."""
        change = ", ".join(
            f"{name} {self.before[name]:+.2f} before and {self.after[name]:+.2f} after" for name in self.columns
        )
        return (
            f"Matched on {', '.join(self.columns)} (caliper {self.caliper:g} standard deviations): {self.pairs} pairs; "
            f"{self.left_out[0]} and {self.left_out[1]} photographs without a partner left out. Difference of the "
            f"means in standard deviations: {change}."
        )

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class RegionDifference:
    """One region in both maps; p values are corrected over all regions and both measures (max-T).

    Attributes:
        region: its name.
        mean: mean of the first and the second map over the region, in their unit.
        mean_difference: first minus second.
        mean_interval: of the difference, not corrected.
        effect_size: Hedges' g of the region's mean: the difference in standard deviations between people.
        mean_p: corrected p value; NaN where not tested.
        share: share of the positive mass, in the first and the second map, 0..1.
        share_difference, share_interval, share_p: the same for the share.
    """

    region: str
    mean: tuple[float, float]
    mean_difference: float
    mean_interval: Interval
    effect_size: float
    mean_p: float
    share: tuple[float, float]
    share_difference: float
    share_interval: Interval
    share_p: float

    @property
    def p_value(self) -> float:
        """The smaller of the two corrected p values; NaN where not tested."""
        known = [p for p in (self.mean_p, self.share_p) if not math.isnan(p)]
        return min(known) if known else math.nan


@dataclass(frozen=True, eq=False)
class GroupComparison:
    """What :func:`compare_groups` and :func:`compare_models` return.

    Attributes:
        names: of the first and the second side.
        n: number of photographs of each.
        difference: (1, H, W) float64, first minus second, the mean over people; NaN where a side is not covered.
        effect_size: (1, H, W) float64, Hedges' g, the difference in standard deviations between people (of paired
            differences for :func:`compare_models`); NaN where not tested.
        significance: of the difference, corrected over pixels.
        regions: in the order of the canonical face; empty if the face has none.
        correlation: of the two mean maps over the pixels that both cover, -1..1.
        matching: how photographs were matched, or None.
        notes: sentences about photographs that were left out, settings and people.
        canonical_face: the face of both maps.
        regions_version: identifies the regions; None if there are none.
        level: nominal coverage of the intervals.
        normalised: whether both maps were divided by their positive mass per pixel.
    """

    names: tuple[str, str]
    n: tuple[int, int]
    difference: Tensor
    effect_size: Tensor
    significance: Significance
    regions: tuple[RegionDifference, ...]
    correlation: float
    matching: Matching | None
    notes: tuple[str, ...]
    canonical_face: CanonicalFace
    regions_version: str | None
    level: float
    normalised: bool = False

    @property
    def p_values(self) -> Tensor:
        """(1, H, W) corrected over pixels; NaN where not tested."""
        return self.significance.p_values

    @property
    def different_regions(self) -> list[RegionDifference]:
        """Regions whose mean differs, by increasing p value and then decreasing effect."""
        found = [region for region in self.regions if region.mean_p <= self.significance.alpha]
        return sorted(found, key=lambda region: (region.mean_p, -abs(region.effect_size)))

    @property
    def different_shares(self) -> list[RegionDifference]:
        """Regions whose share of the positive mass differs, by increasing p value and then decreasing difference.

        Shares add up to 1: where one is larger, others must be smaller, which need not be effects of their own.
        """
        found = [region for region in self.regions if region.share_p <= self.significance.alpha]
        return sorted(found, key=lambda region: (region.share_p, -abs(region.share_difference)))

    @property
    def different(self) -> bool:
        """Whether a difference was detected in a pixel (or cluster), or in the mean or share of a region."""
        return bool(self.significance.mask.any()) or bool(self.different_regions) or bool(self.different_shares)

    @property
    def verdict(self) -> str:
        """The result in words; a difference that was not detected may exist nevertheless."""
        sides = f"{self.names[0]} ({self.n[0]:,} photographs) and {self.names[1]} ({self.n[1]:,})"
        if not self.different:
            if self.significance.smallest > self.significance.alpha:
                return f"Between {sides}: {NO_DIFFERENCE}. {self.significance.sentence}"
            regions = (
                f" Nor do the mean or the share of any of {len(self.regions)} regions differ." if self.regions else ""
            )
            return f"Between {sides}: {NO_DIFFERENCE}, which does not show that there is none. " + (
                f"{self.significance.sentence}{regions}"
            )
        parts = [f"{sides} differ.", self._means_sentence(), self._shares_sentence(), self.significance.sentence]
        return " ".join(part for part in parts if part)

    def _means_sentence(self) -> str:
        found, count = self.different_regions, len(self.regions)
        if not found:
            return f"The mean differs in none of {count} regions as a whole." if count else ""
        parts = [
            f"{each.region} ({self._more(each.mean_difference)} by {abs(each.mean_difference):.3g}, "
            f"g = {abs(each.effect_size):.2g}, p = {each.mean_p:.2g})"
            for each in found
        ]
        return f"The mean differs in {len(found)} of {count} regions: {_listed(parts)}."

    def _shares_sentence(self) -> str:
        found = self.different_shares
        parts = [
            f"{each.region} ({self._more(each.share_difference)} by {100 * abs(each.share_difference):.2g} points, "
            f"p = {each.share_p:.2g})"
            for each in found
        ]
        return f"The share of the mass differs in {len(found)}: {_listed(parts)}." if found else ""

    def _more(self, difference: float) -> str:
        return f"more for {self.names[0] if difference > 0 else self.names[1]}"

    def table(self, format: Literal["text", "markdown"] = "text") -> str:
        """The verdict, the regions by increasing p value, and the notes.

        Raises:
            CanonicalError: the format is not one of these.
        """
        check_choice("format", format, ("text", "markdown"))
        table = self.region_differences()
        text = table.text() if format == "text" else table.markdown()
        parts = [self.verdict, *([text] if table.rows else []), "\n".join(self.notes)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def region_differences(self) -> Table[RegionDifference]:
        """The regions by increasing p value, without verdict and notes."""
        first, second = self.names
        columns: list[Column[RegionDifference]] = [
            Column("region", "Region"),
            Column("mean_difference", f"Mean: {first} - {second}", interval="mean_interval", format="+.3g"),
            Column("mean_p", "p", format=".3g"),
            Column("effect_size", "Hedges' g", format="+.2f", note="Of the mean, in standard deviations of people."),
            Column(
                "share_difference",
                f"Share (%): {first} - {second}",
                interval="share_interval",
                format="+.1f",
                scale=100,
            ),
            Column("share_p", "p of shares", format=".3g"),
        ]
        rows = sorted(self.regions, key=lambda region: (math.isnan(region.p_value), region.p_value))
        note = "p values are corrected over all regions and both measures, intervals are not."
        return Table(columns, rows, f"Regions: {first} and {second}", note)

    def __str__(self) -> str:
        return self.table()

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values, without the maps; undefined ones are None."""
        return finite(
            {
                "names": self.names,
                "n": self.n,
                "verdict": self.verdict,
                "different": self.different,
                "pixels": self.significance.as_json(),
                "regions": [asdict(region) for region in self.regions],
                "correlation": self.correlation,
                "matching": None if self.matching is None else self.matching.as_json(),
                "notes": self.notes,
                "regions_version": self.regions_version,
                "level": self.level,
                "normalised": self.normalised,
            }
        )


def _listed(parts: list[str]) -> str:
    more = len(parts) - REGIONS_IN_VERDICT
    return ", ".join(parts[:REGIONS_IN_VERDICT]) + (f" and {more} more" if more > 0 else "")
