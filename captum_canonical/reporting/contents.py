"""What the page of a model-level result, or of a benchmark, consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.reporting.display import (
    Panel,
    RegionNames,
    Scale,
    count_scale,
    counted,
    drawing_of,
    error_scale,
    mesh_of,
    number,
    panel_of,
    seen_values,
    signed_scale,
)
from captum_canonical.reporting.findings import (
    Findings,
    StratumColumns,
    comparison_section,
    findings_of,
    group_section,
    leading_regions,
    region_section,
    short_verdict,
)
from captum_canonical.reporting.gallery import PhotoSource, gallery_section
from captum_canonical.reporting.page import Page, Section
from captum_canonical.reporting.provenance import account_section, now, run_section, settings_section
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.significance import Significance
from captum_canonical.saliency.units import units_of
from captum_canonical.tables import Table

HOW_TO_READ_BENCHMARK = (
    "Each row is a way of making maps; controls are maps that know nothing of the network. Explanation images keep or "
    "hide what a map marks, and the network's score on them says how much the map found.",
    "A column's title says whether higher or lower is better; brackets hold the interval. Ranks leave open what the "
    "tests leave open: methods whose difference is not detected share a range of ranks.",
    "Measures of removal depend on what pixels are replaced by, so that every fill has a table of its own. A method "
    "that is better here finds more of what the network answers to; whether the network is right is another question.",
    "Units of maps differ between methods: each mean map has a scale of its own, and its colours must not be compared.",
)


def page_of_benchmark(result: BenchmarkResult, title: str | None, with_photos: bool) -> Page:
    """The page of a benchmark; ``with_photos=False`` leaves out what identifies single photographs."""
    face = next(iter(result.canonical_faces.values()), None)
    regions = None if face is None else RegionNames.of(face)
    return Page(
        kind="Report of a benchmark of attribution methods",
        title=title or "Methods side by side",
        subtitle=f"{counted(len(result.rows), 'row')}, {counted(len(result.clean_scores), 'photograph')}",
        made=now(),
        sections=[
            *benchmark_sections(result, with_photos, regions),
            Section("reading", "How to read this, and its limits", points=HOW_TO_READ_BENCHMARK),
            settings_section(result.settings),
        ],
        drawing=None if face is None else drawing_of(face),
        regions=regions,
    )


def benchmark_sections(result: BenchmarkResult, with_photos: bool, regions: RegionNames | None) -> list[Section]:
    """Tables, mean maps, and the photographs that were left out."""
    sections = [Section("benchmark", "Methods side by side", tables=result.tables(), points=result.remarks)]
    panels = _mean_maps(result, regions)
    if panels:
        texts = ["The mean of each method's canonical maps. No score is made from these."]
        sections.append(Section("benchmark-maps", "Mean maps of the methods", texts=texts, panels=panels))
    if result.left_out:
        text = f"{counted(len(result.left_out), 'photograph')} left out."
        title = "Photographs that were left out"
        left = Table.of_cells(("Place", "Reason"), list(result.left_out.items()), title=title)
        tables = [left] if with_photos else []
        sections.append(Section("benchmark-left-out", "Left out of the benchmark", texts=[text], tables=tables))
    return sections


def _mean_maps(result: BenchmarkResult, regions: RegionNames | None) -> list[Panel]:
    panels = []
    for name, mean in result.mean_maps.items():
        values = seen_values(mean, result.canonical_faces[name].raster.covered[None])
        panels.append(panel_of(values, signed_scale([values], "mean map, the method's own unit"), name, regions))
    return panels


NO_SINGLE_MAPS = (
    "This result holds no maps of single photographs (it was streamed, or loaded from a summary), so that tests, "
    "intervals, groups and the gallery of photographs are not possible. Make the page of the run folder instead."
)
HOW_TO_READ_MAP = (
    "Red speaks for the target, blue against it, white is 0, in the unit written below the colours. With occlusion, a "
    "value is how far the score falls when a patch at that place of the face is hidden; so it depends on the patch and "
    "on what it is filled with, which stand in the settings.",
    "Hatched places were not seen in any photograph, because the face hides them or the picture ends: nothing is known "
    "there. Where few photographs cover a place, the mean is uncertain: look at the standard error and the coverage.",
    "The standard error takes photographs as independent, which those of one person are not. Intervals and tests go by "
    "identity where identities are known.",
    "Tests are corrected over the pixels or regions of one comparison, not over all comparisons on this page. A "
    "difference that is not detected may exist all the same.",
    "A map tells where pixels matter to the network, not why, and not whether that is fair. Groups are the labels that "
    "came with the photographs. All numbers are about the photographs that have a map, and about no others.",
    "Left and right are the person's own.",
)


@dataclass(frozen=True, eq=False)
class PageOptions:
    """The arguments of :func:`report` of the same names."""

    title: str | None
    unit: str
    photos: PhotoSource
    gallery: int
    view_3d: bool
    strata: Sequence[StratumColumns] | None
    comparisons: Sequence[GroupComparison]
    benchmark: BenchmarkResult | None


def page_of_saliency(result: ModelSaliency, options: PageOptions) -> Page:
    """All sections that the result has something for."""
    face, run, with_photos = result.canonical_face, result.run, options.photos is not False
    regions = None if face is None else RegionNames.of(face)
    mesh = mesh_of(face) if options.view_3d and face is not None and result.n else None
    sections = _map_sections(result, options, regions, mesh is not None) if result.n else []
    if options.comparisons:
        sections.append(comparison_section(options.comparisons, options.unit, regions))
    if options.benchmark is not None:
        sections += benchmark_sections(options.benchmark, with_photos, regions)
    if run is not None:
        sections.append(account_section(run, with_photos))
    sections.append(Section("reading", "How to read this, and its limits", points=HOW_TO_READ_MAP))
    if run is not None:
        sections.append(run_section(run))
    return Page(
        kind="Report of a model-level canonical saliency map",
        title=options.title or _title(result),
        subtitle=_subtitle(result),
        made=now(),
        sections=sections,
        notices=_notices(result),
        drawing=None if face is None else drawing_of(face),
        regions=regions,
        mesh=mesh,
    )


def _title(result: ModelSaliency) -> str:
    return "Where the network looks" if result.run is None else f"Where the network looks: {Path(result.run.path).name}"


def _subtitle(result: ModelSaliency) -> str:
    pooled = ", each pooled with its mirror image" if result.symmetric else ""
    once = ", every person counted once" if result.weights == "people" else ""
    return f"Mean over {counted(result.n, 'photograph')}{once}{pooled}, on the canonical face"


def _notices(result: ModelSaliency) -> list[str]:
    notices = [] if result.run is None or result.run.complete else [f"The run is not finished: {result.run.missing}"]
    if result.photos is None:
        notices.append(NO_SINGLE_MAPS)
    elif not result.n:
        notices.append("No photograph has a map yet, so that there is no map to show.")
    elif result.weights == "photographs" and (imbalance := units_of(result.photos).imbalance):
        notices.append(imbalance)
    if result.photos is not None and (approximation := result.photos.approximation):
        notices.append(
            f"Points rotate: each photograph evaluates {approximation}, another set than its neighbours. The mean map "
            "is over the photographs that evaluate a place; single maps are approximate, with holes where nothing is "
            "known."
        )
    if result.run is not None and (rounding := result.run.rounding):
        notices.append(f"{rounding[0].upper()}{rounding[1:]}")
    return notices


def _map_sections(
    result: ModelSaliency, options: PageOptions, regions: RegionNames | None, view_3d: bool
) -> list[Section]:
    """The sections that need a map."""
    findings = findings_of(result, options.strata)
    sections = [
        _summary_section(result, findings),
        _map_section(result, findings, options.unit, regions, view_3d),
        region_section(findings, options.unit),
    ]
    if findings.strata or "groups" in findings.reasons:
        sections.append(group_section(findings, options.unit, regions))
    if options.photos is not False and result.photos is not None and regions is not None:
        sections.append(gallery_section(result, options.photos, options.gallery, options.unit, regions))
    return sections


def _summary_section(result: ModelSaliency, findings: Findings) -> Section:
    """How many photographs, whether they are enough, and what was found."""
    points = [
        _photographs(result),
        *([] if result.run is None else [str(each["says"]) for each in result.run.stopping.get("verdicts", [])[-1:]]),
        "" if findings.significance is None else findings.significance.sentence,
        "" if findings.regions is None else leading_regions(findings.regions),
        *(short_verdict(each) for compared in findings.comparisons.values() for each in compared),
    ]
    return Section("summary", "In short", points=[point for point in points if point])


def _photographs(result: ModelSaliency) -> str:
    run = result.run
    count = f"{counted(result.n, 'photograph')} with a map"
    if run is None:
        return f"{count}."
    lost = f"{count}; {number(len(run.left_out))} left out or failed"
    return f"{lost}." if run.complete else f"{lost}, and {number(run.count - len(run))} not finished yet."


def _map_section(
    result: ModelSaliency, findings: Findings, unit: str, regions: RegionNames | None, view_3d: bool
) -> Section:
    """Mean, standard error and number of photographs, pixel by pixel, and where the mean differs from 0."""
    panels = _panels(result, unit, regions)
    whose = "all photographs" if result.weights == "photographs" else "all people, each the mean over their photographs"
    texts = [f"The mean of the maps of {whose}. Point at a map to read its values."]
    if findings.significance is not None:
        texts.append(findings.significance.sentence)
        panels += _detected(result, findings.significance, panels[0].scale, regions)
    return Section(
        "map",
        "Where the network looks",
        texts=texts,
        panels=panels,
        view_3d=f"The canonical face in three dimensions. {panels[0].text}" if view_3d else None,
        reasons=findings.reasons.get("map", ()),
    )


def _panels(result: ModelSaliency, unit: str, regions: RegionNames | None) -> list[Panel]:
    mean, error, count = (
        seen_values(each, result.count) for each in (result.mean, result.standard_error, result.count)
    )
    colours = "Red speaks for the target, blue against it."
    width = f"Half of the width of a 68 % interval, if {result.weights} are independent."
    rotating = result.photos is not None and result.photos.approximation
    seen = f"{result.weights.capitalize()} in which the place is {'evaluated' if rotating else 'seen'}."
    return [
        panel_of(mean, signed_scale([mean], unit), "Mean map", regions, colours),
        panel_of(error, error_scale([error], unit), "Standard error", regions, width),
        panel_of(count, count_scale([count], result.weights), "Coverage", regions, seen),
    ]


def _detected(
    result: ModelSaliency, significance: Significance, scale: Scale, regions: RegionNames | None
) -> list[Panel]:
    mean = seen_values(result.mean, result.count)
    mask = significance.mask.reshape(mean.shape).numpy()
    if not mask.any():
        return []
    caption = f"The mean map where its corrected p is at most {significance.alpha:g}; white elsewhere."
    values = np.where(np.isfinite(mean) & ~mask, 0.0, mean)
    return [panel_of(values, scale, "Other than 0", regions, caption)]
