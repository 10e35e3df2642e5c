"""Captum's methods inside CanonicalProjector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum.attr import (
    Attribution,
    DeepLift,
    FeatureAblation,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    LayerActivation,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from captum.metrics import sensitivity_max
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    CanonicalProjector,
    FaceMesh,
)
from projector_tools import SIZE, Net

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
