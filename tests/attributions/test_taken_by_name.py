"""Layers by their names, canonical faces by their files, masks of one channel: each is what it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import FeatureAblation, LayerGradCam, NoiseTunnel
from torch.testing import assert_close

import captum_canonical as cc
from face_tools import mesh_of, noise
from small_networks import SmallNet

FACE = cc.CanonicalFace.default(32)
NET, PHOTOS, FACES = SmallNet(32, (3, 4)), noise(3, 32), mesh_of(FACE, 3)


def wrapped(method: Any) -> NoiseTunnel:
    return NoiseTunnel(method)


def plain(method: Any) -> Any:
    return method


@pytest.mark.parametrize("around", [plain, wrapped])
def test_layers_of_captum_by_name(around: Any, tmp_path: Path) -> None:
    """In a projector, a run and a benchmark; the user's method keeps the name."""
    named, module = LayerGradCam(NET, "relu1"), LayerGradCam(NET, NET.relu1)
    arguments = {"nt_samples": 1, "stdevs": 0.0} if around is wrapped else {}
    maps = [
        cc.CanonicalProjector(around(each), FACES, FACE).attribute(PHOTOS, target=1, **arguments)
        for each in (named, module)
    ]
    assert_close(*maps)
    assert maps[0].abs().max() > 0 and named.layer == "relu1"
    for number, each in enumerate((named, module)):
        result = cc.explain_dataset(
            NET,
            (PHOTOS, FACES),
            tmp_path / str(number),
            method=around(each),
            canonical_face=FACE,
            target=1,
            show_progress=False,
            **arguments,
        )
        assert_close(result.mean, maps[1].double().mean(0), rtol=1e-5, atol=1e-7)
    methods = {"named": (around(named), arguments), "module": (around(module), arguments)}
    rows = cc.benchmark(NET, PHOTOS, methods, 1, faces=FACES, canonical_face=FACE, fills=["zero"], folds=3).rows
    scores = {row.name: row.per_image for row in rows if row.kind == "per image"}
    assert [row.failure for row in rows[:4]] == [None] * 4
    for measure in scores["named"]:
        assert_close(scores["named"][measure], scores["module"][measure], equal_nan=True)


def test_a_layer_of_an_unknown_name_is_an_error_that_knows_others() -> None:
    with pytest.raises(cc.CanonicalError, match=r"^layer: the network has no module 'relu9'; it has .*relu1"):
        cc.CanonicalProjector(LayerGradCam(NET, "relu9"), FACES)


def test_a_canonical_face_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "face.npz"
    FACE.save(path)
    given: dict[str, Any] = {"target": 1, "num_points": 8, "patch_size": 7}
    expected = cc.CanonicalOcclusion(NET, FACES, FACE).attribute(PHOTOS, **given)
    for face in (path, str(path)):
        assert_close(cc.CanonicalOcclusion(NET, FACES, face).attribute(PHOTOS, **given), expected)
    run = cc.explain_dataset(NET, (PHOTOS, FACES), tmp_path / "run", canonical_face=path, show_progress=False, **given)
    assert_close(run.mean, expected.double().mean(0), rtol=1e-5, atol=1e-7)
    assert_close(cc.ModelSaliency.from_maps(expected, None, path).mean, expected.double().mean(0))
    figure = cc.visualization.show_canonical(expected[:1], str(path))
    assert len(figure.axes) == 2
    with pytest.raises(cc.CanonicalError, match=r"missing\.npz"):
        cc.CanonicalOcclusion(NET, FACES, tmp_path / "missing.npz")


def test_masks_of_one_channel_belong_to_their_photographs() -> None:
    """A mask (N, 1, H, W) of each photograph's features, as one (N, C, H, W) does."""
    rows = torch.arange(32).reshape(1, 1, 32, 1)
    masks = torch.cat([(rows // height).expand(1, 1, 32, 32) for height in (4, 8, 16)])
    methods = {
        name: (FeatureAblation(NET), {"feature_mask": mask})
        for name, mask in {"one channel": masks, "all channels": masks.expand(-1, 3, -1, -1).clone()}.items()
    }
    result = cc.benchmark(NET, PHOTOS, methods, 1, faces=FACES, canonical_face=FACE, fills=["zero"], folds=3)
    assert [row.failure for row in result.rows[:4]] == [None] * 4
    assert_close(result.mean_maps["one channel"], result.mean_maps["all channels"])
    direct = cc.CanonicalProjector(None, canonical_face=FACE).project(
        torch.cat(
            [
                FeatureAblation(NET).attribute(PHOTOS[n : n + 1], target=1, feature_mask=masks[n : n + 1])
                for n in range(3)
            ]
        ),
        FACES,
    )
    assert_close(result.mean_maps["one channel"], direct.double().mean(0), rtol=1e-5, atol=1e-7, check_dtype=False)
