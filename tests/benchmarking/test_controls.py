"""Controls: maps that know nothing of the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmark_tools import (
    COUNT,
    ROWS,
    SIZE,
    Net,
    prepared,
    run,
    same,
    settings_of,
)
from captum_canonical import CanonicalError, CanonicalFace, FaceMesh
from captum_canonical.attributions.arguments import prefix_of
from captum_canonical.attributions.points import PointGeometry
from captum_canonical.benchmarking.controls import CONTROLS
from captum_canonical.benchmarking.result import BenchmarkResult
from oracles import splatted


def test_controls(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    photos = prepared(x, faces, face)
    maps = {name: make(photos, settings_of())[0] for name, make in CONTROLS.items()}
    assert_close(maps["uniform"], photos.area.float())
    for row in range(COUNT):
        others = photos.folds != photos.folds[row]
        assert_close(maps["mean face"][row], photos.area[others].float().mean(0))
    grey = x.double().mean(1)
    for row, i, j in ((0, 5, 7), (3, 20, 2)):
        block = grey[row, i - 1 : i + 2, j - 1 : j + 2]
        across = (block[:, 2] - block[:, 0]) @ torch.tensor([1.0, 2, 1]).double()
        down = (block[2] - block[0]) @ torch.tensor([1.0, 2, 1]).double()
        assert_close(maps["edges"][row, 0, i, j].double(), torch.hypot(across, down), rtol=1e-6, atol=0)
    noise = CONTROLS["random"](photos, settings_of())[1]
    assert noise.std() > 0.1 and (noise[0] != noise[1]).any()
    side = 1 * 32 / 28  # the default patch is one pixel wide at 28
    drops = torch.randn(face.num_points, generator=torch.Generator().manual_seed(2)).tolist()
    expected, _ = splatted(drops, face.points(face.vertices)[:, :2], side, (32, 32))
    assert_close(noise[2, 0], torch.from_numpy(expected).float())


def test_the_random_control_is_as_blurred_as_occlusion(
    net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace
) -> None:
    """A network whose drops are the control's noise gives the control's map."""
    photos = prepared(x, faces, face)
    noise = CONTROLS["random"](photos, settings_of(random_patch=5, random_points=40))[1]
    drops = torch.randn(face.num_points, generator=torch.Generator().manual_seed(2)).double()
    mesh = FaceMesh(face.resized(SIZE).vertices[None], image_size=SIZE, topology=face.topology)
    geometry = PointGeometry.of(face, (x[:1],), (mesh,), 5, None, "canonical")
    ((painted, _),) = geometry.paint(drops[None], prefix_of(face, 40)[None])
    everywhere = geometry.seen[0]
    assert bool(everywhere.all())
    assert_close(noise[2], painted[0].float())
    plain = CONTROLS["random"](photos, settings_of())[1]
    roughness = [float(m.diff(dim=-1).square().mean() / m.square().mean()) for m in (noise, plain)]
    assert roughness[0] < 0.5 * roughness[1]


def test_controls_may_be_left_to_another_run(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    whole, bare = run(net, x, faces, face), run(net, x, faces, face, controls=False)
    assert [row.label for row in bare.rows] == ROWS[:2] and bare.settings["controls"] == []
    same(whole, bare, ROWS[:2], rtol=0, atol=0)
    joined = BenchmarkResult.join({"": whole, "again": bare})
    assert [row.label for row in joined.rows if row.control] == ROWS[2:]
    with pytest.raises(CanonicalError, match="num_points: expected 1 to"):
        run(net, x, faces, face, random_points=0)
    with pytest.raises(CanonicalError, match="patch_size: expected at least 1 pixel"):
        run(net, x, faces, face, random_patch=0)
