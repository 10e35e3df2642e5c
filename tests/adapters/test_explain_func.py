"""Methods as functions that Quantus calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, NoiseTunnel, Saliency
from torch import Tensor

from captum_canonical import (
    AlignmentError,
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    CanonicalProjector,
    ClassConfidence,
    FaceMesh,
)
from captum_canonical.adapters.explain_func import as_explain_func
from captum_canonical.adapters.external import ExternalAttribution
from interop_tools import SIDE, FeatureNet, brightness


def test_canonical_maps_are_reprojected_whatever_the_batch(
    net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    method = CanonicalOcclusion(net, canonical_face=face)
    labels = np.array([0, 2, 1, 1])
    maps = method.attribute(photos, target=torch.as_tensor(labels), faces=faces, num_points=60)
    want = CanonicalProjector(None, canonical_face=face).reproject(maps, faces).numpy()
    explain_func = as_explain_func(method, faces, photos, num_points=60)
    got = explain_func(model=net, inputs=photos.numpy(), targets=labels, device="cpu")
    np.testing.assert_array_equal(got, want)
    assert got.shape == (4, 1, SIDE, SIDE) and got.dtype == np.float32 and np.abs(got).max() > 0
    for rows in ([3], [2, 0], [1, 1, 3]):
        got = explain_func(net, photos.numpy()[rows].astype(np.float64), labels[rows])
        np.testing.assert_allclose(got, want[rows], atol=1e-6)


def test_other_methods_are_reduced_and_brought_to_the_image(net: FeatureNet, photos: Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    gradients = Saliency(net).attribute(photos.clone().requires_grad_(), target=labels, abs=False)
    explain_func = as_explain_func(Saliency, abs=False)
    got = explain_func(net, photos.numpy(), labels.numpy())
    np.testing.assert_allclose(got, gradients.sum(1, keepdim=True).numpy(), atol=1e-6)
    got = explain_func(net, photos.numpy(), labels.numpy(), reduce="max")  # as explain_func_kwargs
    np.testing.assert_allclose(got, gradients.amax(1, keepdim=True).numpy(), atol=1e-6)
    named = explain_func(net, photos.numpy(), labels.numpy(), method="Saliency")  # as quantus.evaluate does
    np.testing.assert_array_equal(named, explain_func(net, photos.numpy(), labels.numpy()))
    coarse = LayerGradCam(net, net.features).attribute(photos, labels)
    want = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False).detach().numpy()
    got = as_explain_func(lambda model: LayerGradCam(model, model.features))(net, photos.numpy(), labels.numpy())
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_an_aligner_is_asked_about_the_images_of_each_call(
    net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    asked = []

    def aligner(x: Tensor) -> FaceMesh:
        asked.append(len(x))
        return faces[[0] * len(x)]

    explain_func = as_explain_func(CanonicalProjector(Saliency(net), aligner, face))
    assert explain_func(net, photos.numpy(), np.zeros(4, int)).shape == (4, 1, SIDE, SIDE)
    twice = as_explain_func(CanonicalProjector(Saliency(net), None, face), lambda x: faces[[0, 1]])
    with pytest.raises(AlignmentError, match="one mesh for each of the 4 images, got 2"):
        twice(net, photos.numpy(), np.zeros(4, int))
    assert asked == [4]


def test_nothing_is_explained_with_the_faces_of_others(
    net: FeatureNet, face: CanonicalFace, faces: FaceMesh, photos: Tensor
) -> None:
    method = CanonicalOcclusion(net, faces, face)
    with pytest.raises(CanonicalError, match="give an aligner, or meshes together with the images"):
        as_explain_func(method)
    with pytest.raises(CanonicalError, match="4 meshes belong to, got none"):
        as_explain_func(method, faces)
    with pytest.raises(CanonicalError, match="4 meshes belong to, got 3"):
        as_explain_func(method, faces, photos[:3])
    with pytest.raises(CanonicalError, match="0 and 1 are equal"):
        as_explain_func(method, faces, photos[[0, 0, 1, 2]])
    with pytest.raises(CanonicalError, match="Saliency needs none"):
        as_explain_func(Saliency(net), faces, photos)
    with pytest.raises(AlignmentError, match=r"images \[1\] of this call are not among"):
        as_explain_func(method, faces, photos)(net, np.stack([photos[2], photos[0] + 0.01]), np.zeros(2, int))


def test_nothing_is_explained_with_another_network(net: FeatureNet, photos: Tensor) -> None:
    labels, other = np.zeros(4, int), FeatureNet().eval()
    same = as_explain_func(Saliency(ClassConfidence(net)))
    assert same(net, photos.numpy(), labels).shape == (4, 1, SIDE, SIDE)
    for method in (
        Saliency(net),
        Saliency(ClassConfidence(net)),
        Saliency(lambda x: net(x)),
        NoiseTunnel(Saliency(net)),
        lambda model: Saliency(net),
        lambda model: LayerGradCam(model, net.features),
        lambda model: CanonicalProjector(LayerGradCam(model, net.features), lambda x: None),
    ):
        with pytest.raises(CanonicalError, match="another network than the one that the metric gives"):
            as_explain_func(method)(other, photos.numpy(), labels)
    with pytest.raises(CanonicalError, match="expected a Captum attribution, got FeatureNet"):
        as_explain_func(lambda model: model)(net, photos.numpy(), labels)
    with pytest.raises(CanonicalError, match="leave out return_coverage"):
        same(net, photos.numpy(), labels, return_coverage=True)
    with pytest.raises(CanonicalError, match="NaN or infinity"):
        broken = ExternalAttribution(brightness, "raw", net)
        broken.explain, broken.attribute = None, lambda x, **more: x * torch.nan  # type: ignore[method-assign]
        as_explain_func(broken)(net, photos.numpy(), labels)
