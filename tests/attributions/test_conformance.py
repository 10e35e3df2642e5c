"""On an identity mesh the classes of this package are Captum's own: T1 to T17, against captum's code itself.

The mesh puts every point at the same place of the image and of the canonical face, so that canonical occlusion is
captum.attr.Occlusion with patches of all channels, and a projector changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    FeatureAblation,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalOcclusion, CanonicalProjector, FaceMesh
from oracles import anchors, identity_face

SIZE = (11, 9)
HEIGHT, WIDTH = SIZE
ALL_AT_ONCE = 10**4


class Net(nn.Module):
    """(N, 3, 11, 9) -> 4 probabilities."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(5 * 6 * 5, 4)

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        scale = scale[:, None] if isinstance(scale, Tensor) else scale
        return (scale * self.head(self.conv(x).relu().flatten(1))).softmax(1)


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, *SIZE)


def ours(
    forward: Callable[..., Tensor], side: int, stride: int = 1, size: tuple[int, int] = SIZE
) -> CanonicalOcclusion:
    mesh, face = identity_face(anchors(size, side, stride), size)
    return CanonicalOcclusion(forward, mesh, face)


def captums(forward: Callable[..., Tensor], x: Tensor, side: int, stride: int = 1, **arguments: object) -> Tensor:
    channels = x.shape[1]
    result = Occlusion(forward).attribute(
        x,
        sliding_window_shapes=(channels, side, side),
        strides=(channels, stride, stride),
        **({"perturbations_per_eval": 40} | arguments),
    )
    return result[:, :1]


def same(actual: Tensor, expected: Tensor, atol: float = 1e-6) -> None:
    assert expected.abs().max() > 1e-4, "the case must not be empty"
    assert_close(actual, expected, atol=atol, rtol=0)


# ------------------------------------------------------------------------------------------------- T1 to T5: Occlusion
@pytest.mark.parametrize("side", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("per_eval", [1, 7, ALL_AT_ONCE])
def test_t01_occlusion(net: Net, x: Tensor, side: int, per_eval: int) -> None:
    expected = captums(net, x, side, target=1)
    result = ours(net, side).attribute(x, target=1, patch_size=side, perturbations_per_eval=per_eval)
    assert result.shape == (2, 1, *SIZE)
    same(result, expected)


@pytest.mark.parametrize("target", [1, [1, 3], torch.tensor([1, 3]), torch.tensor(2), torch.tensor([2])], ids=str)
def test_t02_targets(net: Net, x: Tensor, target: object) -> None:
    same(ours(net, 3).attribute(x, target=target, patch_size=3), captums(net, x, 3, target=target))


@pytest.mark.parametrize("target", [(0, 1), [(0, 1), (1, 1)]], ids=str)
def test_t02_targets_of_a_table(net: Net, x: Tensor, target: object) -> None:
    def table(z: Tensor) -> Tensor:
        return net(z).reshape(-1, 2, 2)

    same(ours(table, 3).attribute(x, target=target, patch_size=3), captums(table, x, 3, target=target))


@pytest.mark.parametrize("shape", [None, (1, 3, *SIZE), (2, 3, *SIZE), (3, *SIZE), (1, 3, 1, 1)], ids=str)
def test_t03_baselines(net: Net, x: Tensor, shape: tuple[int, ...] | None) -> None:
    baselines = 0.5 if shape is None else torch.randn(shape)
    result = ours(net, 3).attribute(x, target=1, baselines=baselines, patch_size=3)
    same(result, captums(net, x, 3, target=1, baselines=baselines))


@pytest.mark.parametrize("per_eval", [1, 7, ALL_AT_ONCE])
@pytest.mark.parametrize("argument", [torch.tensor([0.5, 3.0]), (torch.tensor([0.5, 3.0]),), (2.0,)], ids=str)
def test_t04_additional_forward_args(net: Net, x: Tensor, argument: object, per_eval: int) -> None:
    arguments = {"target": 1, "additional_forward_args": argument, "perturbations_per_eval": per_eval}
    same(ours(net, 3).attribute(x, patch_size=3, **arguments), captums(net, x, 3, **arguments))


@pytest.mark.parametrize(("side", "stride"), [(4, 2), (4, 3), (5, 5), (3, 2)])
def test_t05_strides_with_a_cut_edge(net: Net, x: Tensor, side: int, stride: int) -> None:
    result = ours(net, side, stride).attribute(x, target=1, patch_size=side)
    same(result, captums(net, x, side, stride, target=1))


# -------------------------------------------------------------------------------------- T6 to T8: other exact answers
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("baseline", ["number", "image"])
def test_t06_centred_at_every_pixel(net: Net, x: Tensor, side: int, baseline: str) -> None:
    """Patches cut off at the border are Occlusion of a padded image whose padding the network does not see."""
    r = side // 2
    baselines = 0.5 if baseline == "number" else torch.randn(1, 3, *SIZE)
    padded = F.pad(x, (r,) * 4)
    expected = captums(
        lambda z: net(z[..., r:-r, r:-r]),
        padded,
        side,
        target=1,
        baselines=F.pad(baselines, (r,) * 4) if isinstance(baselines, Tensor) else baselines,
    )[..., r:-r, r:-r]
    mesh, face = identity_face(anchors(SIZE, 1), SIZE)
    result = CanonicalOcclusion(net, mesh, face).attribute(x, target=1, baselines=baselines, patch_size=side)
    same(result, expected)


def test_t07_single_pixels_are_feature_ablation(net: Net, x: Tensor) -> None:
    mask = torch.arange(HEIGHT * WIDTH).view(1, 1, *SIZE)
    expected = FeatureAblation(net).attribute(x, target=1, feature_mask=mask)[:, :1]
    same(ours(net, 1).attribute(x, target=1, patch_size=1), expected)


@pytest.mark.parametrize("side", [3, 4])
def test_t07_tiles_are_feature_ablation(net: Net, x: Tensor, side: int) -> None:
    row, column = torch.arange(HEIGHT)[:, None] // side, torch.arange(WIDTH) // side
    mask = (row * math.ceil(WIDTH / side) + column).view(1, 1, *SIZE)
    expected = FeatureAblation(net).attribute(x, target=1, feature_mask=mask)[:, :1]
    same(ours(net, side, side).attribute(x, target=1, patch_size=side), expected)


def test_t08_linear_networks_exactly() -> None:
    """The drop of a linear network is the sum of w (x - b) over the patch: integers, to the last bit."""
    x, w, b = (torch.randint(-4, 5, (1, 2, *SIZE)).float() for _ in range(3))
    side = 3
    ones = torch.ones(1, 1, side, side)
    drops = F.conv2d((w * (x - b)).sum(1, keepdim=True), ones)
    expected = F.conv_transpose2d(drops, ones).double() / F.conv_transpose2d(torch.ones_like(drops), ones).double()
    method = ours(lambda z: (z * w).flatten(1).sum(1), side)
    assert torch.equal(method.attribute(x, baselines=b, patch_size=side), expected.float())


def test_the_whole_image_as_one_patch(net: Net, x: Tensor) -> None:
    mesh, face = identity_face(torch.tensor([[WIDTH / 2, HEIGHT / 2]]), SIZE)
    result = CanonicalOcclusion(net, mesh, face).attribute(x, target=1, baselines=0.5, patch_size=HEIGHT)
    drop = (net(x) - net(torch.full_like(x, 0.5)))[:, 1].detach()
    assert_close(result, drop[:, None, None, None].expand(2, 1, *SIZE))


# --------------------------------------------------------------------------------------------- T9 to T12: the mesh
def test_t09_order_and_number_of_points_do_not_matter(net: Net, x: Tensor) -> None:
    places = anchors(SIZE, 3)
    expected = ours(net, 3).attribute(x, target=1, patch_size=3)
    for other in (places[torch.randperm(len(places))], places.repeat(2, 1), places.repeat_interleave(2, 0)):
        mesh, face = identity_face(other, SIZE)
        result = CanonicalOcclusion(net, mesh, face).attribute(x, target=1, patch_size=3)
        same(result, expected, atol=1e-7)


def moved(places: Tensor, canvas: tuple[int, int]) -> CanonicalFace:
    vertices = torch.cat([places, torch.zeros(len(places), 1, dtype=torch.float64)], 1)
    return CanonicalFace.from_vertices(torch.zeros(3, *canvas), vertices, triangles=torch.zeros(0, 3))


def test_t10_a_moved_canonical_face_moves_the_map(net: Net, x: Tensor) -> None:
    places = anchors(SIZE, 3)
    mesh, _ = identity_face(places, SIZE)
    plain = ours(net, 3).attribute(x, target=1, patch_size=3)
    method = CanonicalOcclusion(net, mesh, moved(places + torch.tensor([2.0, 1.0]), (15, 14)))
    result, coverage = method.attribute(x, target=1, patch_size=3, canonical_patch_size=3, return_coverage=True)
    expected = torch.zeros(2, 1, 15, 14)
    expected[..., 1:12, 2:11] = plain
    same(result, expected)
    assert torch.equal(coverage > 0, (F.pad(torch.ones(2, 1, *SIZE), (2, 3, 1, 3)) > 0))


def test_t10_a_mirrored_canonical_face_mirrors_the_map(net: Net, x: Tensor) -> None:
    places = anchors(SIZE, 3)
    mesh, _ = identity_face(places, SIZE)
    mirrored = moved(torch.stack([WIDTH - places[:, 0], places[:, 1]], 1), SIZE)
    result = CanonicalOcclusion(net, mesh, mirrored).attribute(x, target=1, patch_size=3)
    same(result, ours(net, 3).attribute(x, target=1, patch_size=3).flip(-1))


def test_t11_batches_types_and_gradients(net: Net, x: Tensor) -> None:
    method, before = ours(net, 3), x.clone()
    x.requires_grad_()
    together = method.attribute(x, target=torch.tensor([1, 3]), patch_size=3)
    alone = [method.attribute(x[i : i + 1], target=t, patch_size=3) for i, t in enumerate((1, 3))]
    same(together, torch.cat(alone))
    assert isinstance(together, Tensor)
    assert not together.requires_grad
    assert together.is_contiguous()
    in_a_tuple = method.attribute((x,), target=torch.tensor([1, 3]), patch_size=3)
    assert isinstance(in_a_tuple, tuple)
    assert len(in_a_tuple) == 1
    assert torch.equal(in_a_tuple[0], together)
    assert torch.equal(x.detach(), before)
    assert x.grad is None


def test_t12_what_changes_nothing_scores_zero(net: Net, x: Tensor) -> None:
    constant = ours(lambda z: torch.full((len(z),), 0.3), 3).attribute(x, patch_size=3)
    own = ours(net, 3).attribute(x, target=1, baselines=x, patch_size=3)
    for result in (constant, own):
        assert torch.equal(result, torch.zeros(2, 1, *SIZE))


# ----------------------------------------------------------------------------------------- T13 to T15: other wrappers
@pytest.mark.parametrize("samples_at_once", [None, 2])
@pytest.mark.parametrize("target", [torch.tensor([1, 3]), [1, 3]], ids=str)
def test_t13_noise_tunnel_without_noise(net: Net, x: Tensor, target: object, samples_at_once: int | None) -> None:
    baselines, arguments = torch.randn(2, 3, *SIZE), torch.tensor([0.5, 3.0])
    mesh, face = identity_face(anchors(SIZE, 3), SIZE)
    two = FaceMesh(torch.cat([mesh.vertices, mesh.vertices + 1.0]), image_size=SIZE)  # the second photo's mesh differs
    method = CanonicalOcclusion(net.double(), two, face)
    keywords = {"target": target, "baselines": baselines.double(), "additional_forward_args": arguments}
    result = NoiseTunnel(method).attribute(
        x.double(), stdevs=1e-10, nt_samples=3, nt_samples_batch_size=samples_at_once, patch_size=3, **keywords
    )
    same(result, method.attribute(x.double(), patch_size=3, **keywords), atol=1e-9)


def square_face() -> tuple[FaceMesh, CanonicalFace]:
    """The anchors of 3 x 3 patches as occlusion points of two triangles that fill the image."""
    corners = torch.tensor([[0.0, 0, 0], [WIDTH, 0, 0], [0, HEIGHT, 0], [WIDTH, HEIGHT, 0]], dtype=torch.float64)
    places = anchors(SIZE, 3)
    u, v = places[:, 0] / WIDTH, places[:, 1] / HEIGHT
    lower = u + v > 1
    weights = torch.where(lower[:, None], torch.stack([1 - v, 1 - u, u + v - 1], 1), torch.stack([u, v, 1 - u - v], 1))
    numbers = torch.where(lower[:, None], torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0]))
    face = CanonicalFace(
        image=torch.zeros(3, *SIZE),
        vertices=corners,
        triangles=torch.tensor([[0, 1, 2], [1, 3, 2]]),
        point_vertices=numbers,
        point_weights=weights,
    )
    assert_close(face.points(corners)[:, :2], places)
    return FaceMesh(corners[None], image_size=SIZE), face


def test_t14_projected_occlusion_is_canonical_occlusion(net: Net, x: Tensor) -> None:
    mesh, face = square_face()
    arguments = {"sliding_window_shapes": (3, 3, 3), "strides": (3, 1, 1), "target": 1}
    projected = CanonicalProjector(Occlusion(net), mesh, face).attribute(x, **arguments)
    same(projected / 3, CanonicalOcclusion(net, mesh, face).attribute(x, target=1, patch_size=3))


METHODS = {
    "Saliency": lambda net: Saliency(net),
    "IntegratedGradients": lambda net: IntegratedGradients(net),
    "LayerGradCam": lambda net: LayerGradCam(net, net.conv),
}


def turned_mesh() -> tuple[FaceMesh, CanonicalFace]:
    """One fixed mesh in which each photo's face is somewhere else."""
    mesh, face = square_face()
    middle = torch.tensor([WIDTH / 2, HEIGHT / 2, 0.0])
    rotation = torch.tensor([[0.8, -0.3, 0.0], [0.3, 0.8, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    other = (mesh.vertices - middle) @ rotation.T + middle
    return FaceMesh(torch.cat([other, mesh.vertices]), image_size=SIZE), face


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_t15_projection_commutes_with_averages_only(net: Net, x: Tensor, name: str, kind: str) -> None:
    mesh, face = turned_mesh()
    arguments = {"target": torch.tensor([1, 3]), "nt_type": kind, "nt_samples": 4, "stdevs": 0.3}

    torch.manual_seed(0)
    outside = CanonicalProjector(NoiseTunnel(METHODS[name](net)), mesh, face).attribute(x, **arguments)
    torch.manual_seed(0)
    inside = NoiseTunnel(CanonicalProjector(METHODS[name](net), mesh, face)).attribute(x, **arguments)

    assert not outside.requires_grad
    assert not inside.requires_grad
    if kind == "smoothgrad":
        same(inside, outside, atol=1e-7)
    else:
        assert (inside - outside).abs().max() > 1e-3 * outside.abs().max()


# -------------------------------------------------------------------------------------------- T16, T17: captum's bugs
@pytest.mark.parametrize("per_eval", [1, 7, None, ALL_AT_ONCE])
def test_t16_progress_counts_the_forward_calls(
    net: Net, x: Tensor, per_eval: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def counting(z: Tensor) -> Tensor:
        calls.append(len(z))
        return net(z)

    method = ours(counting, 3)
    silent = method.attribute(x, target=1, patch_size=3, perturbations_per_eval=per_eval)
    assert capsys.readouterr().err == ""
    calls.clear()
    shown = method.attribute(x, target=1, patch_size=3, perturbations_per_eval=per_eval, show_progress=True)
    assert torch.equal(shown, silent)
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("Canonical Occlusion attribution: 100%")
    assert f" {len(calls)}/{len(calls)} " in last
    assert sum(calls) == 2 + 2 * (HEIGHT - 2) * (WIDTH - 2)
    if per_eval is not None:
        assert max(calls) <= per_eval * 2


@pytest.mark.parametrize(
    "aggregate", [lambda z: z.sum(), lambda z: z.sum().reshape(1), lambda z: z.mean((0, 2, 3))[None]]
)
def test_t16_scores_of_a_whole_batch_raise_every_time(x: Tensor, aggregate: Callable[[Tensor], Tensor]) -> None:
    """Captum 0.9 checks this only until a first call with perturbations_per_eval=1 on the same object."""
    method = ours(aggregate, 3)
    target = 1 if aggregate(x).ndim == 2 else None
    alone = method.attribute(x[:1], target=target, patch_size=3, perturbations_per_eval=1)
    assert alone.shape == (1, 1, *SIZE)
    for _ in range(2):
        with pytest.raises(CanonicalError, match="batch as a whole"):
            method.attribute(x[:1], target=target, patch_size=3, perturbations_per_eval=4)
        with pytest.raises(CanonicalError, match="batch as a whole"):
            method.attribute(x, target=target, patch_size=3, perturbations_per_eval=1)


def hooks(net: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)


@pytest.mark.parametrize("name", METHODS)
def test_t17_no_hooks_are_left(net: Net, x: Tensor, name: str) -> None:
    mesh, face = square_face()
    method = CanonicalProjector(METHODS[name](net), mesh, face)
    method.attribute(x, target=1)
    assert hooks(net) == 0
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        method.attribute(x, target=9)
    assert hooks(net) == 0
    with pytest.raises(CanonicalError):
        method.attribute(x, target=1, faces=FaceMesh(mesh.vertices, image_size=(5, 5)))
    assert hooks(net) == 0
    with pytest.raises(CanonicalError, match="reduce"):
        method.attribute(x, target=1, reduce="median")
    assert hooks(net) == 0


# ---------------------------------------------------------------------------------------------------- golden vectors
GOLDEN = {  # (side, stride): the map of x = arange(16) under captum's BasicModel_ConvNet_One_Conv, target 0
    (1, 1): [[0, 1, 2, 3], [0, 4, 4, 4], [2, 7, 8, 4], [6, 7, 8, 0]],
    (3, 1): [[44, 48.5, 48.5, 53], [49, 51.25, 51.25, 53.5], [49, 51.25, 51.25, 53.5], [54, 54, 54, 54]],
    (2, 1): [[7, 8, 6.5, 4], [15.5, 20.75, 22.25, 18.5], [30, 39.25, 44.25, 40], [36, 45, 50.5, 47]],
    (3, 2): [[44, 44, 38.5, 33], [44, 44, 38.5, 33], [49, 49, 44.5, 40], [54, 54, 50.5, 47]],
}
CENTRED = [
    [22, 25.5, 26.5, 25.5],
    [30.5, 33.5556, 35.5556, 34.8333],
    [42.1667, 46, 49.5556, 49],
    [46.25, 48.8333, 52.6667, 52],
]


@pytest.fixture
def one_conv() -> nn.Module:
    """The network of captum's own tests with these constant weights."""
    return pytest.importorskip("captum.testing.helpers.basic_models").BasicModel_ConvNet_One_Conv().eval()


@pytest.mark.parametrize(("side", "stride"), GOLDEN)
def test_golden_vectors(one_conv: nn.Module, side: int, stride: int) -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    result = ours(one_conv, side, stride, (4, 4)).attribute(x, target=0, patch_size=side)
    assert_close(result[0, 0], torch.tensor(GOLDEN[side, stride], dtype=torch.float32))


def test_golden_vector_centred_at_every_pixel(one_conv: nn.Module) -> None:
    mesh, face = identity_face(anchors((4, 4), 1), (4, 4))
    x = torch.arange(16.0).view(1, 1, 4, 4)
    result = CanonicalOcclusion(one_conv, mesh, face).attribute(x, target=0, patch_size=3)
    assert_close(result[0, 0], torch.tensor(CENTRED), atol=5e-5, rtol=0)
