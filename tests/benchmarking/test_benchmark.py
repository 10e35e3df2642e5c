"""The comparative study: the same photographs, fills and controls for all methods; folds, intervals, tests, tables."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import (
    Attribution,
    DeepLift,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.attributions.arguments import prefix_of
from captum_canonical.attributions.points import PointGeometry
from captum_canonical.benchmarking.controls import CONTROLS
from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.photos import BenchmarkPhotos, assign_folds, cross_fitted_means, prepare
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark
from captum_canonical.benchmarking.scores import compare, ranks_of
from captum_canonical.benchmarking.settings import BenchmarkSettings
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import average_drop
from captum_canonical.statistics.bootstrap import bootstrap_interval
from oracles import splatted

IN_IMAGES = tuple(measure for measure in MEASURES if not measure.endswith("_canonical"))

SIZE = (28, 24)

COUNT = 6

ROWS = [
    *(f"{name}, {kind}" for name in ("saliency",) for kind in ("per image", "canonical mean")),
    "random, per image",
    "random, canonical mean",
    "uniform, per image",
    "mean face, per image",
    "edges, per image",
    "edges, canonical mean",
]


class Net(nn.Module):
    """Two probabilities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4 * 13 * 11, 2)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        scores = self.head(self.relu(self.norm(self.conv(x))).flatten(1))
        return (scores if gain is None else scores * gain[:, None]).softmax(1)


class Fails(Attribution):
    """A method that breaks off, leaving a hook and a mode behind."""

    def __init__(self, net: nn.Module, error: BaseException, after: int = 0) -> None:
        super().__init__(net)
        self.error, self.left = error, after

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        torch.rand(3), np.random.rand(3), random.random()
        if self.left:
            self.left -= 1
            return inputs
        inputs.requires_grad_(True)
        self.forward_func.conv.register_forward_hook(lambda *_: None)
        self.forward_func.conv.leftover = 1
        self.forward_func.train()
        self.forward_func(inputs)
        raise self.error


class Fixed(Attribution):
    """The same map for every image."""

    def __init__(self, result: Any) -> None:
        super().__init__(lambda x: x)
        self.result = result

    def attribute(self, inputs: Tensor) -> Any:
        return self.result


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(32)


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    return meshes(face, COUNT)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(COUNT, 3, *SIZE, generator=torch.Generator().manual_seed(7))


def meshes(face: CanonicalFace, count: int) -> FaceMesh:
    """Faces that fill their images, each a little elsewhere."""
    at = face.resized(SIZE).vertices
    shift = torch.randn(count, 1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return FaceMesh(at * 0.9 + 1.2 + shift * torch.tensor([1.0, 1.0, 0.0]), image_size=SIZE, topology=face.topology)


def run(net: Any, x: Tensor, faces: Any, face: CanonicalFace, methods: Any = None, **arguments: Any) -> BenchmarkResult:
    quick = {"fills": ["mean"], "folds": 3, "fractions": [0, 0.5, 1], "target": 1, **arguments}
    return benchmark(net, x, methods or {"saliency": Saliency(net)}, faces=faces, canonical_face=face, **quick)


def same(one: BenchmarkResult, two: BenchmarkResult, labels: list[str], **tolerance: float) -> None:
    for label in labels:
        assert one[label].per_image.keys() == two[label].per_image.keys()
        for key, values in one[label].per_image.items():
            assert_close(two[label].per_image[key], values, equal_nan=True, **tolerance)


def mouth(x: Tensor) -> Tensor:
    """A network wired by hand, a confidence that reads the mouth of a face that fills its image."""
    return x[:, :, 17:24, 8:16].mean((1, 2, 3))


def test_comparison_by_hand() -> None:
    values = torch.tensor([[3.0, 4.0, 5.0], [1.0, 2.0, math.nan], [3.0, 4.0, 5.0 + 1e-9]], dtype=torch.float64)
    units, tolerance = torch.arange(3), torch.full((3,), 1e-6, dtype=torch.float64)
    options = {"permutations": 100, "seed": 0, "level": 0.2}
    ab, ac, _ = compare("abc", values, "higher", units, tolerance, **options)
    assert (ab.first, ab.second, ab.difference, ab.n) == ("a", "b", 2.0, 2)
    assert ab.p_value == 0.5 and ab.better == "no difference detected"  # + + and - - of four patterns
    assert ac.difference == 0 and ac.p_value == 1
    many = values.repeat(1, 4)
    ab, ac, bc = compare("abc", many, "lower", torch.arange(12), tolerance.repeat(4), **{**options, "level": 0.95})
    assert ab.better == bc.better == "b" and ac.better == "no difference detected"
    assert ranks_of("abc", [ab, ac, bc]) == dict(zip("abc", ["no difference detected (2-3)", "1"] * 2, strict=False))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.integers(2, 6))
@settings(deadline=None, max_examples=30)
def test_folds_never_split_an_identity(names: list[int], folds: int) -> None:
    units = torch.unique(torch.tensor(names), return_inverse=True)[1]
    fold = assign_folds(units, folds, seed=1)
    assert all(len(fold[units == unit].unique()) == 1 for unit in units.unique())
    sizes = fold.bincount()
    assert len(sizes) == min(folds, int(units.max()) + 1)
    assert int(sizes.max() - sizes.min()) <= int(units.bincount().max())


def settings_of(**changed: Any) -> BenchmarkSettings:
    chosen = {
        "fills": ("mean",),
        "folds": 3,
        "budget": 0.1,
        "sign": "positive",
        "fractions": (0, 1),
        "spaces": ("image",),
    }
    flags = {"unbounded": False, "symmetric": False, "per_target": False, "batch_size": 4}
    options: Any = {**chosen, **flags, "resamples": 9, "permutations": 9, "seed": 0, **changed}
    return BenchmarkSettings(**options)


def prepared(
    x: Tensor, faces: FaceMesh, face: CanonicalFace, identities: Any = None, **changed: Any
) -> BenchmarkPhotos:
    target = [0, 0, 0, 1, 1, 1] if changed else 1
    return prepare(Net().eval(), x, target, faces, face, identities, None, settings_of(**changed))


def test_cross_fitting_is_the_loop(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    names = ["a", "b", "a", "c", "d", "b"]
    photos = prepared(x, faces, face, names)
    maps = torch.rand(COUNT, 1, 32, 32)
    coverage = (torch.rand(COUNT, 1, 32, 32) > 0.3).float()
    got = cross_fitted_means(maps, coverage, photos, symmetric=False)
    for row in range(COUNT):
        others = [other for other in range(COUNT) if photos.folds[other] != photos.folds[row]]
        assert names[row] not in [names[other] for other in others]
        hits = coverage[others].sum(0)
        mean = (maps[others] * coverage[others]).sum(0) / hits.clamp(min=1)
        expected = CanonicalProjector(None, faces[row], face).reproject(mean[None])
        assert_close(got[row], expected[0])


def test_a_face_is_never_scored_by_a_map_that_saw_it(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    """A map that memorises its own photograph gains nothing."""
    photos = prepared(x, faces, face, ["a", "b", "a", "c", "d", "b"])
    maps, coverage = torch.rand(COUNT, 1, 32, 32), torch.ones(COUNT, 1, 32, 32)
    before = cross_fitted_means(maps, coverage, photos, symmetric=False)
    for row in range(COUNT):
        other = maps.clone()
        other[row] = 100
        after = cross_fitted_means(other, coverage, photos, symmetric=False)
        own = photos.folds == photos.folds[row]
        assert_close(after[own], before[own], rtol=0, atol=0)
        assert (after[~own] > before[~own]).flatten(1).any(1).all()


def test_means_per_target(x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    photos = prepared(x, faces, face, per_target=True)
    maps = torch.tensor([1.0, 1, 1, 5, 5, 5])[:, None, None, None].expand(COUNT, 1, 32, 32)
    got = cross_fitted_means(maps, torch.ones_like(maps), photos, symmetric=False)
    for row in range(COUNT):
        assert_close(got[row][photos.area[row]].unique(), maps[row].unique())
    with pytest.raises(CanonicalError, match="same target"):
        run(Net().eval(), x, faces, face, target=[0, 0, 0, 0, 0, 1], per_target=True)


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


def test_units_of_intervals(net: Net, face: CanonicalFace) -> None:
    x = torch.rand(40, 3, *SIZE)
    faces = meshes(face, 40)
    people = run(net, x, faces, face, identities=[n // 2 for n in range(40)])
    assert people.interval_units.tolist() == people.units.tolist() == [n // 2 for n in range(40)]
    assert people.settings["intervals by"] == "identity" and "resample the 20 identities" in people.table()
    few = run(net, x, faces, face, identities=torch.arange(40) // 3)
    assert few.settings["intervals by"] == "photo" and "No intervals by identity: 14 are too few" in few.table()
    assert few.interval_units.tolist() == list(range(40)) and int(few.units.max()) == 13
    nobody = run(net, x, faces, face)
    assert nobody.settings["identities"] is None and "Identities are not known" in nobody.table()
    for result, units in ((people, torch.arange(40) // 2), (few, torch.arange(40)), (nobody, torch.arange(40))):
        values = result["saliency, per image"].per_image["gain", "mean"]
        assert result.interval("saliency, per image", "gain", "mean") == bootstrap_interval(values, units)


def test_tables(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace, tmp_path: Any) -> None:
    methods = {"a | b": Saliency(net), "bad": Fails(net, RuntimeError("no luck"))}
    result = run(net, x, faces, face, methods, fills=["mean", 0.5])
    text = result.table()
    lines = text.split("\n")
    assert lines[0] == "Fill: mean" and "Average Drop % (higher)" in lines[1] and "Fill: constant 0.5" in lines
    markdown = result.table("markdown", measures=["gain"], rank_by="deletion_auc").split("\n")
    assert markdown[0] == "**Fill: mean**" and "| Gain (higher) | Win % | Rank by Deletion |" in markdown[2]
    rows = [line for line in markdown if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1 and "a \\| b" in rows[2]
    assert sum(line.startswith("|") for line in markdown) == 2 * (2 + len(result.rows))
    table = list(csv.DictReader(io.StringIO(result.table("csv"))))
    good = [row for row in result.rows if row.failure is None]
    assert len(table) == len(good) * 2 * len(IN_IMAGES) + 2
    one = next(r for r in table if r["method"] == "edges" and r["maps"] == "per image" and r["measure"] == "gain")
    assert math.isclose(float(one["value"]), result["edges, per image"].value("gain", "mean"), rel_tol=1e-8)
    assert float(one["low"]) <= float(one["value"]) <= float(one["high"]) and one["direction"] == "higher"
    assert [r["failure"] for r in table if r["method"] == "bad"] == ["image 0: RuntimeError: no luck"] * 2
    for fill in result.fills:
        wins = result.wins(fill)
        assert_close(float(wins.percent.sum()), 100.0)
        assert f"{float(wins.percent[0]):.1f}" in text
    document = json.loads(result.to_json(tmp_path / "result.json"))
    assert document == json.loads((tmp_path / "result.json").read_text())
    assert document["settings"]["methods"]["a | b"]["class"] == "Saliency" and document["settings"]["seed"] == 0
    assert {"torch", "captum", "captum_canonical", "python"} <= set(document["settings"]["versions"])
    first = document["rows"][0]
    assert (first["evaluations"], first["failure"]) == (COUNT, None) and len(first["scores"]) == 2 * len(IN_IMAGES)
    assert document["rows"][2]["failure"] == "image 0: RuntimeError: no luck" and document["rows"][2]["scores"] == []
    assert len(document["comparisons"]) == 2 * len(IN_IMAGES) * len(good) * (len(good) - 1) // 2
    assert {fill["fill"] for fill in document["wins"]} == set(result.fills)


def test_progress(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace, capsys: pytest.CaptureFixture) -> None:
    run(net, x, faces, face)
    assert capsys.readouterr().err == ""
    run(net, x, faces, face, {"a": Saliency(net), "b": Fails(net, RuntimeError("x"))}, show_progress=True)
    assert f"{2 * COUNT + 4 + 6}/{2 * COUNT + 4 + 6}" in capsys.readouterr().err


def test_symmetric(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    saliency = run(net, x, faces, face, symmetric=True).mean_maps["saliency"]
    assert_close(saliency, saliency.flip(-1))


def test_alignment_happens_once(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    calls = []

    def aligner(images: Tensor) -> FaceMesh:
        calls.append(len(images))
        return faces

    run(net, x, aligner, face)
    assert calls == [COUNT]


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
        (lambda net: {"identities": [1, 2]}, "identities: expected one for each of the 6"),
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


def test_data_and_faces_that_do_not_fit(net: Net, x: Tensor, faces: FaceMesh, face: CanonicalFace) -> None:
    for data in (x[0], x.byte(), [x]):
        with pytest.raises(CanonicalError, match="data: expected"):
            run(net, data, faces, face)
    with pytest.raises(CanonicalError, match="one mesh for each of the 6 images, in their order, got 3"):
        run(net, x, faces[:3], face)
    with pytest.raises(CanonicalError, match="no faces were given"):
        run(net, x, None, face)
    nobody = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, found=torch.zeros(COUNT, dtype=bool))
    with pytest.raises(CanonicalError, match="found none"):
        run(net, x, nobody, face)
    turned = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, image_index=torch.arange(COUNT).flip(0))
    with pytest.raises(CanonicalError, match="in their order"):
        run(net, x, turned, face)
    result = run(net, x, faces, face)
    for call in (
        lambda: result["nobody"],
        lambda: result.comparisons("beauty", "mean"),
        lambda: result.ranks("gain", "ocean"),
        lambda: result.wins("ocean"),
        lambda: result.table("html"),
        lambda: result.table(measures=["beauty"]),
    ):
        with pytest.raises(CanonicalError, match="expected"):
            call()
