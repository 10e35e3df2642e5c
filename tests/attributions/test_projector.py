"""CanonicalProjector: any map of Captum's, or of anybody's, on the canonical face and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    Attribution,
    DeepLift,
    FeatureAblation,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerActivation,
    LayerAttribution,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.metrics import sensitivity_max
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import (
    AlignmentError,
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    CanonicalProjector,
    FaceMesh,
)
from captum_canonical.faces.warp import visible_vertices
from oracles import rolled, turned, warped

SIZE = (56, 48)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 6, 5, stride=4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6 * 13 * 11, 4)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        scores = self.head(self.relu(self.conv(x)).flatten(1))
        return scores if other is None else scores * other.mean((1, 2, 3))[:, None]


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(40)


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    vertices = torch.stack(
        [
            rolled(face.vertices, 15, 1.1, (24.3, 27.2)),
            rolled(turned(face.vertices, 35), -5, 1.0, (23.1, 29.8)),
        ]
    )
    return FaceMesh(vertices, visible_vertices(vertices, face.triangles), SIZE, face.topology)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, *SIZE)


def blobs(size: tuple[int, int], channels: int = 1) -> Tensor:
    """(1, channels, H, W) smooth maps with both signs."""
    return F.interpolate(torch.randn(1, channels, 5, 5), size, mode="bicubic")


def correlation(one: Tensor, two: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])


# --------------------------------------------------------------------------------------------------------- the warp
def test_projection_is_the_loop(face: CanonicalFace, faces: FaceMesh) -> None:
    small = face.resized((16, 14))
    maps = torch.randn(2, 1, *SIZE, dtype=torch.float64)
    result, coverage = CanonicalProjector(None, faces, small).project(maps, return_coverage=True)
    assert result.shape == coverage.shape == (2, 1, 16, 14)
    for row in range(2):
        expected, covered = warped(
            maps[row, 0].numpy(),
            faces.vertices[row].numpy(),
            faces.visible[row].numpy(),
            small.vertices.numpy(),
            small.triangles.numpy(),
            (16, 14),
        )
        np.testing.assert_array_equal(coverage[row, 0].numpy(), covered.astype(float))
        np.testing.assert_allclose(result[row, 0].numpy(), expected, atol=1e-9)
        assert 0.2 < covered.mean() < 0.8


def test_reprojection_is_the_loop(face: CanonicalFace, faces: FaceMesh) -> None:
    tiny = faces[1].resized((13, 11))
    maps = torch.randn(1, 1, 40, 40, dtype=torch.float64)
    result, coverage = CanonicalProjector(None, tiny, face).reproject(maps, return_coverage=True)
    assert result.shape == coverage.shape == (1, 1, 13, 11)
    expected, covered = warped(
        maps[0, 0].numpy(),
        face.vertices.numpy(),
        tiny.visible[0].numpy(),
        tiny.vertices[0].numpy(),
        face.triangles.numpy(),
        (13, 11),
    )
    np.testing.assert_array_equal(coverage[0, 0].numpy(), covered.astype(float))
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [SIZE, (2, *SIZE), (2, 1, *SIZE), (2, 1, 7, 5), (2, 1, 200, 100)])
def test_constant_in_the_same_constant_out(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    mesh = faces if len(shape) > 2 else faces[1]
    projector = CanonicalProjector(None, mesh, face)
    result, coverage = projector.project(torch.full(shape, -0.7), return_coverage=True)
    assert_close(result[coverage > 0], torch.full_like(result[coverage > 0], -0.7))
    assert result[coverage == 0].abs().max() == 0
    back, covered = projector.reproject(torch.full_like(result, 0.3), return_coverage=True)
    assert_close(back[covered > 0], torch.full_like(back[covered > 0], 0.3))
    assert 0.1 < covered.mean() < 0.9


@pytest.mark.parametrize("yaw", [0, 20, -40])
def test_there_and_back_again(yaw: float) -> None:
    """A smooth canonical map, drawn on a turned face of a 160 x 140 photo and read again."""
    face = CanonicalFace.default(96)
    vertices = rolled(turned(face.vertices, yaw), 12, 1.4, (70.0, 82.0))[None]
    mesh = FaceMesh(vertices, visible_vertices(vertices, face.triangles), (160, 140), face.topology)
    projector = CanonicalProjector(None, mesh, face)
    canonical = F.interpolate(torch.randn(1, 1, 5, 5), (96, 96), mode="bicubic")
    image, drawn = projector.reproject(canonical, return_coverage=True)
    again, coverage = projector.project(image, return_coverage=True)
    inside = coverage > 0
    assert inside.float().mean() > (0.5 if yaw == 0 else 0.3)
    assert correlation(again[inside], canonical[inside]) >= 0.98
    assert float(drawn.mean()) > 0.2


def test_there_and_back_again_on_real_faces(shared: object) -> None:
    """The PRNet meshes of real photographs, the paper's frontal face."""
    from captum_canonical.adapters.prnet import load_prnet_face, load_prnet_mesh

    folder = shared / "data"  # type: ignore[operator]
    face = load_prnet_face(
        folder / "canonical_prnet" / "frontal.jpg", folder / "canonical_prnet" / "frontal_mesh.mat"
    ).resized((150, 150))
    canonical = F.interpolate(torch.randn(1, 1, 6, 6), (150, 150), mode="bicubic")
    for name in ("000686", "005467", "010462"):
        mesh = load_prnet_mesh(folder / "celeba_prnet" / "meshes" / f"{name}_mesh.mat", image_size=(218, 178))
        projector = CanonicalProjector(None, mesh, face)
        again, coverage = projector.project(projector.reproject(canonical), return_coverage=True)
        inside = coverage > 0
        assert inside.float().mean() > 0.2
        assert correlation(again[inside], canonical[inside]) >= 0.98, name


def test_one_map_is_drawn_on_every_face(face: CanonicalFace, faces: FaceMesh) -> None:
    projector, canonical = CanonicalProjector(None, faces, face), blobs((40, 40), channels=3)
    images = projector.reproject(canonical)
    assert images.shape == (2, 3, *SIZE)
    for row in range(2):
        assert_close(images[row : row + 1], CanonicalProjector(None, faces[row], face).reproject(canonical))


def test_maps_keep_to_their_own_rows(face: CanonicalFace, faces: FaceMesh) -> None:
    maps, projector = torch.randn(2, 1, *SIZE), CanonicalProjector(None, faces, face)
    together, back = projector.project(maps), projector.reproject(torch.randn(2, 1, 40, 40))
    assert back.shape == (2, 1, *SIZE)
    for row in range(2):
        alone = CanonicalProjector(None, faces[row], face)
        assert_close(together[row : row + 1], alone.project(maps[row : row + 1]))


def test_flipped_photos_give_flipped_maps(face: CanonicalFace, faces: FaceMesh) -> None:
    maps = blobs(SIZE).expand(2, -1, -1, -1)
    expected = CanonicalProjector(None, faces, face).project(maps)
    flipped = CanonicalProjector(None, faces.flipped(face.permutation), face).project(maps.flip(-1))
    assert_close(flipped.flip(-1), expected, atol=1e-5, rtol=0)


def test_unseen_parts_stay_empty(face: CanonicalFace, faces: FaceMesh) -> None:
    ones, missing = torch.ones(2, 1, *SIZE), replace(faces, found=torch.tensor([True, False]))
    outside = replace(faces, vertices=faces.vertices + 1000)
    for mesh, rows in ((missing, [1]), (outside, [0, 1])):
        result, coverage = CanonicalProjector(None, mesh, face).project(ones, return_coverage=True)
        assert result[rows].abs().max() == coverage[rows].max() == 0
        image, covered = CanonicalProjector(None, mesh, face).reproject(torch.ones(1, 1, 40, 40), return_coverage=True)
        assert image[rows].abs().max() == covered[rows].max() == 0
    turned_face = CanonicalProjector(None, faces[1], face).project(ones[:1], return_coverage=True)[1]
    assert float(face.raster.covered.float().mean() - turned_face.mean()) > 0.05, "the far side is not seen"


@pytest.mark.parametrize("far", [1e12, -1e30])
def test_a_vertex_far_away_breaks_nothing(face: CanonicalFace, faces: FaceMesh, far: float) -> None:
    maps, vertices, visible = torch.randn(2, 1, *SIZE), faces.vertices.clone(), faces.visible.clone()
    vertices[:, 1], visible[:, 1] = far, False
    wild, hidden = replace(faces, vertices=vertices), replace(faces, visible=visible)
    expected = CanonicalProjector(None, hidden, face).project(maps, return_coverage=True)
    for actual, value in zip(
        CanonicalProjector(None, wild, face).project(maps, return_coverage=True), expected, strict=True
    ):
        assert_close(actual, value)
    drawn = CanonicalProjector(None, wild, face).reproject(torch.ones(1, 1, 40, 40))
    assert drawn.isfinite().all()
    assert visible_vertices(vertices, face.triangles).shape == (2, 468)


# --------------------------------------------------------------------------------------------- maps made elsewhere
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, bool])
def test_numpy_maps(face: CanonicalFace, faces: FaceMesh, dtype: type) -> None:
    heat = (np.random.default_rng(0).random(SIZE) * 2).astype(dtype)
    result = CanonicalProjector(None, faces[0], face).project(heat)
    expected = CanonicalProjector(None, faces[0], face).project(torch.from_numpy(heat.astype(np.float64)))
    assert result.dtype == (torch.float64 if dtype == np.float64 else torch.float32)
    assert_close(result, expected, check_dtype=False)


def test_numpy_views(face: CanonicalFace, faces: FaceMesh) -> None:
    """Flipped, transposed or read-only: a heat map as other tools hand it over."""
    heat = np.random.default_rng(0).random(SIZE)
    expected = CanonicalProjector(None, faces[0], face).project(heat)
    frozen = heat.copy()
    frozen.setflags(write=False)
    for view in (heat[:, ::-1].copy()[:, ::-1], np.asfortranarray(heat), frozen):
        assert_close(CanonicalProjector(None, faces[0], face).project(view), expected)


@pytest.mark.parametrize("shape", [(2, *SIZE), (2, 1, *SIZE), (2, 5, *SIZE)])
def test_shapes_of_maps(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape)
    result = CanonicalProjector(None, faces, face).project(maps)
    expected = CanonicalProjector(None, faces, face).project(maps.reshape(2, -1, *SIZE).sum(1, keepdim=True))
    assert_close(result, expected)


def test_small_maps_are_enlarged_as_captum_does(face: CanonicalFace, faces: FaceMesh) -> None:
    """Bilinear, align_corners=False: LayerAttribution.interpolate with interpolate_mode="bilinear"."""
    maps = torch.randn(2, 1, 7, 6)
    expected = CanonicalProjector(None, faces, face).project(LayerAttribution.interpolate(maps, SIZE, "bilinear"))
    assert_close(CanonicalProjector(None, faces, face).project(maps), expected)
    square = F.interpolate(maps, SIZE, mode="bilinear", align_corners=True)
    assert not torch.equal(CanonicalProjector(None, faces, face).project(square), expected)


def test_reductions_by_hand(face: CanonicalFace, faces: FaceMesh) -> None:
    colours = torch.tensor([2.0, -5.0, 1.0])[None, :, None, None].expand(2, 3, *SIZE)
    projector = CanonicalProjector(None, faces, face)
    for reduce, value in (("sum", -2.0), ("abs", 8.0), ("max", 2.0)):
        result, coverage = projector.project(colours, reduce=reduce, return_coverage=True)
        assert_close(result[coverage > 0], torch.full_like(result[coverage > 0], value))
    assert_close(projector.project(colours), projector.project(colours, reduce="sum"))


def test_the_faces_of_the_call_win(face: CanonicalFace, faces: FaceMesh) -> None:
    other, maps = faces[[1, 0]], torch.randn(2, 1, *SIZE)
    projector = CanonicalProjector(None, other, face)
    expected = CanonicalProjector(None, faces, face)
    assert_close(projector.project(maps, faces), expected.project(maps))
    canonical = blobs((40, 40))
    assert_close(projector.reproject(canonical, faces), expected.reproject(canonical))


# ----------------------------------------------------------------------------------------------- Captum's own methods
METHODS: dict[str, tuple[Callable[[Net], Attribution], dict]] = {
    "Saliency": (Saliency, {"abs": False}),
    "InputXGradient": (InputXGradient, {}),
    "IntegratedGradients": (IntegratedGradients, {"n_steps": 5}),
    "DeepLift": (DeepLift, {}),
    "GuidedGradCam": (lambda net: GuidedGradCam(net, net.conv), {}),
    "LayerGradCam": (lambda net: LayerGradCam(net, net.conv), {}),
    "LayerActivation": (lambda net: LayerActivation(net, net.conv), {}),
    "LayerGradientXActivation": (lambda net: LayerGradientXActivation(net, net.conv), {}),
    "Occlusion": (Occlusion, {"sliding_window_shapes": (3, 16, 16), "strides": (3, 16, 16)}),
    "FeatureAblation": (FeatureAblation, {"feature_mask": (torch.arange(56)[:, None] // 14).expand(1, 1, *SIZE)}),
    "NoiseTunnel": (lambda net: NoiseTunnel(Saliency(net)), {"stdevs": 1e-10, "nt_samples": 2}),
}


@pytest.mark.filterwarnings("ignore:.*(hooks|requires_grad|Setting).*")
@pytest.mark.parametrize("name", METHODS)
def test_wrapping_a_method_is_projecting_its_maps(
    net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor, name: str
) -> None:
    make, arguments = METHODS[name]
    if name != "LayerActivation":
        arguments = {**arguments, "target": torch.tensor([1, 3])}
    result, coverage = CanonicalProjector(make(net), faces, face).attribute(x, return_coverage=True, **arguments)
    raw = make(net).attribute(x, **arguments)
    expected = CanonicalProjector(None, faces, face).project(raw.float())
    assert result.shape == coverage.shape == (2, 1, 40, 40)
    assert_close(result, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert expected.abs().max() > 0
    assert not result.requires_grad
    assert result.is_contiguous()
    assert result.dtype == torch.float32


def test_the_sign_is_kept(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    """Evidence for a score is evidence against its negative."""
    method = CanonicalProjector(LayerGradCam(net, net.conv), faces, face)
    result = method.attribute(x, target=1)
    assert result.min() < 0 < result.max()
    negative = CanonicalProjector(LayerGradCam(lambda z: -net(z), net.conv), faces, face).attribute(x, target=1)
    assert_close(negative, -result)
    rectified = method.attribute(x, target=1, relu_attributions=True)
    assert rectified.min() >= 0
    assert rectified.max() > 0


def test_channels_of_a_layer_are_reduced(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    projector = CanonicalProjector(LayerGradCam(net, net.conv), faces, face)
    summed = projector.attribute(x, target=1)
    apart = projector.attribute(x, target=1, attr_dim_summation=False)
    assert_close(apart, summed, atol=1e-5, rtol=1e-4)


def test_layers_without_space_are_refused_by_name(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    for method in (LayerGradCam(net, net.head), LayerActivation(net, net.head)):
        arguments = {"target": 1} if isinstance(method, LayerGradCam) else {}
        with pytest.raises(CanonicalError, match=rf"{type(method).__name__}.*convolutional"):
            CanonicalProjector(method, faces, face).attribute(x, **arguments)


def test_delta(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    method = IntegratedGradients(net)
    projector = CanonicalProjector(method, faces, face)
    assert projector.has_convergence_delta()
    arguments = {"target": torch.tensor([1, 3]), "n_steps": 4}
    maps, delta = projector.attribute(x, return_convergence_delta=True, **arguments)
    raw, expected = method.attribute(x, return_convergence_delta=True, **arguments)
    assert_close(delta, expected)
    assert_close(maps, projector.attribute(x, **arguments))
    three = projector.attribute(x, return_convergence_delta=True, return_coverage=True, **arguments)
    assert [part.shape for part in three] == [(2, 1, 40, 40), (2, 1, 40, 40), (2,)]
    assert_close(three[2], expected)
    zeros = torch.zeros_like(x)
    assert_close(
        projector.compute_convergence_delta(raw, zeros, x, target=torch.tensor([1, 3])),
        method.compute_convergence_delta(raw, zeros, x, target=torch.tensor([1, 3])),
    )
    torch.manual_seed(0)
    _, inside = NoiseTunnel(projector).attribute(
        x, return_convergence_delta=True, nt_samples=3, stdevs=1e-10, **arguments
    )
    assert inside.shape == (6,)
    assert not CanonicalProjector(Saliency(net), faces, face).has_convergence_delta()


def test_flags_are_the_wrapped_methods_own(net: Net) -> None:
    assert CanonicalProjector(IntegratedGradients(net)).multiplies_by_inputs
    assert not CanonicalProjector(IntegratedGradients(net, multiply_by_inputs=False)).multiplies_by_inputs
    assert not CanonicalProjector(Saliency(net)).multiplies_by_inputs
    assert CanonicalProjector(Saliency(net)).forward_func is net


@pytest.mark.parametrize("wrap", [lambda m: m, NoiseTunnel, lambda m: NoiseTunnel(NoiseTunnel(m))])
def test_canonical_methods_are_refused(net: Net, faces: FaceMesh, wrap: Callable[[Attribution], Attribution]) -> None:
    for method in (CanonicalOcclusion(net, faces), CanonicalProjector(Saliency(net), faces)):
        with pytest.raises(CanonicalError, match=rf"{type(method).__name__}.*canonical face already"):
            CanonicalProjector(wrap(method), faces)


def test_tuple_in_tuple_out(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    for method in (Saliency(net), LayerGradCam(net, net.conv)):
        projector = CanonicalProjector(method, faces, face)
        plain = projector.attribute(x, target=1)
        result = projector.attribute((x,), target=1)
        assert isinstance(result, tuple)
        assert len(result) == 1
        assert_close(result[0], plain)
        maps, coverage = projector.attribute((x,), target=1, return_coverage=True)
        assert isinstance(maps, tuple)
        assert isinstance(coverage, tuple)


def test_two_inputs(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    other, both = torch.rand(2, 3, *SIZE), Saliency(net)
    raw = both.attribute((x, other), target=1)
    result = CanonicalProjector(both, (faces, faces[[1, 0]]), face).attribute((x, other), target=1)
    assert_close(result[0], CanonicalProjector(None, faces, face).project(raw[0]))
    assert_close(result[1], CanonicalProjector(None, faces[[1, 0]], face).project(raw[1]))
    for where, expected in (((faces, None), 0), ((None, faces[[1, 0]]), 1)):
        only = CanonicalProjector(both, where, face).attribute((x, other), target=1)
        assert len(only) == 1
        assert_close(only[0], result[expected])


def test_a_layer_map_of_two_inputs_needs_to_know_which(
    net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor
) -> None:
    other, method = torch.rand(2, 3, *SIZE), LayerGradCam(net, net.conv)
    with pytest.raises(CanonicalError, match=r"LayerGradCam.*None"):
        CanonicalProjector(method, (faces, faces), face).attribute((x, other), target=1)
    result = CanonicalProjector(method, (faces, None), face).attribute((x, other), target=1)
    assert isinstance(result, tuple)
    assert_close(result[0], CanonicalProjector(None, faces, face).project(method.attribute((x, other), target=1)))


def test_sensitivity_max(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    method = CanonicalProjector(LayerGradCam(net, net.conv), faces, face)
    still = sensitivity_max(
        method.attribute, x, perturb_func=lambda z: z, n_perturb_samples=3, target=torch.tensor([1, 3])
    )
    assert_close(still, torch.zeros(2), atol=1e-5, rtol=0)


def test_aligners_are_called_on_the_inputs(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    seen = []
    projector = CanonicalProjector(Saliency(net), lambda images: seen.append(images) or faces, face)
    result = projector.attribute(x, target=1)
    assert torch.equal(seen[0].detach(), x)
    assert_close(result, CanonicalProjector(Saliency(net), faces, face).attribute(x, target=1))


def test_float64_stays_float64(face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    net = Net().double().eval()
    result = CanonicalProjector(Saliency(net), faces, face).attribute(x.double(), target=1)
    assert result.dtype == torch.float64


def test_everything_is_left_as_it_was(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    before = [t.clone() for t in (x, faces.vertices, faces.visible)]
    state = torch.get_rng_state()
    CanonicalProjector(IntegratedGradients(net), faces, face).attribute(x, target=1, n_steps=3)
    for tensor, value in zip((x, faces.vertices, faces.visible), before, strict=True):
        assert torch.equal(tensor, value)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())
    maps = torch.randn(2, 1, *SIZE)
    kept = maps.clone()
    CanonicalProjector(None, faces, face).project(maps)
    assert torch.equal(maps, kept)


# --------------------------------------------------------------------------------------------------- refused with words
def test_bad_arguments(net: Net, face: CanonicalFace, faces: FaceMesh, x: Tensor) -> None:
    """And before the wrapped method has run for an hour."""
    calls = []
    projector = CanonicalProjector(Saliency(lambda z: calls.append(1) or net(z)), faces, face)
    with pytest.raises(CanonicalError, match=r"reduce.*median"):
        projector.attribute(x, target=1, reduce="median")
    with pytest.raises(AlignmentError, match="2 meshes for 3 images"):
        projector.attribute(torch.randn(3, 3, *SIZE), target=1)
    with pytest.raises(AlignmentError, match="cropped"):
        projector.attribute(torch.randn(2, 3, 48, 56), target=1)
    with pytest.raises(AlignmentError, match="topology"):
        projector.attribute(x, target=1, faces=replace(faces, topology="other"))
    assert not calls
    with pytest.raises(CanonicalError, match="no faces"):
        CanonicalProjector(Saliency(net)).attribute(x, target=1)
    with pytest.raises(CanonicalError, match="project"):
        CanonicalProjector(None, faces).attribute(x)


@pytest.mark.parametrize("shape", [(5,), (3, 1, *SIZE), (3, *SIZE), (2, 1, 1, *SIZE)])
def test_maps_that_do_not_fit(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    with pytest.raises(CanonicalError, match="2 images"):
        CanonicalProjector(None, faces, face).project(torch.randn(shape))


@pytest.mark.parametrize("shape", [(40, 40), (3, 1, 40, 40), (1, 1, 41, 40), (1, 40, 40)])
def test_canonical_maps_that_do_not_fit(face: CanonicalFace, faces: FaceMesh, shape: tuple[int, ...]) -> None:
    with pytest.raises(CanonicalError, match=r"1 or 2, C, 40, 40"):
        CanonicalProjector(None, faces, face).reproject(torch.randn(shape))


def test_no_mesh_to_project_with(face: CanonicalFace, faces: FaceMesh) -> None:
    for projector in (CanonicalProjector(None), CanonicalProjector(None, lambda images: faces, face)):
        with pytest.raises(CanonicalError, match="faces"):
            projector.project(torch.zeros(2, *SIZE))
        with pytest.raises(CanonicalError, match="faces"):
            projector.reproject(torch.zeros(1, 1, 40, 40))


def test_a_face_without_a_surface_is_refused() -> None:
    """Points on one line span no triangles: patches can be splatted there, but no map can be carried through."""
    line = CanonicalFace.from_vertices(torch.zeros(3, 8, 8), torch.tensor([[1.0, 1], [2, 2], [5, 5]]))
    assert len(line.triangles) == 0
    projector = CanonicalProjector(None, FaceMesh(line.vertices[None], image_size=(8, 8)), line)
    with pytest.raises(CanonicalError, match="triangles"):
        projector.project(torch.zeros(8, 8))
    with pytest.raises(CanonicalError, match="triangles"):
        projector.reproject(torch.zeros(1, 1, 8, 8))


def test_no_rows_give_no_maps(face: CanonicalFace, faces: FaceMesh) -> None:
    nobody = CanonicalProjector(None, faces[[]], face)
    assert nobody.project(torch.zeros(0, 1, *SIZE)).shape == (0, 1, 40, 40)
    assert nobody.reproject(torch.zeros(1, 1, 40, 40)).shape == (0, 1, *SIZE)
