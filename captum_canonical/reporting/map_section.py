"""The page in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_canonical.reporting.findings import Findings
from captum_canonical.reporting.gallery import wall_of
from captum_canonical.reporting.page import Options, Section
from captum_canonical.reporting.pictures import (
    Panel,
    RegionNames,
    Scale,
    count_scale,
    error_scale,
    panel_of,
    seen_values,
    signed_scale,
)
from captum_canonical.reporting.words import counted, number
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Significance


def summary_section(result: ModelSaliency, findings: Sequence[str]) -> Section:
    """How many photographs, whether they are enough, and what was found."""
    points = [_photographs(result)]
    if result.run is not None:
        points += [str(verdict["says"]) for verdict in result.run.stopping.get("verdicts", [])[-1:]]
    return Section("summary", "In short", points=[*points, *(each for each in findings if each)])


def _photographs(result: ModelSaliency) -> str:
    run = result.run
    if run is None:
        return f"{counted(result.n, 'photograph')} with a map."
    lost = len(run.left_out)
    told = f"{counted(result.n, 'photograph')} with a map; {number(lost)} left out or failed"
    return f"{told}." if run.complete else f"{told}, and {number(run.count - len(run))} not finished yet."


TITLE = "Where the network looks"


def map_section(
    result: ModelSaliency, findings: Findings, unit: str, regions: RegionNames | None, head: bool
) -> Section:
    """Mean, standard error and number of photographs, pixel by pixel, and where the mean is other than 0."""
    panels = _panels(result, unit, regions)
    texts = ["The mean of the maps of all photographs. Point at a map to read its values."]
    if findings.significance is not None:
        texts.append(findings.significance.sentence)
        panels += _detected(result, findings.significance, panels[0].scale, regions)
    told = f"The canonical face in three dimensions. {panels[0].text}" if head else None
    reasons = findings.reasons.get("map", ())
    return Section("map", TITLE, texts=texts, panels=panels, head=told, reasons=reasons)


def _panels(result: ModelSaliency, unit: str, regions: RegionNames | None) -> list[Panel]:
    mean, error, count = (
        seen_values(each, result.count) for each in (result.mean, result.standard_error, result.count)
    )
    speaks = "Red speaks for the target, blue against it."
    half = "Half of the width of a 68 % interval, if photographs are independent."
    seen = "Photographs in which the place is seen."
    return [
        panel_of(mean, signed_scale([mean], unit), "Mean map", regions, speaks),
        panel_of(error, error_scale([error], unit), "Standard error", regions, half),
        panel_of(count, count_scale([count], "photographs"), "Coverage", regions, seen),
    ]


def _detected(
    result: ModelSaliency, significance: Significance, scale: Scale, regions: RegionNames | None
) -> list[Panel]:
    """The mean where it is other than 0 by the test, white elsewhere; nothing if that is nowhere."""
    mean = seen_values(result.mean, result.count)
    mask = significance.mask.reshape(mean.shape).numpy()
    if not mask.any():
        return []
    told = f"The mean map where its corrected p is at most {significance.alpha:g}; white elsewhere."
    values = np.where(np.isfinite(mean) & ~mask, 0.0, mean)
    return [panel_of(values, scale, "Other than 0", regions, told)]


def wall_section(result: ModelSaliency, options: Options, regions: RegionNames) -> Section:
    """Photographs beside their own maps, with what is known about each."""
    wall = wall_of(result, options.photos, options.wall, options.unit, regions)
    groups = sorted({tile.group for tile in wall.tiles if tile.group})
    return Section("photographs", "Photographs and their maps", wall=wall, wall_groups=groups)
