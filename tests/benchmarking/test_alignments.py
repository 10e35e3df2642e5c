"""Methods that bring their own alignment, and curves on the canonical face."""

from __future__ import annotations

import pytest
import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from captum_canonical.adapters.keypoints import PixelGrid
from captum_canonical.benchmarking.measures import MEASURES
from captum_canonical.benchmarking.result import BenchmarkResult
from captum_canonical.benchmarking.run import benchmark
from captum_canonical.faithfulness.curves import removal_curves
from captum_canonical.faithfulness.explanations import score_explanations
from captum_canonical.faithfulness.masks import explanation_masks
from captum_canonical.faithfulness.measures import average_drop

COUNT, SIZE = 5, (30, 26)
FRACTIONS = [0, 0.3, 1]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2), nn.Softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.fixture(scope="module")
def net() -> Net:
    net = Net().eval()
    net(torch.zeros(1, 3, *SIZE))
    return net


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(COUNT, 3, *SIZE, generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(32)


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    """Faces of several sizes, turned by a little."""
    vertices = []
    for row in range(COUNT):
        angle, scale = torch.tensor(0.15 * (row - 2)), 0.6 + 0.05 * row
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]).double()
        middle = face.vertices - torch.tensor([16.0, 16.0, 0.0])
        plane = middle[:, :2] @ turn.T * scale + torch.tensor([13.0, 15.0])
        vertices.append(torch.cat([plane, middle[:, 2:] * scale], 1))
    return FaceMesh(torch.stack(vertices), image_size=SIZE, topology=face.topology)


def run(net: Net, x: Tensor, methods: dict, **arguments: object) -> BenchmarkResult:
    options = {
        "fills": ["mean"],
        "fractions": FRACTIONS,
        "folds": COUNT,
        "resamples": 5,
        "permutations": 5,
        **arguments,
    }
    return benchmark(net, x, methods, 1, **options)


def seen(faces: FaceMesh, face: CanonicalFace) -> Tensor:
    surface = torch.ones(1, 1, *face.size)
    return CanonicalProjector(None, faces, face).reproject(surface, return_coverage=True)[1] > 0


def test_a_method_keeps_its_own_alignment(net: Net, x: Tensor, face: CanonicalFace, faces: FaceMesh) -> None:
    """Beside the dense mesh, no alignment at all: its rows are those of the whole image's grid, by a loop."""
    grid = PixelGrid(6, 5)
    plain = grid.canonical_face(SIZE)
    methods = {
        "dense": CanonicalOcclusion(net),
        "none": (CanonicalOcclusion(net, grid(x), plain), {"patch_size": 5}),
        "by aligner": (CanonicalOcclusion(net, grid, plain), {"patch_size": 5}),
        "carried": CanonicalProjector(Saliency(net), grid, plain),
    }
    result = run(net, x, methods, faces=faces, canonical_face=face)
    assert all(row.failure is None for row in result.rows)

    area = seen(faces, face)
    maps = CanonicalOcclusion(net, grid(x), plain).attribute(x, target=1, patch_size=5)
    assert_close(result.mean_maps["none"], maps.double().mean(0), atol=1e-6, rtol=1e-5)
    assert result.canonical_faces["none"].size == SIZE and result.canonical_faces["dense"].size == face.size
    means = torch.stack([(maps.sum(0) - maps[row]) / (COUNT - 1) for row in range(COUNT)])  # each its own fold
    with torch.no_grad():
        clean = net(x)[:, 1].double()
    for kind, heat in (("per image", maps), ("canonical mean", means)):
        scores = score_explanations(net, x, explanation_masks(heat, area), 1, fill="mean")
        expected = average_drop(clean, scores).per_image
        for name in ("none", "by aligner"):
            assert_close(result[f"{name}, {kind}"].per_image["average_drop", "mean"], expected, atol=1e-4, rtol=1e-4)
        dense = result[f"dense, {kind}"].per_image["average_drop", "mean"]
        assert (dense - expected).abs().max() > 1e-3
    alone = run(net, x, {"dense": methods["dense"]}, faces=faces, canonical_face=face)
    assert alone["dense, per image"].per_image.keys() == result["dense, per image"].per_image.keys()
    for key, values in alone["dense, per image"].per_image.items():
        assert torch.equal(values, result["dense, per image"].per_image[key])
    assert result.settings["methods"]["none"]["canonical face"] == {"size": list(SIZE), "topology": "grid-6x5"}
    assert "canonical face" not in result.settings["methods"]["dense"]


def test_a_method_inside_a_tunnel_keeps_its_own(net: Net, x: Tensor, face: CanonicalFace, faces: FaceMesh) -> None:
    grid = PixelGrid(6, 5)
    inner = CanonicalOcclusion(net, grid(x), grid.canonical_face(SIZE))
    tunnel = (NoiseTunnel(inner), {"nt_samples": 1, "stdevs": 0.0})
    result = run(net, x, {"plain": inner, "tunnel": tunnel}, faces=faces, canonical_face=face)
    assert_close(result.mean_maps["tunnel"], result.mean_maps["plain"], atol=1e-6, rtol=1e-5)


def test_left_out_photos_leave_the_methods_meshes_too(
    net: Net, x: Tensor, face: CanonicalFace, faces: FaceMesh
) -> None:
    found = torch.tensor([True, False, True, True, True])
    some = FaceMesh(faces.vertices, image_size=SIZE, topology=faces.topology, found=found)
    one = run(net, x, {"own": CanonicalOcclusion(net, faces, face)}, faces=some, canonical_face=face, folds=4)
    two = run(net, x[found], {"own": CanonicalOcclusion(net)}, faces=faces[found], canonical_face=face, folds=4)
    own = [result["own, per image"].per_image["average_drop", "mean"] for result in (one, two)]
    assert one.left_out.keys() == {1} and len(own[0]) == 4
    assert_close(own[0], own[1], atol=1e-4, rtol=1e-4)


def test_alignments_that_do_not_fit(net: Net, x: Tensor, face: CanonicalFace, faces: FaceMesh) -> None:
    grid = PixelGrid(6, 5)
    with pytest.raises(CanonicalError, match=r"methods\['short'\]: faces: expected one mesh for each of the 5 images"):
        run(net, x, {"short": CanonicalOcclusion(net, faces[:2], face)}, faces=faces, canonical_face=face)
    with pytest.raises(CanonicalError, match=r"methods\['other'\]: .*vertices"):
        run(net, x, {"other": CanonicalOcclusion(net, grid(x))}, faces=faces, canonical_face=face)


def test_curves_on_the_canonical_face(net: Net, x: Tensor, face: CanonicalFace, faces: FaceMesh) -> None:
    methods = {"dense": CanonicalOcclusion(net), "saliency": Saliency(net)}
    result = run(net, x, methods, faces=faces, canonical_face=face, spaces=["canonical"])
    assert [m for m in result.measures if m.startswith("gain")] == ["gain_canonical"]
    row = result["saliency, per image"]
    assert not row.curves and row.canonical_curves["mean"].space == "canonical"
    maps = torch.cat([Saliency(net).attribute(x[i : i + 1].clone(), target=1) for i in range(COUNT)]).sum(1, True)
    projected = CanonicalProjector(None, faces, face).project(maps)
    where = {"space": "canonical", "faces": faces, "canonical_face": face}
    curves = removal_curves(net, x, projected, 1, fill="mean", fractions=FRACTIONS, **where)
    for measure in ("deletion_auc", "insertion_auc", "gain"):
        assert_close(row.per_image[f"{measure}_canonical", "mean"], getattr(curves, measure), atol=1e-6, rtol=1e-5)
        assert MEASURES[f"{measure}_canonical"].direction == MEASURES[measure].direction
    both = run(net, x, methods, faces=faces, canonical_face=face, spaces=["image", "canonical"])
    again = both["saliency, per image"]
    assert torch.equal(again.per_image["gain_canonical", "mean"], row.per_image["gain_canonical", "mean"])
    assert not torch.equal(again.per_image["gain", "mean"], row.per_image["gain_canonical", "mean"])
