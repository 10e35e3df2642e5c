"""The model-level map, flat and in three dimensions, with its standard error and coverage."""

from __future__ import annotations

from captum_canonical.model_saliency import ModelSaliency
from captum_canonical.reporting.options import Options
from captum_canonical.reporting.page import Section
from captum_canonical.reporting.pictures import (
    Panel,
    RegionNames,
    count_scale,
    error_scale,
    panel_of,
    seen_values,
    signed_scale,
)

TITLE = "Where the network looks"


def map_section(result: ModelSaliency, options: Options, regions: RegionNames | None, head: bool) -> Section:
    """Mean, standard error and number of photographs, pixel by pixel."""
    if not result.n:
        return Section("map", TITLE, reasons=["No photograph has a map."])
    panels = _panels(result, options.unit, regions)
    told = f"The canonical face in three dimensions. {panels[0].text}" if head else None
    texts = [
        "The mean of the maps of all photographs. Point at a map to read its values; the face can be turned."
        if head
        else "The mean of the maps of all photographs. Point at a map to read its values."
    ]
    return Section("map", TITLE, texts=texts, panels=panels, head=told)


def _panels(result: ModelSaliency, unit: str, regions: RegionNames | None) -> list[Panel]:
    mean = seen_values(result.mean, result.count)
    error = seen_values(result.standard_error, result.count)
    count = seen_values(result.count, result.count)
    return [
        panel_of(mean, signed_scale([mean], unit), "Mean map", regions, "Red speaks for the target, blue against it."),
        panel_of(
            error,
            error_scale([error], unit),
            "Standard error of the mean",
            regions,
            "Half of the width of a 68 % interval, if the photographs are independent.",
        ),
        panel_of(
            count, count_scale([count], "photographs"), "Coverage", regions, "Photographs in which the place is seen."
        ),
    ]
