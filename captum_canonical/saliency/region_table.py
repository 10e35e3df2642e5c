"""The table of regions: how much of a mean map lies in which named region of the face, with intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from captum_canonical.checks import check_choice
from captum_canonical.files import finite
from captum_canonical.saliency.moments import Weights
from captum_canonical.saliency.regions import RegionMasks, RegionValues, region_values, regions_version
from captum_canonical.saliency.result import NO_SINGLE_MAPS, ModelSaliency, ResultLike, as_result
from captum_canonical.statistics.bootstrap import Estimate, check_level
from captum_canonical.tables import Column, Interval, Table

UNKNOWN: Interval = (math.nan, math.nan)
AT_THE_END = (
    "A share of exactly 0 or 1 and an index of exactly -1 or 1 have no interval: they could not move, because the "
    "pixels that count as positive are held fixed. See the region's mean instead."
)
POOLED = "Left and right cannot be compared: each map was pooled with its mirror image (symmetric=True)."


@dataclass(frozen=True)
class RegionRow:
    """One region of a mean map.

    Attributes:
        region: its name.
        area: share of the pixels of all regions, 0..1.
        mean: mean of the mean map over the pixels of the region that any photograph covers, in the unit of the map;
            NaN if there are no such pixels.
        share: share of the positive mass (the sum of the positive values) of all regions, 0..1; NaN if there is none.
        density: share over area; 1 if the share is proportional to the size of the region.
        mean_interval, share_interval, density_interval: lower and upper end; NaN where there is no interval.
    """

    region: str
    area: float
    mean: float
    share: float
    density: float
    mean_interval: Interval = UNKNOWN
    share_interval: Interval = UNKNOWN
    density_interval: Interval = UNKNOWN


@dataclass(frozen=True)
class Asymmetry:
    """A region that exists on both sides of the face; left and right are the person's own.

    Attributes:
        region: its name without the side.
        index: (left - right) / (left + right) of the positive mass, -1 (all on the right) to 1 (all on the left); NaN
            if there is no positive mass.
        interval: lower and upper end; NaN where there is no interval.
    """

    region: str
    index: float
    interval: Interval = UNKNOWN


REGION_COLUMNS: tuple[Column[RegionRow], ...] = (
    Column("region", "Region"),
    Column("area", csv_only=True),
    Column("mean", "Mean", interval="mean_interval", format=".3g"),
    Column("share", "Share of positive mass (%)", interval="share_interval", format=".1f", scale=100),
    Column("density", "Share / area", interval="density_interval", format=".2f"),
)
PAIR_COLUMNS: tuple[Column[Asymmetry], ...] = (
    Column("region", "Pair of regions"),
    Column("index", "(left - right) / (left + right)", interval="interval", format="+.2f"),
)


@dataclass(frozen=True)
class RegionTable:
    """What :func:`region_table` returns.

    Attributes:
        rows: one for each region, in the order of the canonical face.
        asymmetries: one for each pair of regions; empty if maps were pooled with their mirror images.
        outside: share of the positive mass of the whole map that lies in no region, 0..1.
        n: number of photographs.
        weights: what counts equally in the map, ``"photographs"`` or ``"people"``.
        level: nominal coverage of the intervals.
        notes: sentences about intervals, sides and mass.
        regions_version: identifies the regions, see :func:`regions_version`.
    """

    rows: tuple[RegionRow, ...]
    asymmetries: tuple[Asymmetry, ...]
    outside: float
    n: int
    level: float
    notes: tuple[str, ...]
    regions_version: str
    weights: Weights = "photographs"

    def sorted(self) -> list[RegionRow]:
        """The rows in order of decreasing density."""
        return sorted(self.rows, key=lambda row: -math.inf if math.isnan(row.density) else row.density, reverse=True)

    def table(self, format: Literal["text", "markdown", "csv"] = "text") -> str:
        """All regions in order of decreasing density (CSV: in the order of the face); text and Markdown end with notes.

        Raises:
            CanonicalError: the format is not one of these.
        """
        check_choice("format", format, ("text", "markdown", "csv"))
        if format == "csv":
            return Table(REGION_COLUMNS, self.rows).csv()
        parts = [table.text() if format == "text" else table.markdown() for table in self.tables()]
        return "\n\n".join([*parts, "\n".join(self.notes)]) + "\n"

    def tables(self) -> list[Table[Any]]:
        """The regions, and the pairs of regions if there are any, without the notes."""
        note = "In brackets: intervals. Share / area is 1 where a region has what its size leads to expect."
        tables: list[Table[Any]] = [Table(REGION_COLUMNS, self.sorted(), "Regions", note)]
        if self.asymmetries:
            note = "Of the positive mass; \u22121: all on the person's right, 1: all on the left."
            tables.append(Table(PAIR_COLUMNS, self.asymmetries, "Left and right", note))
        return tables

    def __str__(self) -> str:
        return self.table()

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values; undefined ones are None."""
        values = {
            name: getattr(self, name) for name in ("regions_version", "n", "weights", "level", "outside", "notes")
        }
        rows = {"rows": list(map(asdict, self.rows)), "asymmetries": list(map(asdict, self.asymmetries))}
        return finite(values | rows)


def region_table(
    result: ResultLike, level: float = 0.95, intervals: bool | None = None, weights: Weights | None = None
) -> RegionTable:
    """How much of a mean map lies in which named region of the face.

    Shares are of the positive values of the mean map, which speak for the target (section IV of the paper). Intervals
    are by person where identities are known, else by photograph, from the influence of each on the mean map
    (:mod:`~captum_canonical.statistics.bootstrap`); the pixels that count as positive are held fixed. They are about
    the map of the people that these people are a sample of.

    The numbers are those of the map that is given: in ``region_table(result)`` photographs count equally, as in Eq. 6,
    in ``region_table(result.weighted("people"))`` people do. If a person is on most of the photographs, the first is
    mostly about that person, and its intervals are as wide as that makes them.

    95 % intervals of shares contained the true share in 95.3 % (100 people) and 95.9 % (40 people) of 1,000 simulated
    data sets, averaged over regions, and in 94.2 and 93.8 % if the true map is 0 on half of the face
    (``benchmarks/calibration.py``): noise gives a region a share above 0 even if its true share is 0.

    Args:
        result: on a canonical face with regions; or the path of one, the folder of a run or a file.
        level: nominal coverage of the intervals, above 0 and below 1.
        intervals: whether to compute intervals. Default: if there are single maps.
        weights: ``"photographs"`` or ``"people"``, see :meth:`ModelSaliency.weighted`. Default: those of the result.

    Raises:
        CanonicalError: the face has no regions or is not known, ``level`` or ``weights`` is not valid, or intervals or
            other weights are requested without single maps.

    Example::

        >>> from captum_canonical.faces.canonical_face import CanonicalFace
        >>> face = CanonicalFace.default(size=64)
        >>> maps = torch.zeros(3, 1, 64, 64)
        >>> maps[:, :, face.region_mask("nose_tip")] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
        >>> table = region_table(ModelSaliency.from_maps(maps, None, face))
        >>> row = table.sorted()[0]
        >>> row.region, row.mean, row.share, row.share_interval
        ('nose_tip', 2.0, 1.0, (nan, nan))
    """
    check_level(level)
    result = as_result(result, "region_table")
    result = result if weights is None else result.weighted(weights)
    face = result.face("a table of regions")
    regions = RegionMasks.of(face, "region_table")
    wanted = result.photos is not None if intervals is None else intervals
    if wanted:
        result.single_maps("intervals of regions")
    values = region_values(result, regions) if wanted and result.n else None
    rows = _rows(result, regions, values, level)
    notes = [_interval_note(result, values, level)]
    if any(math.isnan(row.share) for row in rows):
        notes.append("Nothing in any region speaks for the target (no value is positive), so that there are no shares.")
    if result.symmetric:
        notes.append(POOLED)
    pairs = () if result.symmetric else _asymmetries(result, regions, values, level)
    at_the_end = any(row.share in (0, 1) for row in rows) or any(abs(pair.index) == 1 for pair in pairs)
    if values is not None and values.units.count > 1 and at_the_end:
        notes.append(AT_THE_END)
    positive = result.mean.reshape(-1).clamp(min=0)
    whole = float(positive.sum())
    outside = float(positive[~regions.masks.any(0)].sum()) / whole if whole > 0 else math.nan
    return RegionTable(rows, pairs, outside, result.n, level, tuple(notes), regions_version(face), result.weights)


def _interval_note(result: ModelSaliency, values: RegionValues | None, level: float) -> str:
    units = None if values is None else values.units
    if units is not None and units.count > 1:
        how = "Every person counts once." if result.weights == "people" and units.people else units.imbalance
        about = f"Intervals ({level:.0%}) are by the influence of {units.description}."
        return " ".join(part for part in (about, how, units.caveat) if part)
    if units is not None:
        return f"No intervals: {units.description}."
    return f"No intervals. {NO_SINGLE_MAPS}" if result.photos is None else "No intervals."


def _rows(
    result: ModelSaliency, regions: RegionMasks, values: RegionValues | None, level: float
) -> tuple[RegionRow, ...]:
    mean, masks = result.mean.reshape(-1), regions.masks
    seen = masks & (result.count.reshape(-1) > 0)
    pixels = seen.sum(1)
    means = torch.where(pixels > 0, (seen.double() @ mean) / pixels, torch.nan).tolist()
    areas = (masks.sum(1) / masks.any(0).sum()).tolist()
    mass = (masks.double() @ mean.clamp(min=0)).tolist()
    total = float(mean.clamp(min=0)[masks.any(0)].sum())
    mean_ends = share_ends = [UNKNOWN] * len(means)
    if values is not None:
        mean_ends = _intervals(values.mean_estimates(level))
        share_ends = _intervals(values.share_estimates(level), 0.0, 1.0)
    rows = []
    for number, (name, area) in enumerate(zip(regions.names, areas, strict=True)):
        share = mass[number] / total if total > 0 else math.nan
        ends = share_ends[number]
        row = RegionRow(
            region=name,
            area=area,
            mean=means[number],
            share=share,
            density=share / area if area else math.nan,
            mean_interval=mean_ends[number],
            share_interval=ends,
            density_interval=(ends[0] / area, ends[1] / area) if area else UNKNOWN,
        )
        rows.append(row)
    return tuple(rows)


def _asymmetries(
    result: ModelSaliency, regions: RegionMasks, values: RegionValues | None, level: float
) -> tuple[Asymmetry, ...]:
    mass = regions.masks.double() @ result.mean.reshape(-1).clamp(min=0)
    found = []
    for name, left, right in regions.left_right_pairs:
        both = float(mass[left] + mass[right])
        index = float(mass[left] - mass[right]) / both if both > 0 else math.nan
        interval = UNKNOWN
        if values is not None:
            (interval,) = _intervals(values.asymmetry_estimates([(name, left, right)], level), -1.0, 1.0)
        found.append(Asymmetry(name, index, interval))
    return tuple(found)


def _intervals(estimate: Estimate, least: float = -math.inf, most: float = math.inf) -> list[Interval]:
    """Clipped to the range of possible values; unknown for a value at its end, see :data:`AT_THE_END`."""
    ends = [end.clamp(least, most).tolist() for end in (estimate.low, estimate.high)]
    return [
        (low, high) if least < value < most else UNKNOWN
        for value, low, high in zip(estimate.value.tolist(), *ends, strict=True)
    ]
