"""How well a face is seen: measured by hand, and what changes the measures and what does not."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, FaceMesh
from captum_canonical.adapters import FaceMeshAligner
from captum_canonical.faces.quality import (
    MEASURED,
    QUALITY,
    beyond_limits,
    checked_limits,
    sharpness,
    with_quality,
)

NOISE = np.random.default_rng(0).integers(0, 256, (90, 100, 3)).astype(np.uint8)


def square(left: float, top: float, side: float, **more: object) -> FaceMesh:
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]]) * side + torch.tensor([left, top, 0])
    return FaceMesh(corners, image_size=(90, 100), **more)  # type: ignore[arg-type]


def test_size_and_share_outside_by_hand() -> None:
    mesh = FaceMesh.cat([square(10, 20, 30), square(80, 20, 30), square(200, 200, 7)])
    seen = with_quality(mesh, [NOISE] * 3).quality
    assert tuple(seen) == MEASURED
    assert seen["size"].tolist() == [30, 30, 7] and seen["outside"].tolist() == [0, 0.5, 1]
    assert seen["yaw"].isnan().all() and seen["pitch"].isnan().all()  # of another topology
    assert seen["sharpness"][0] > 0 and seen["sharpness"][2] == 0


def test_missing_faces_have_no_quality_and_rows_belong_to_their_image() -> None:
    mesh = FaceMesh(
        square(10, 10, 20).vertices.repeat(3, 1, 1),
        image_size=(90, 100),
        found=torch.tensor([True, False, True]),
        image_index=torch.tensor([1, 0, 1]),
    )
    seen = with_quality(mesh, [NOISE * 0, NOISE]).quality
    assert all(values.isnan().tolist()[1] for values in seen.values())
    assert seen["sharpness"][0] == seen["sharpness"][2] > 0


@pytest.mark.parametrize(("turn", "yaw"), [(0, 25), (90, 25), (180, -10), (270, 25)])
def test_yaw_is_that_of_the_photograph_turned_upright(turn: int, yaw: float) -> None:
    face = CanonicalFace.default()
    a, b = math.radians(yaw), math.radians(-turn)  # the face turns its head, and the photograph lies on its side
    head = face.vertices.new_tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    lies = face.vertices.new_tensor([[math.cos(b), -math.sin(b), 0], [math.sin(b), math.cos(b), 0], [0, 0, 1]])
    vertices = (face.vertices @ head.T @ lies.T)[None] + 300
    mesh = FaceMesh(vertices, image_size=(600, 600), topology=face.topology)
    seen = with_quality(mesh, [np.zeros((600, 600, 3), np.uint8)]).quality
    assert seen["yaw"].item() == pytest.approx(yaw, abs=0.01) and seen["pitch"].item() == pytest.approx(0, abs=0.01)


def test_sharpness_is_of_detail_and_not_of_contrast_or_size() -> None:
    smooth = cv2.GaussianBlur(NOISE, (0, 0), 1)
    box = (0.0, 0.0, 100.0, 90.0)
    values = [sharpness(cv2.GaussianBlur(smooth, (0, 0), sigma), box) for sigma in (0.1, 0.8, 1.2, 2)]
    assert values == sorted(values, reverse=True) and values[0] > 3 * values[-1]
    pale = (smooth // 2 + 60).astype(np.uint8)
    assert sharpness(pale, box) == pytest.approx(sharpness(smooth, box), rel=0.1)
    larger = cv2.resize(smooth, (400, 360), interpolation=cv2.INTER_CUBIC)
    assert sharpness(larger, (0, 0, 400, 360)) == pytest.approx(sharpness(smooth, box), rel=0.1)
    assert sharpness(np.full((9, 9, 3), 7, np.uint8), (0, 0, 9, 9)) == 0


def test_sharpness_orders_real_photographs_that_are_blurred(shared: Path) -> None:
    for path in sorted((shared / "data/celeba_prnet/images").glob("*.jpg"))[:6]:
        photo = np.asarray(Image.open(path))
        blurred = cv2.GaussianBlur(photo, (0, 0), 2)
        sharp, soft = (FaceMeshAligner()([each]).quality["sharpness"].item() for each in (photo, blurred))
        assert sharp > 2 * soft


def test_quality_goes_along_with_rows() -> None:
    mesh = square(0, 0, 10, quality={"faces": torch.tensor([2])})
    both = FaceMesh.cat([mesh, square(0, 0, 20)])
    assert both.quality["faces"][0] == 2 and both.quality["faces"][1].isnan()
    assert both[[1, 0, 0]].quality["faces"].nan_to_num().tolist() == [0, 2, 2]
    assert both.repeat_interleave(2).quality["faces"].shape == (4,)
    assert both.resized((45, 50)).cropped(1, 1, 9, 9).quality["faces"][0] == 2
    with pytest.raises(AlignmentError, match="quality: expected 1 numbers 'yaw'"):
        square(0, 0, 10, quality={"yaw": torch.zeros(2)})


def test_the_default_aligner_tells_everything() -> None:
    face = CanonicalFace.default()
    mesh = FaceMeshAligner()(face.image[None].repeat(2, 1, 1, 1))
    assert set(mesh.quality) == set(QUALITY)
    assert all(values.shape == (2,) and values.isfinite().all() for values in mesh.quality.values())
    assert mesh.quality["faces"].tolist() == [1, 1] and mesh.quality["turn"].tolist() == [0, 0]
    assert mesh.quality["yaw"].abs().max() < 10 and mesh.quality["presence"].min() > 0.5
    assert FaceMeshAligner(turned=False)(face.image[None]).quality["disagreement"].isnan().all()


def test_limits() -> None:
    limits = checked_limits({"size": (40, None), "yaw": (-30, 30.5)})
    assert limits == {"size": (40.0, None), "yaw": (-30.0, 30.5)} and checked_limits(None) == {}
    assert beyond_limits({"size": 40.0, "yaw": 30.5, "pitch": math.nan}, limits) is None
    both = beyond_limits({"size": 12.34, "yaw": -31.0}, limits)
    assert both == "size 12.3, at least 40 asked for; yaw -31, at least -30 asked for"
    with pytest.raises(CanonicalError, match="do not tell it"):
        beyond_limits({"size": 50.0, "yaw": math.nan}, limits)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"sizes": (1, 2)}, "expected limits of some of size, .* got 'sizes'"),
        ({"size": 40}, r"expected \(least, greatest\) of 'size'"),
        ({"size": (40, 20)}, "in this order"),
        ({"size": ("40", None)}, "expected a number"),
        ("size=40:", "expected limits by names, .* got 'size=40:'"),
        ([("size", (40, None))], "expected limits by names"),
    ],
)
def test_wrong_limits(limits: dict[str, object], message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        checked_limits(limits)  # type: ignore[arg-type]
