"""A benchmark as a page, or as sections of another page."""

from __future__ import annotations

from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.reporting.page import Page, Section
from captum_canonical.reporting.pictures import Panel, RegionNames, drawing_of, panel_of, seen_values, signed_scale
from captum_canonical.reporting.provenance import benchmark_section, now
from captum_canonical.reporting.words import counted
from captum_canonical.tables import Table

HOW_TO_READ = (
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
            Section("reading", "How to read this, and its limits", points=HOW_TO_READ),
            benchmark_section(result.settings),
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
