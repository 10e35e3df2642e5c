"""Layers by name and in any layout, in runs, benchmarks and randomisation tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from captum.attr import LayerGradCam, NoiseTunnel
from torch.testing import assert_close

import captum_canonical as cc
from face_tools import mesh_of, noise
from layout_tools import SmallViT, twin

SIZE = (64, 48)
FACE = cc.CanonicalFace.default(32)
NET = SmallViT(SIZE, prefix=18)  # so many that the layout must be given
TWIN, MAPS = twin(NET, "blocks.1", (8, 6), 18)
PHOTOS, FACES = noise(3, SIZE), mesh_of(FACE, 3, SIZE)
LAYOUT = {"layout": "tokens:8x6:18"}


def run(out: Path, method: Any, **arguments: Any) -> cc.ModelSaliency:
    return cc.explain_dataset(
        method.forward_func,
        (PHOTOS, FACES),
        out,
        method=method,
        canonical_face=FACE,
        target=1,
        show_progress=False,
        **arguments,
    )


def test_a_run_goes_on_with_the_same_layer_and_layout_only(tmp_path: Path) -> None:
    done = run(tmp_path / "run", LayerGradCam(NET, "blocks.1"), **LAYOUT)
    assert_close(done.mean, run(tmp_path / "twin", LayerGradCam(TWIN, MAPS)).mean, rtol=1e-4, atol=1e-6)
    for same in ("blocks.1", NET.blocks[1]):
        again = run(tmp_path / "run", LayerGradCam(NET, same), **LAYOUT)
        assert_close(again.mean, done.mean)
    with pytest.raises(cc.CanonicalError, match="method"):
        run(tmp_path / "run", LayerGradCam(NET, "blocks.0"), **LAYOUT)
    with pytest.raises(cc.CanonicalError, match="layout"):
        run(tmp_path / "run", LayerGradCam(NET, "blocks.1"), layout="tokens:8x6")
    with pytest.raises(cc.CanonicalError, match="no grid has the proportions"):
        run(tmp_path / "other", LayerGradCam(NET, "blocks.1"))
    cc.report(done, tmp_path / "report.html")
    assert "blocks.1" in (tmp_path / "report.html").read_text()


def test_a_benchmark() -> None:
    tunnel = {"nt_samples": 1, "stdevs": 0.0}
    methods: dict[str, Any] = {
        "tokens": (LayerGradCam(NET, "blocks.1"), LAYOUT),
        "tunnel": (NoiseTunnel(LayerGradCam(NET, "blocks.1")), LAYOUT | tunnel),
        "twin": LayerGradCam(TWIN, MAPS),
        "projected": (cc.CanonicalProjector(LayerGradCam(NET, "blocks.1")), LAYOUT),
        "around": (
            NoiseTunnel(cc.CanonicalProjector(LayerGradCam(NET, "blocks.1"), canonical_face=FACE)),
            LAYOUT | tunnel,
        ),
        "projected twin": cc.CanonicalProjector(LayerGradCam(TWIN, MAPS)),
        "in doubt": LayerGradCam(NET, "blocks.1"),
    }
    result = cc.benchmark(NET, PHOTOS, methods, 1, faces=FACES, canonical_face=FACE, fills=["zero"], folds=3)
    failures = {row.name: row.failure for row in result.rows}
    assert "no grid has the proportions" in str(failures.pop("in doubt")) and set(failures.values()) == {None}
    for name, other in (
        ("tokens", "twin"),
        ("tunnel", "twin"),
        ("projected", "projected twin"),
        ("around", "projected"),
    ):
        assert_close(result.mean_maps[name], result.mean_maps[other], rtol=1e-4, atol=1e-6)


def test_a_randomisation_test() -> None:
    """Of a network inside a wrapper; the layers that are randomised are named without it."""
    wrapped = cc.ClassConfidence(NET, link="log_odds")
    for method in (LayerGradCam(wrapped, "blocks.1"), cc.LayerGradCamPlusPlus(wrapped, "blocks.1")):
        test = cc.model_randomization(method, PHOTOS, layers=["patches", "blocks.2"], seeds=(0,), target=1, **LAYOUT)
        assert test.layers == ("blocks.2", "patches")
        assert test.original.shape[1:] == (1, 8, 6) if test.original.numel() else True
    with pytest.raises(cc.CanonicalError, match=r"got \['blocks\.8'\]; the network has .*blocks\.2"):
        cc.model_randomization(method, PHOTOS, layers=["blocks.8"], target=1, **LAYOUT)
