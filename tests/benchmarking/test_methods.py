"""Methods and controls of a benchmark: their maps, image by image."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import (
    DeepLift,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn
from torch.testing import assert_close

from benchmark_tools import (
    COUNT,
    ROWS,
    SIZE,
    Fails,
    Fixed,
    Net,
    mouth,
    prepared,
    run,
    same,
    settings_of,
)
from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.attributions.points import PointGeometry, prefix_of
from captum_canonical.benchmarking.methods import CONTROLS
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.faithfulness.curves import removal_curves
from oracles import splatted


def test_ours_and_theirs(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    """A method given plainly, in a projector, or writing in the image: the same canonical mean."""
    methods = {
        "plain": (Saliency(net), {"abs": False, "reduce": "abs"}),
        "projector": (CanonicalProjector(Saliency(net)), {"abs": False, "reduce": "abs"}),
        "tunnel": (NoiseTunnel(CanonicalOcclusion(net, None, face)), {"nt_samples": 1, "stdevs": 0.0, "num_points": 9}),
        "occlusion": (CanonicalOcclusion(net), {"num_points": 9}),
        "in image": (CanonicalOcclusion(net), {"num_points": 9, "space": "image"}),
    }
    result = run(net, x, faces, face, methods)
    assert [row.failure for row in result.rows] == [None] * len(result.rows)
    assert_close(result.mean_maps["plain"], result.mean_maps["projector"])
    expected = CanonicalOcclusion(net, faces, face).attribute(x, target=1, num_points=9).double()
    assert_close(result.mean_maps["occlusion"], expected.mean(0), atol=1e-6, rtol=1e-4)
    assert_close(result.mean_maps["tunnel"], expected.mean(0), atol=1e-6, rtol=1e-4)
    per_image = result["occlusion, per image"].per_image["gain", "mean"]
    assert_close(result["tunnel, per image"].per_image["gain", "mean"], per_image, atol=1e-5, rtol=1e-4)
    assert (result["in image, per image"].per_image["gain", "mean"] - per_image).abs().max() > 1e-6
    assert CanonicalOcclusion(net).canonical_face is None


def test_evaluations(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {
        "saliency": Saliency(net),
        "tunnel": (NoiseTunnel(Saliency(net)), {"nt_samples": 3}),
        "gradients": (IntegratedGradients(net), {"n_steps": 5}),
        "ours": (CanonicalOcclusion(net), {"num_points": 9}),
    }
    result = run(net, x, faces, face, methods)
    counts = {row.name: row.evaluations for row in result.rows if not row.control}
    assert counts["saliency"] == COUNT and counts["tunnel"] == 3 * COUNT and counts["gradients"] >= 5 * COUNT
    assert counts["ours"] == 10 * COUNT
    # Both explanation images, and two of three fractions in two orders of which one is shared.
    assert result["saliency, per image"].scoring_evaluations == COUNT * (2 + 3)
    assert all(row.seconds > 0 for row in result.rows if not row.control)
    plain = (Occlusion(mouth), {"sliding_window_shapes": (3, 9, 9), "strides": (3, 9, 9)})
    result = run(mouth, x, faces, face, {"no module": plain}, target=None)
    assert result["no module, per image"].evaluations is None and "not counted" in result.table()


def test_arguments_of_single_images(net: Net, faces: FaceMesh, x: Tensor, face: CanonicalFace) -> None:
    """Targets, arguments and baselines follow their image; one without a face takes nobody else's."""
    target = torch.tensor([0, 1, 1, 0, 1, 0])
    gain = torch.linspace(0.5, 2.0, COUNT)
    found = torch.tensor([True, False, True, True, True, True])
    some = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, found=found)
    methods = {"gradients": (IntegratedGradients(net), {"baselines": x.flip(0), "n_steps": 5})}
    options = {"target": target, "additional_forward_args": (gain,), "per_target": False}
    result = run(net, x, some, face, methods, **options)
    assert result.left_out == {1: "no face was found"} and len(result.clean_scores) == COUNT - 1
    with torch.no_grad():
        clean = net(x, gain).gather(1, target[:, None])[found, 0].double()
    assert_close(result.clean_scores, clean)
    maps = IntegratedGradients(net).attribute(
        x, target=target, baselines=x.flip(0), additional_forward_args=(gain,), n_steps=5
    )
    maps, area = maps.sum(1, keepdim=True)[found].float(), []
    for row in torch.nonzero(found).flatten().tolist():
        area.append(CanonicalProjector(None, faces[row], face).reproject(torch.ones(1, 1, 32, 32)) > 0)
    curves = removal_curves(
        net, x[found], maps, target[found], additional_forward_args=(gain[found],), area=torch.cat(area), fill="mean",
        fractions=[0, 0.5, 1],
    )  # fmt: skip
    assert_close(result["gradients, per image"].per_image["gain", "mean"], curves.gain, atol=1e-3, rtol=1e-3)
    assert "1 left out" in result.table()
    with pytest.raises(
        CanonicalError, match=r"5 of 6 images have a face.*a tensor \(5,\) would pass for one with a row"
    ):
        run(net, x, some, face, methods, target=target, additional_forward_args=(gain[:5],))


def test_one_failure_does_not_lose_the_others(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {
        "at once": Fails(net, RuntimeError("no luck")),
        "later": Fails(net, RuntimeError("tired"), after=3),
        "saliency": Saliency(net),
        "nan": Fixed(torch.full((1, 1, *SIZE), math.nan)),
        "not spatial": Fixed(torch.ones(1, 5)),
        "too many": Fixed(torch.ones(2, 1, *SIZE)),
        "small": Fixed(torch.rand(1, 2, 4, 4)),
        "other face": CanonicalOcclusion(net, None, CanonicalFace.default(40)),
        "wrong word": (Saliency(net), {"absolute": True}),
    }
    result = run(net, x, faces, face, methods)
    reasons = {row.name: row.failure for row in result.rows if row.kind == "per image"}
    assert reasons["at once"] == "image 0: RuntimeError: no luck" and reasons["later"] == "image 3: RuntimeError: tired"
    assert reasons["saliency"] is None and reasons["small"] is None and reasons["random"] is None
    assert "NaN" in reasons["nan"] and reasons["other face"] is None  # of its own, for the same meshes
    assert "(1, 5)" in reasons["not spatial"] and "(2, 1, 28, 24)" in reasons["too many"]
    assert "absolute" in reasons["wrong word"]
    table = result.table()
    assert "failed, see below" in table and "at once, per image failed: image 0: RuntimeError: no luck" in table
    same(result, run(net, x, faces, face), ROWS, rtol=0, atol=0)


def test_scores_that_fail_lose_one_row(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    def touchy(images: Tensor) -> Tensor:
        return torch.where(images[:, 0, 14, 12] > 1.5, math.nan, mouth(images))

    def fill(images: Tensor, hidden: Tensor) -> Tensor:  # glaring where one or two pixels are hidden
        return torch.where(hidden & (hidden.flatten(1).sum(1) < 3)[:, None, None, None], 70.0, torch.zeros_like(images))

    dot = torch.zeros(1, 1, *SIZE)
    dot[..., 14, 12] = 1
    result = run(touchy, x, faces, face, {"dot": Fixed(dot), "saliency": Saliency(mouth)}, target=None, fills=[fill],
                 budget=0.001)  # fmt: skip
    assert "NaN" in result["dot, per image"].failure
    assert result["saliency, per image"].failure is None


def test_everything_failing_is_an_error_before_the_long_computation(
    net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace
) -> None:
    with pytest.raises(CanonicalError, match=r"every method fails .* a: .*no luck; b: .*\(1, 5\)"):
        run(net, x, faces, face, {"a": Fails(net, RuntimeError("no luck")), "b": Fixed(torch.ones(1, 5))})


def state_of(net: Net, x: Tensor) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training, sorted(vars(m))) for m in net.modules()]
    tensors = [t.clone() for t in net.state_dict().values()] + [x.clone()]
    flags = [p.requires_grad for p in net.parameters()] + [p.grad for p in net.parameters()] + [x.requires_grad]
    numbers = [torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))]
    module = nn.modules.module
    return [
        hooks,
        tensors,
        flags,
        numbers,
        random.getstate(),
        len(module._global_forward_hooks),
        len(module._global_forward_pre_hooks),
    ]


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt()])
def test_nothing_of_the_user_changes(faces: FaceMesh, x: Tensor, face: CanonicalFace, error: BaseException) -> None:
    net = Net().eval()
    methods = {"deep": DeepLift(net), "fails": Fails(net, error, after=1), "cam": LayerGradCam(net, net.conv)}
    before = state_of(net, x)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            run(net, x, faces, face, methods)
    else:
        result = run(net, x, faces, face, methods)
        assert result["fails, per image"].failure == "image 1: RuntimeError: no luck"
    for had, has in zip(before, state_of(net, x), strict=True):
        if isinstance(had, list) and isinstance(had[0], Tensor):
            assert_close(has, had)
        assert str(has) == str(had)


def test_methods_get_their_own_random_numbers(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    methods = {"tunnel": (NoiseTunnel(Saliency(net)), {"nt_samples": 2})}
    torch.manual_seed(1)
    one = run(net, x, faces, face, methods)
    torch.manual_seed(2)
    two, other = run(net, x, faces, face, methods), run(net, x, faces, face, methods, seed=3)
    labels = [row.label for row in one.rows]
    same(one, two, labels, rtol=0, atol=0)
    for label in ("tunnel, per image", "random, per image"):
        assert (one[label].per_image["gain", "mean"] != other[label].per_image["gain", "mean"]).any()


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
