"""Benchmarks: rows against the functions that they are made of, degenerate cases, arguments that do not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from captum.attr import (
    LayerGradCam,
    NoiseTunnel,
    Saliency,
)
from torch import Tensor
from torch.testing import assert_close

from benchmark_tools import (
    COUNT,
    IN_IMAGES,
    ROWS,
    Fails,
    Fixed,
    Net,
    mouth,
    run,
    same,
)
from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.benchmarking.run import benchmark
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import average_drop


def test_rows_are_what_the_functions_give(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {"saliency": (Saliency(net), {"abs": False})}
    result = run(net, x, faces, face, methods, fills=["mean", "imputed"], sign="abs")
    assert [row.label for row in result.rows] == ROWS
    maps = torch.cat(
        [Saliency(net).attribute(x[i : i + 1].clone(), target=1, abs=False).sum(1, keepdim=True) for i in range(COUNT)]
    )
    area = torch.cat(
        [CanonicalProjector(None, faces[i], face).reproject(torch.ones(1, 1, 32, 32)) > 0 for i in range(COUNT)]
    )
    with torch.no_grad():
        clean = net(x)[:, 1].double()
    row = result["saliency, per image"]
    for fill, mass in (("mean", "budget"), ("imputed", "top")):
        masks = explanation_masks(maps, area, sign="abs", mass=mass)
        scores = score_explanations(net, x, masks, 1, fill=fill)
        assert_close(row.per_image["average_drop", fill], average_drop(clean, scores).per_image, atol=1e-4, rtol=1e-4)
        assert row.value("average_drop", fill) == float(row.per_image["average_drop", fill].mean())
        curves = removal_curves(net, x, maps, 1, area=area, fill=fill, fractions=[0, 0.5, 1])
        for measure in ("deletion_auc", "insertion_auc", "gain"):
            assert_close(row.per_image[measure, fill], getattr(curves, measure), atol=1e-6, rtol=1e-5)
    assert result.measures == IN_IMAGES


def test_batches_do_not_matter(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {
        "tunnel": (NoiseTunnel(Saliency(net)), {"nt_samples": 2}),
        "cam": LayerGradCam(net, net.conv),
        "ours": (CanonicalOcclusion(net), {"num_points": 20}),
    }
    results = [run(net, x, faces, face, methods, batch_size=size) for size in (1, 7, 32)]
    for other in results[1:]:
        same(results[0], other, [row.label for row in results[0].rows], atol=2e-3, rtol=1e-4)


def test_another_method_changes_no_row(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    one = run(net, x, faces, face)
    two = run(
        net, x, faces, face, {"first": (NoiseTunnel(Saliency(net)), {"nt_samples": 2}), "saliency": Saliency(net)}
    )
    same(one, two, ROWS, rtol=0, atol=0)
    for label in ROWS:
        assert one.interval(label, "gain", "mean") == two.interval(label, "gain", "mean")


def test_one_image_and_one_identity(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    for count, names in ((1, None), (3, ["me"] * 3)):
        result = run(net, x[:count], faces[range(count)], face, identities=names)
        assert result["saliency, per image"].failure is None
        assert math.isfinite(result["saliency, per image"].value("gain", "mean"))
        reason = result["saliency, canonical mean"].failure
        assert "image 0 needs photos of another identity" in reason
        assert result["mean face, per image"].failure.endswith(reason.split(": ")[1])
        rows = [row for row in result.rows if row.failure is None]
        assert set(result.ranks("gain", "mean").values()) == {f"no difference detected (1-{len(rows)})"}
        assert "no difference detected" in result.table() and json.loads(result.to_json())


def test_zero_confidence_and_ties(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    result = run(
        lambda images: images.sum((1, 2, 3)) * 0, x, faces, face, {"map": Fixed(torch.rand(1, 1, 4, 4))}, target=None
    )
    assert math.isnan(result["map, per image"].value("average_drop", "mean"))
    assert result["map, per image"].value("mean_drop", "mean") == 0
    assert f"{COUNT} images with a clean score of 0 or less" in result.table()
    wins = result.wins("mean")
    assert_close(float(wins.percent.sum()), 100.0)
    assert wins.ties == COUNT
    assert json.loads(result.to_json())["rows"][0]["scores"][0]["value"] is None


def test_maps_that_say_nothing_are_flagged(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {"zero": Fixed(torch.zeros(1, 1, 4, 4)), "negative": Fixed(-torch.rand(1, 1, 4, 4) - 1)}
    result = run(net, x, faces, face, methods)
    assert result["zero, per image"].flags == {"constant": COUNT, "zero": COUNT}
    assert result["negative, per image"].flags == {"negative": COUNT}
    for label in ("zero, per image", "zero, canonical mean", "negative, per image"):
        assert result[label].value("average_drop", "mean") == 0 == result[label].value("increase_rate", "mean")
    assert f"{COUNT} maps flagged 'zero'" in result.table()


def test_logits_have_no_percentages(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    def logit(images: Tensor) -> Tensor:
        return 20 * mouth(images) - 9

    methods = {"saliency": Saliency(logit)}
    result = run(logit, x, faces, face, methods, target=None)
    assert "average_drop" not in result.measures and "mean_drop" in result.measures
    assert "No percentages" in result.table() and "Win %" not in result.table().split("\n")[1]
    assert json.loads(result.to_json())["wins"] == []
    asked = run(logit, x, faces, face, methods, target=None, unbounded=True)
    assert "average_drop" in asked.measures and "No percentages" not in asked.table()


def test_progress(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace, capsys: pytest.CaptureFixture) -> None:
    run(net, x, faces, face)
    assert capsys.readouterr().err == ""
    run(net, x, faces, face, {"a": Saliency(net), "b": Fails(net, RuntimeError("x"))}, show_progress=True)
    assert f"{2 * COUNT + 4 + 6}/{2 * COUNT + 4 + 6}" in capsys.readouterr().err


def test_symmetric(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    saliency = run(net, x, faces, face, symmetric=True).mean_maps["saliency"]
    assert_close(saliency, saliency.flip(-1))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda net: {"methods": {}}, "methods: expected"),
        (lambda net: {"methods": {"random": Saliency(net)}}, "names of controls"),
        (lambda net: {"methods": {"a": Saliency}}, r"methods\['a'\]: expected a Captum attribution"),
        (lambda net: {"methods": {"a": (Saliency(net), {"target": 1})}}, "target is the same for every method"),
        (lambda net: {"fills": []}, "fills: expected"),
        (lambda net: {"fills": ["mean", "mean"]}, "names of their own"),
        (lambda net: {"fills": ["ocean"]}, "fill: expected one of"),
        (lambda net: {"fills": [torch.rand(5, 7)]}, "does not broadcast"),
        (lambda net: {"fractions": [0.5, 0.1]}, "fractions: expected"),
        (lambda net: {"spaces": ["moon"]}, "spaces: expected"),
        (lambda net: {"spaces": ["image", "image"]}, "spaces: expected"),
        (lambda net: {"folds": 1}, "folds: expected an integer from 2"),
        (lambda net: {"budget": 0}, "budget: expected"),
        (lambda net: {"sign": "both"}, "sign: expected"),
        (lambda net: {"batch_size": 2.5}, "batch_size: expected"),
        (lambda net: {"identities": [1, 2]}, "identities: expected one entry for each of the 6"),
        (lambda net: {"target": None}, "which one to explain"),
        (lambda net: {"target": 9}, "out of range"),
    ],
)
def test_mistakes_are_found_at_once(
    net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace, change: Callable, match: str
) -> None:
    arguments = {"methods": {"map": Fixed(torch.rand(1, 1, 4, 4))}, **change(net)}
    methods = arguments.pop("methods")
    quick = {"fills": ["mean"], "fractions": [0, 1], "target": 1, **arguments}
    with pytest.raises(CanonicalError, match=match):
        benchmark(net, x, methods, faces=faces, canonical_face=face, **quick)
