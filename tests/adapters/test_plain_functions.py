"""A plain function from images to a FaceMesh is enough everywhere an aligner is taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.adapters.keypoints import KeypointAligner, keypoints_468
from captum_canonical.faces.images import count_and_size
from dataset_tools import write_photos
from run_tools import Network, explain

FACE = cc.CanonicalFace.default(32)


def whole_image(images: Any) -> cc.FaceMesh:
    """The canonical face fills each image: one parameter, no names."""
    count, (height, width) = count_and_size(images)
    vertices = FACE.vertices * torch.tensor([width / 32, height / 32, 1.0])
    return cc.FaceMesh(vertices.repeat(count, 1, 1), image_size=(height, width), topology=FACE.topology)


def named(images: Sequence[np.ndarray], names: Sequence[str] = ()) -> cc.FaceMesh:
    SEEN.extend(names)
    return whole_image(images)


SEEN: list[str] = []
MANY = {
    "function": whole_image,
    "lambda": lambda images: whole_image(images),
    "with names": named,
    "anything": lambda *images, **more: whole_image(*images),
}


@pytest.mark.parametrize("kind", MANY)
def test_data_sets(tmp_path: Path, kind: str) -> None:
    SEEN.clear()
    data = cc.AlignedFaces(write_photos(tmp_path, 2), MANY[kind], size=32, crop=None)
    assert len(data) == 2
    assert_close(data[0].faces.vertices[0, :, :2], FACE.vertices[:, :2], rtol=0, atol=1e-4)
    assert len(SEEN) == (2 if kind == "with names" else 0)


def test_attributions_runs_and_benchmarks(tmp_path: Path) -> None:
    images, net = torch.rand(3, 3, 32, 32), Network()
    mesh = whole_image(images)
    methods = [cc.CanonicalOcclusion(net, faces, FACE) for faces in (mesh, whole_image)]
    maps = [method.attribute(images, target=1, num_points=12) for method in methods]
    assert_close(maps[0], maps[1], rtol=0, atol=0)
    projected = [
        cc.CanonicalProjector(Saliency(net), faces, FACE).attribute(images, target=1) for faces in (mesh, named)
    ]
    assert_close(projected[0], projected[1], rtol=0, atol=0)
    runs = [explain(tmp_path / str(number), net, (images, faces)) for number, faces in enumerate((mesh, whole_image))]
    assert_close(runs[0].mean, runs[1].mean, rtol=0, atol=0)
    arguments: dict[str, Any] = {"canonical_face": FACE, "folds": 2, "fills": ("zero",)}
    rows = [
        cc.benchmark(net, images, {"s": Saliency(net)}, 1, faces=faces, **arguments).rows
        for faces in (mesh, lambda images: whole_image(images))
    ]
    assert_close(rows[0][0].per_image, rows[1][0].per_image, equal_nan=True)


def test_the_points_of_a_function() -> None:
    def points(images: Tensor) -> cc.FaceMesh:
        found = keypoints_468(whole_image(images).vertices)
        return cc.FaceMesh(found, image_size=(32, 32), topology="keypoints-5")

    face = KeypointAligner(points, FACE)(torch.rand(2, 3, 32, 32), names=["a", "b"])
    assert_close(face.vertices[1, :, :2], FACE.vertices[:, :2].float(), rtol=0, atol=1e-3)


def test_a_cache_needs_a_key_of_a_function(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    with pytest.raises(cc.CanonicalError, match="give cache_key="):
        cc.AlignedFaces(photos, whole_image, size=32, crop=None, cache=tmp_path / "cache")
    given = {"size": 32, "crop": None, "cache": tmp_path / "cache", "cache_key": "whole image 1"}
    assert len(cc.AlignedFaces(photos, whole_image, **given)) == 2


def test_what_returns_no_mesh_is_said(tmp_path: Path) -> None:
    data = cc.AlignedFaces(write_photos(tmp_path, 1), lambda images: None, size=32, crop=None)
    with pytest.raises(cc.CanonicalError, match="FaceMesh"):
        data.align()
