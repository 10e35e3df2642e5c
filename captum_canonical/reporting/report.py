"""From a result to a page, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.checks import check_integer, check_path, check_several
from captum_canonical.comparisons.result import GroupComparison
from captum_canonical.errors import CanonicalError
from captum_canonical.reporting.contents import PageOptions, page_of_benchmark, page_of_saliency
from captum_canonical.reporting.findings import StratumColumns
from captum_canonical.reporting.gallery import PhotoSource
from captum_canonical.reporting.page import check_place, render, write_page
from captum_canonical.run_folder.layout import MANIFEST
from captum_canonical.saliency.result import ModelSaliency


def report(
    result: ModelSaliency | BenchmarkResult | str | PathLike[str],
    path: str | PathLike[str],
    *,
    title: str | None = None,
    unit: str = "drop in the score",
    photos: PhotoSource = True,
    gallery: int = 96,
    view_3d: bool = True,
    strata: Sequence[StratumColumns] | None = None,
    comparisons: GroupComparison | Sequence[GroupComparison] = (),
    benchmark: BenchmarkResult | None = None,
) -> Path:
    """Writes one HTML file about a result. It needs nothing else: no network, no other file.

    The page computes nothing itself: maps, intervals, tests and tables are what the result's own methods
    (:meth:`~ModelSaliency.significance`, :meth:`~ModelSaliency.strata`, :meth:`~ModelSaliency.concentration`),
    :func:`region_table`, :func:`compare_groups` and :meth:`BenchmarkResult.table` give with their default settings, so
    that they reproduce every number on it. Up to four groups are compared in pairs; pass ``comparisons`` for other
    settings, such as matched photographs, or to compare models. A run that is not finished is reported as far as it
    goes.

    Args:
        result: the folder of a run (the ``out`` of :func:`explain_dataset`), finished or not; a
            :class:`ModelSaliency`; a :class:`BenchmarkResult`; or the JSON file of one, written with
            ``per_image=True``, or the file of ``ModelSaliency.save``.
        path: the file to write, such as ``"report.html"``; what was there is replaced.
        title: at the top. Default: made of the name of the folder.
        unit: of the maps' values, in words, such as "drop in log-odds".
        photos: where the photographs are. True: where the run found them. A folder: photographs of the same names in
            it. :class:`AlignedFaces`: its files. A tensor (N, 3, H, W) or (H, W, 3) arrays: those of the data, in its
            order. False: no pixel and no name of a photograph is in the page, for passing it on.
        gallery: how many photographs are shown beside their maps at most; the first ones of the run, whose order is
            random.
        view_3d: whether the page has a face that can be turned in three dimensions; the library for this adds 5 MB.
        strata: what photographs are sorted by, see :meth:`ModelSaliency.strata`: names of columns, and tuples of names
            that are crossed, such as ``["race", ("gender", "race")]``. Up to four groups of a column of groups are
            compared. Default: group, right or wrong, label and prediction, predicted class, confidence, pose and the
            columns of groups, as far as they are known and have at most nine strata.
        comparisons: further ones, from :func:`compare_groups` or :func:`compare_models`.
        benchmark: shown on the page of a model-level result as well.

    Returns:
        The path of the page.

    Raises:
        CanonicalError: ``result`` is none of these, a column of ``strata`` is unknown, or the page cannot be written.
        MissingDependencyError: plotly is needed for ``view_3d`` and not installed.

    Example::

        >>> import tempfile, torch
        >>> from captum_canonical.faces.canonical_face import CanonicalFace
        >>> maps = torch.rand(4, 1, 32, 32)
        >>> result = ModelSaliency.from_maps(maps, None, CanonicalFace.default(32), group=["a", "a", "b", "b"])
        >>> folder = tempfile.TemporaryDirectory()
        >>> page = report(result, f"{folder.name}/report.html", unit="drop in log-odds", photos=False, view_3d=False)
        >>> page.name, "drop in log-odds" in page.read_text("utf-8")
        ('report.html', True)
        >>> folder.cleanup()
    """
    one = isinstance(comparisons, GroupComparison)
    given = (comparisons,) if one else check_several("comparisons", comparisons, "results of compare_groups")
    if not all(isinstance(each, GroupComparison) for each in given):
        raise CanonicalError(f"comparisons: expected results of compare_groups or compare_models, got {given!r:.80}.")
    if strata is not None:
        check_several("strata", strata, "columns")
    check_integer("gallery", gallery, 1, expected="a number of photographs from 1 on (photos=False shows none)")
    options = PageOptions(title, unit, photos, gallery, view_3d, strata, given, benchmark)
    target = check_path("path", path)
    check_place(target)
    opened = _opened(result)
    if isinstance(opened, BenchmarkResult):
        page = page_of_benchmark(opened, title, photos is not False)
    else:
        page = page_of_saliency(opened, options)
    write_page(render(page), target)
    return target


def _opened(result: ModelSaliency | BenchmarkResult | str | PathLike[str]) -> ModelSaliency | BenchmarkResult:
    if isinstance(result, (ModelSaliency, BenchmarkResult)):
        return result
    if not isinstance(result, (str, PathLike)):
        raise CanonicalError(
            f"result: expected the folder of a run, a ModelSaliency or a BenchmarkResult, got {type(result).__name__}."
        )
    place = Path(result)
    if place.is_file() and place.suffix == ".json":
        return BenchmarkResult.from_json(place)
    if place.is_file():
        return ModelSaliency.load(place)
    if not (place / MANIFEST).is_file():
        found = "an empty folder" if place.is_dir() and not any(place.iterdir()) else f"no {MANIFEST} there"
        raise CanonicalError(
            f"{place}: expected the folder of a run, but there is {found if place.is_dir() else 'no such folder'}. "
            "explain_dataset(network, data, out) makes one."
        )
    return ModelSaliency.open(place)
