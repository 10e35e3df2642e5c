"""The page of a model-level result."""

from __future__ import annotations

from pathlib import Path

from captum_canonical.reporting.account import account_section
from captum_canonical.reporting.benchmark_page import benchmark_sections
from captum_canonical.reporting.findings import findings_of
from captum_canonical.reporting.map_section import map_section, summary_section, wall_section
from captum_canonical.reporting.page import Options, Page, Section, facts_table
from captum_canonical.reporting.pictures import RegionNames, drawing_of
from captum_canonical.reporting.region_section import (
    comparison_section,
    group_section,
    leading_regions,
    region_section,
    verdict_in_short,
)
from captum_canonical.reporting.render import mesh_of
from captum_canonical.reporting.words import counted, now, settings_of_run
from captum_canonical.saliency.result import ModelSaliency

NO_SINGLE_MAPS = (
    "This result holds no maps of single photographs (it was streamed, or loaded from a summary), so that tests, "
    "intervals, groups and the wall of photographs are not possible. Make the page of the run folder instead."
)
HOW_TO_READ = (
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


def page_of_saliency(result: ModelSaliency, options: Options) -> Page:
    """All sections that the result has something for."""
    face = result.canonical_face
    regions = None if face is None else RegionNames.of(face)
    mesh = mesh_of(face) if options.head and face is not None and result.n else None
    parts = _results(result, options, regions, mesh is not None) if result.n else []
    if options.comparisons:
        parts.append(comparison_section(options.comparisons, options.unit, regions))
    if options.benchmark is not None:
        parts += benchmark_sections(options.benchmark, options, regions)
    if result.run is not None:
        parts.append(account_section(result.run, options.photos is not False))
    parts.append(Section("reading", "How to read this, and its limits", points=HOW_TO_READ))
    if result.run is not None:
        tables = [facts_table(title, facts) for title, facts in settings_of_run(result.run).items()]
        parts.append(Section("settings", "Settings, versions and time", tables=tables))
    return Page(
        kind="Report of a model-level canonical saliency map",
        title=options.title or _title(result),
        subtitle=_subtitle(result),
        made=now(),
        sections=parts,
        notices=_notices(result),
        drawing=None if face is None else drawing_of(face),
        regions=regions,
        mesh=mesh,
    )


def _results(result: ModelSaliency, options: Options, regions: RegionNames | None, head: bool) -> list[Section]:
    """All that needs a map."""
    findings = findings_of(result, options.strata)
    parts = [map_section(result, findings, options.unit, regions, head), region_section(findings, options.unit)]
    told = [
        "" if findings.significance is None else findings.significance.sentence,
        "" if findings.regions is None else leading_regions(findings.regions),
        *(verdict_in_short(comparison) for comparison in findings.comparisons),
    ]
    parts.insert(0, summary_section(result, told))
    if findings.strata or "groups" in findings.reasons:
        parts.append(group_section(findings, options.unit, regions))
    if options.photos is not False and result.photos is not None and regions is not None:
        parts.append(wall_section(result, options, regions))
    return parts


def _title(result: ModelSaliency) -> str:
    return "Where the network looks" if result.run is None else f"Where the network looks: {Path(result.run.path).name}"


def _subtitle(result: ModelSaliency) -> str:
    pooled = ", each pooled with its mirror image" if result.symmetric else ""
    return f"Mean over {counted(result.n, 'photograph')}{pooled}, on the canonical face"


def _notices(result: ModelSaliency) -> list[str]:
    notices = [] if result.run is None or result.run.complete else [f"The run is not finished: {result.run.missing}"]
    if result.photos is None:
        notices.append(NO_SINGLE_MAPS)
    elif not result.n:
        notices.append("No photograph has a map yet, so that there is no map to show.")
    return notices
