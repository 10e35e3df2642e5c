"""What pages say: all that a result holds, in words and tables, and nothing that may not be passed on."""

from __future__ import annotations

import base64
import importlib
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from PIL import Image
from torch import nn

import captum_canonical as cc
from captum_canonical.comparisons.groups import compare_groups
from captum_canonical.reporting.display import Scale, panel_of, thumbnail_of
from captum_canonical.reporting.page import to_json
from captum_canonical.reporting.provenance import NO_GROUP
from captum_canonical.saliency.region_table import RegionRow, region_table
from captum_canonical.tables import Column
from captum_canonical.visualization.drawing import LEVELS, palette
from report_tools import FACE, Texts, make_run, mesh, run_order

HOSTILE = [
    "<img src=x onerror=alert(1)>.png",
    "quote\"'&amp;.png",
    "new\nline.png",
    "\u540d\u524d \u202e.png",
    "a.png",
    "b.png",
]
HOSTILE_GROUPS = ["</script><script>window.hacked = 1</script>", "'\"><b>bold</b>"]


def page_of(result: object, folder: Path, **arguments: object) -> tuple[str, Texts]:
    path = cc.report(result, folder / "report.html", **{"view_3d": False, **arguments})
    text = path.read_text("utf-8")
    return text, Texts(text)


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


# ------------------------------------------------------------------------------------------------------- contents
def test_an_interval_of_the_concentration_stands_beside_what_it_is_about(tmp_path: Path) -> None:
    maps = torch.randn(60, 1, *FACE.size, generator=torch.Generator().manual_seed(0)) + 0.02
    _, said = page_of(cc.ModelSaliency.from_maps(maps, None, FACE), tmp_path)
    header, *rows = said.tables["Concentration of the map"]
    assert header == ["Measure", "Corrected for noise", "Of this map"] and len(rows) == 3
    for _, corrected, _plain in rows:
        value, low, high = (float(each) for each in re.findall(r"[\d.e-]+", corrected.replace("\u2212", "-")))
        assert low <= value <= high
    _, few = page_of(cc.ModelSaliency.from_maps(maps[:5], None, FACE), tmp_path)
    assert few.tables["Concentration of the map"][0] == ["Measure", "Of this map"]


def test_a_person_who_is_on_most_photographs_is_pointed_out(tmp_path: Path) -> None:
    maps = torch.randn(30, 1, *FACE.size, generator=torch.Generator().manual_seed(0)) + 0.02
    result = cc.ModelSaliency.from_maps(maps, None, FACE, [max(0, number - 20) for number in range(30)])
    page, _ = page_of(result, tmp_path)
    assert "One person is on 70% of the photographs" in page
    page, _ = page_of(result.weighted("people"), tmp_path)
    assert "One person is on" not in page
    assert "Mean over 30 photographs, every person counted once, on the canonical face" in page
    assert "People in which the place is seen." in page


def test_failed_and_unfinished_photographs_are_counted_per_group(tmp_path: Path) -> None:
    names, groups = [f"{number:02}.png" for number in range(16)], ["dark", "light"] * 8
    make_run(tmp_path / "a", names, groups, lose=(0, 2, 4, 5, 6), unreadable=(1,))
    _, said = page_of(tmp_path / "a" / "run", tmp_path)
    assert said.tables["Photographs per group"] == [
        ["Group", "Photographs", "With a map", "Failed in the run", "Unreadable", "Lost"],
        ["dark", "8", "4", "4", "0", "50.0 %"],
        ["light", "8", "6", "1", "1", "25.0 %"],
        ["all groups", "16", "10", "5", "1", "37.5 %"],
    ]
    lost = said.tables["Photographs without a map"]
    assert sorted(row[0] for row in lost[1:]) == ["00.png", "01.png", "02.png", "04.png", "05.png", "06.png"]
    assert [row[1:3] for row in lost if row[0] == "01.png"] == [["light", "unreadable"]]
    assert "not an image" in next(row[3] for row in lost if row[0] == "01.png")


def test_groups_that_are_missing_or_equal_are_one_row_of_the_report(tmp_path: Path) -> None:
    groups: list[Any] = ["1", 1.0, "1.0", math.nan, None, "", "nan", 1]
    make_run(tmp_path / "a", [f"{number:02}.png" for number in range(8)], groups, unreadable=(3,))
    _, said = page_of(tmp_path / "a" / "run", tmp_path)
    assert [row[:3] for row in said.tables["Photographs per group"]] == [
        ["Group", "Photographs", "With a map"],
        ["1", "4", "4"],
        [NO_GROUP, "4", "3"],
        ["all groups", "8", "7"],
    ]


def test_a_run_that_was_cut_off_is_reported_as_far_as_it_goes(tmp_path: Path) -> None:
    names, groups = [f"{number:02}.png" for number in range(16)], ["dark"] * 12 + ["light"] * 4
    order = run_order(16)
    run = make_run(tmp_path, names, groups, lose=tuple(order[place] for place in (1, 2, 5, 6, 9)), stop_after=3)
    result = cc.ModelSaliency.open(run)
    assert not result.run.complete
    _, said = page_of(run, tmp_path)
    table = said.tables["Photographs per group"]
    assert table[0] == ["Group", "Photographs", "With a map", "Failed in the run", "Not finished", "Lost"]
    numbers = {row[0]: [int(cell) for cell in row[1:5]] for row in table[1:]}
    records = result.run.records
    for group, total in (("dark", 12), ("light", 4)):
        own = [status for name, status in zip(records["group"], records["status"], strict=True) if name == group]
        assert numbers[group] == [total, own.count("done"), own.count("failed"), total - len(own)]
    assert numbers["all groups"] == [16, 7, 5, 4]
    assert f"The run is not finished: {result.run.missing}" in said.said


def test_a_run_without_any_photograph_yet(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a.png", "b.png"], ["x", None], stop_after=0)
    _, said = page_of(run, tmp_path)
    assert "No photograph has a map yet" in said.said
    assert said.tables["Photographs per group"][1][:4] == ["x", "1", "0", "1"]


def test_the_gallery_shows_each_photograph_beside_its_map(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a.png", "b.png", "c.png"], ["x", "x", "y"])
    text, said = page_of(run, tmp_path)
    photos = [
        attributes for tag, attributes in said.tags if tag == "img" and (attributes["alt"] or "").startswith("Ph")
    ]
    assert sorted(each["alt"] for each in photos) == ["Photograph a.png", "Photograph b.png", "Photograph c.png"]
    assert "All 3 photographs with a map." in said.said
    for attributes in photos:
        shown = np.asarray(decoded(attributes["src"] or "").convert("RGB"), np.float64)[44:84, 44:84]
        file = np.asarray(Image.open(tmp_path / "photos" / (attributes["alt"] or "").removeprefix("Photograph ")))
        np.testing.assert_allclose(shown.mean((0, 1)), file.mean((0, 1)), atol=8)
    (tmp_path / "photos" / "a.png").unlink()
    assert "the photograph is not where it was" in page_of(run, tmp_path)[1].said
    for moved in (tmp_path / "photos", torch.rand(3, 3, 24, 24)):
        assert len(page_of(run, tmp_path, photos=moved)[0]) < len(text) * 1.5
    _, few = page_of(run, tmp_path, gallery=2)
    assert "The first 2 of 3 photographs with a map in the order of the run (random, seed 0)." in few.said


def test_without_photos_neither_a_pixel_nor_a_name_is_in_the_page(tmp_path: Path) -> None:
    names = [f"secret {number}.png" for number in range(6)]
    run = make_run(tmp_path, names, ["x", "y"] * 3, lose=(0,), unreadable=(1,))
    text, said = page_of(run, tmp_path, photos=False)
    assert "secret" not in text and "Alice" not in text and "image/jpeg" not in text and str(tmp_path) not in text
    assert said.tables["Photographs per group"][-1][:2] == ["all groups", "6"]
    with_photos, _ = page_of(run, tmp_path)
    assert "secret" in with_photos and "image/jpeg" in with_photos


def test_hostile_names_are_texts_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path, HOSTILE, HOSTILE_GROUPS * 3, lose=(5,))
    text, said = page_of(run, tmp_path, title="</title><script>alert(2)</script>")
    for name in [*HOSTILE[:5], *HOSTILE_GROUPS]:
        assert " ".join(name.split()) in said.said
    scripts = [attributes for tag, attributes in said.tags if tag == "script"]
    assert [each.get("type") for each in scripts] == ["application/json", None]
    assert not [tag for tag, attributes in said.tags if any(name.startswith("on") for name in attributes)]
    assert not {"b", "iframe", "object", "link"} & {tag for tag, _ in said.tags}
    assert text.count("</title>") == 1


def test_json_in_a_page_cannot_end_its_script() -> None:
    value = {"</script><!--": ["<script>", "&", "\u2028", "\u540d"]}
    text = to_json(value)
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == value


def test_the_page_allows_no_request_and_no_other_script(tmp_path: Path) -> None:
    text, said = page_of(make_run(tmp_path, ["a.png"], [None]), tmp_path)
    policy = next(a["content"] for tag, a in said.tags if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert not re.findall(r"https?://", re.sub(r"http://www\.w3\.org/\S+", "", text))


def test_a_streamed_result_says_what_it_cannot_show(tmp_path: Path) -> None:
    metric = cc.CanonicalModelSaliency(FACE)
    metric.update(torch.rand(5, 1, 48, 48), torch.ones(5, 1, 48, 48))
    _, said = page_of(metric.compute(), tmp_path)
    assert "no maps of single photographs" in said.said and "Mean over 5 photographs" in said.said
    saved = metric.compute().save(tmp_path / "summary.npz")
    assert "Mean over 5 photographs" in page_of(saved, tmp_path)[1].said


# ------------------------------------------------------------------------------------------- regions, groups, tests
def two_groups(count: int = 12, effect: float = 1.0) -> cc.ModelSaliency:
    """Noise, and in group "a" the tip of the nose."""
    maps = 0.1 * torch.randn(2 * count, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    maps[:count, :, FACE.region_mask("nose_tip")] += effect
    covered = FACE.raster.covered.expand(2 * count, 1, 48, 48)
    return cc.ModelSaliency.from_maps(maps, covered, FACE, group=["a"] * count + ["b"] * count)


def test_regions_and_verdicts_are_those_of_the_public_functions(tmp_path: Path) -> None:
    result = two_groups()
    _, said = page_of(result, tmp_path, photos=False)
    rows = said.tables["Regions"]
    expected = region_table(result).sorted()
    assert [row[0] for row in rows[1:]] == [row.region.replace("_", " ") for row in expected]
    assert rows[1][0] == "nose tip"
    low, high = expected[0].share_interval
    share = rows[0].index("Share of positive mass (%)")
    assert rows[1][share] == f"{100 * expected[0].share:.3g} [{100 * low:.3g}, {100 * high:.3g}]"
    strata = result.strata("group")
    comparison = compare_groups(strata["a"], strata["b"], names=("a", "b"))
    for sentence in (result.significance().sentence, comparison.verdict, *region_table(result).notes):
        assert " ".join(sentence.split()) in said.said
    assert "a (12 photographs) and b (12) differ in 1 of 21 regions." in said.said


def test_a_new_column_of_the_regions_is_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("captum_canonical.saliency.region_table")
    column = Column[RegionRow]("percent", "Area (%)", value="area", format=".0f", scale=100)
    monkeypatch.setattr(module, "REGION_COLUMNS", (*module.REGION_COLUMNS, column))
    result = two_groups(3)
    table = region_table(result)
    header, first, *_ = page_of(result, tmp_path, photos=False)[1].tables["Regions"]
    area = 100 * table.sorted()[0].area
    assert header[-1] == "Area (%)" and first[-1] == f"{area:.3g}"
    lines = table.table().splitlines()
    assert lines[0].endswith("  Area (%)") and lines[1].endswith(f"  {area:.0f}")
    assert table.table("markdown").splitlines()[2].endswith(f" | {area:.0f} |")
    assert table.table("csv").splitlines()[1].endswith(f",{table.rows[0].area}")


def test_no_difference_is_no_proof_of_none(tmp_path: Path) -> None:
    _, said = page_of(two_groups(effect=0.0), tmp_path, photos=False)
    assert "Between a (12 photographs) and b (12): no difference detected." in said.said
    assert "which does not show that there is none" in said.said and "Detected differences" not in said.texts


def test_groups_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    result = two_groups(3)
    people = ["x", "y", "z", "z", "v", "w"]
    shared = cc.ModelSaliency.from_maps(*result.photos.sources[0].arrays(), FACE, people, group=["a"] * 3 + ["b"] * 3)
    assert "Not shown. a and b: " in page_of(shared, tmp_path, photos=False)[1].said


def test_strata_share_one_scale_and_can_be_chosen(tmp_path: Path) -> None:
    result = two_groups()
    text, _ = page_of(result, tmp_path, photos=False, strata=["group"])
    group = text[text.index('id="groups"') :]
    scales = re.findall(r'data-scale="([^"]+)"', group)[:4]  # both strata, the difference, where it was detected
    assert len(scales) == 4 and len(set(scales)) == 1
    with pytest.raises(cc.CanonicalError, match="colour"):
        cc.report(result, tmp_path / "page.html", strata=["colour"], view_3d=False)


def test_given_comparisons_are_shown(tmp_path: Path) -> None:
    result = two_groups()
    strata = result.strata("group")
    comparison = compare_groups(strata["a"], strata["b"], names=("young", "old"), permutations=99)
    _, said = page_of(result, tmp_path, photos=False, comparisons=comparison)
    assert "Comparisons" in said.texts and " ".join(comparison.verdict.split()) in said.said


def test_pooled_maps_have_no_sides(tmp_path: Path) -> None:
    maps = torch.rand(8, 1, 48, 48)
    _, said = page_of(cc.ModelSaliency.from_maps(maps, None, FACE, symmetric=True), tmp_path, photos=False)
    assert "Left and right" not in said.tables and "each pooled with its mirror image" in said.said


# ------------------------------------------------------------------------------------------------------ benchmarks
@pytest.fixture(scope="module")
def benchmark() -> cc.BenchmarkResult:
    photos = torch.rand(6, 3, 24, 24)
    faces = cc.FaceMesh.cat([mesh()] * 6)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(108, 2), nn.Softmax(1)).eval()
    methods = {"<saliency>": Saliency(network), "fails": Saliency(nn.Linear(5, 2))}
    quick = {"fills": ("mean",), "resamples": 50, "permutations": 50}
    return cc.benchmark(network, photos.requires_grad_(), methods, 1, faces=faces, canonical_face=FACE, **quick)


def test_a_benchmark_is_its_table(benchmark: cc.BenchmarkResult, tmp_path: Path) -> None:
    _, said = page_of(benchmark, tmp_path)
    for fill in benchmark.fills:
        header, *rows = said.tables[f"Fill: {fill}"]
        text = benchmark.table("markdown")
        for row in rows:
            assert f"| {' | '.join(row)} |" in text
        assert f"| {' | '.join(header)} |" in text
    for note in benchmark.notes:
        assert note in said.said
    assert "fails, per image failed: " in said.said and "<saliency>" in said.said
    benchmark.to_json(tmp_path / "benchmark.json", per_image=True)
    assert page_of(tmp_path / "benchmark.json", tmp_path)[1].tables == said.tables


def test_a_benchmark_beside_a_map(benchmark: cc.BenchmarkResult, tmp_path: Path) -> None:
    _, said = page_of(two_groups(), tmp_path, photos=False, benchmark=benchmark)
    assert "Regions" in said.tables and f"Fill: {benchmark.fills[0]}" in said.tables


# --------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("kind", ["empty", "missing", "other", "number", "folder", "gallery", "nowhere", "photos"])
def test_errors_say_the_way_out(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("hello")
    result = cc.ModelSaliency.from_maps(torch.rand(2, 1, 48, 48), None, FACE)
    page = tmp_path / "page.html"
    calls = {
        "empty": ((tmp_path / "empty", page), {}, "an empty folder.*explain_dataset"),
        "missing": ((tmp_path / "none", page), {}, "no such folder.*explain_dataset"),
        "other": ((tmp_path / "other", page), {}, "no manifest.json there.*explain_dataset"),
        "number": ((3, page), {}, "expected the folder of a run.*got int"),
        "folder": ((result, tmp_path), {}, "expected the name of a file"),
        "gallery": ((result, page), {"gallery": 0}, "from 1 on.*photos=False"),
        "nowhere": ((result, tmp_path / "none" / "page.html"), {}, "in a folder that exists"),
        "photos": ((result, page), {"photos": tmp_path / "none"}, "is no folder"),
    }
    given, arguments, message = calls[kind]
    with pytest.raises(cc.CanonicalError, match=message):
        cc.report(*given, **arguments)
    assert not page.exists()


def test_without_plotly_the_message_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    result = cc.ModelSaliency.from_maps(torch.rand(2, 1, 48, 48), None, FACE)
    with pytest.raises(cc.MissingDependencyError, match=r"captum-canonical\[report\].*view_3d=False"):
        cc.report(result, tmp_path / "page.html")
    cc.report(result, tmp_path / "page.html", view_3d=False)


# ------------------------------------------------------------------------------------------------------- pictures
def test_values_can_be_read_back_from_the_colours() -> None:
    values = np.linspace(-1.2, 1.2, 48 * 48).reshape(48, 48)
    values[0, 0] = np.nan
    panel = panel_of(values, Scale("diverging", -1.0, 1.0, "unit"), "Map")
    shown = np.asarray(decoded(panel.source).convert("RGBA"))
    assert shown[0, 0, 3] == 0 and (shown.reshape(-1, 4)[1:, 3] == 255).all()
    place = {tuple(colour): level for level, colour in enumerate(palette("diverging").tolist())}
    assert len(place) == LEVELS
    levels = np.array([place[tuple(colour[:3])] for colour in shown.reshape(-1, 4)[1:].tolist()])
    np.testing.assert_allclose(levels / 127 - 1, values.ravel()[1:].clip(-1, 1), atol=0.5 / 127 + 1e-9)


def test_a_thumbnail_holds_the_means_of_what_was_seen() -> None:
    values = np.arange(25.0).reshape(5, 5)
    values[0, 1] = np.nan
    values[4] = np.nan
    expected = [[(0 + 5 + 6) / 3, (2 + 3 + 7 + 8) / 4, 6.5], [13.0, 15.0, 16.5], [np.nan] * 3]
    np.testing.assert_allclose(thumbnail_of(values, 3), expected)


def test_palettes_hold_no_black_and_get_darker() -> None:
    for kind in ("error", "count"):
        brightness = palette(kind).astype(float) @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(brightness) <= 1e-9).all()
    assert palette("diverging").max(1).min() > 0
