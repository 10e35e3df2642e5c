"""Any attribution is run in the same way."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam, NoiseTunnel, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical.attributions.base import as_tuple, networks_of, on_face, run_attribution
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh

FACE = CanonicalFace.default(16)
MESH = FaceMesh(FACE.vertices[None].float(), image_size=(16, 16), topology=FACE.topology)
IMAGES = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 2)).eval()


def test_canonical_methods_get_the_faces_and_give_coverage() -> None:
    for method in (
        CanonicalOcclusion(network(), canonical_face=FACE),
        CanonicalProjector(Saliency(network()), canonical_face=FACE),
    ):
        expected = method.attribute(IMAGES, target=1, faces=MESH, return_coverage=True)
        found = run_attribution(method, IMAGES, {"target": 1}, MESH)
        assert_close(tuple(found), expected)


def test_canonical_methods_inside_others_get_the_faces() -> None:
    method = NoiseTunnel(CanonicalOcclusion(network(), canonical_face=FACE))
    maps, coverage = run_attribution(method, IMAGES, {"target": 1, "nt_samples": 1, "num_points": 4}, MESH)
    assert maps.shape == (1, 1, 16, 16) and coverage is None


def test_other_methods_and_functions_get_no_faces() -> None:
    net = network()
    for method, channels in ((Saliency(net), 3), (LayerGradCam(net, net[0]), 1)):
        maps, coverage = run_attribution(method, IMAGES, {"target": 1}, MESH)
        assert_close(maps, method.attribute(IMAGES, target=1))
        assert coverage is None and maps.shape[1] == channels
    assert_close(run_attribution(lambda scale: (scale * IMAGES,), None, {"scale": 2}).maps, 2 * IMAGES)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (torch.rand(1, 5), r"\(1, 5\)"),
        ((IMAGES, IMAGES), "tuple"),
        (None, "NoneType"),
        (IMAGES[:0], r"\(0, 3, 16, 16\)"),
    ],
)
def test_anything_but_maps_is_refused(result: object, got: str) -> None:
    def method(_: torch.Tensor) -> object:
        return result

    with pytest.raises(CanonicalError, match=rf"^method: expected maps of shape \(N, C, H, W\).*got {got};"):
        run_attribution(method, IMAGES, {})


def test_a_canonical_face_is_given_to_a_copy() -> None:
    without, own = CanonicalOcclusion(network()), CanonicalOcclusion(network(), canonical_face=CanonicalFace.default(8))
    given = on_face(without, FACE)
    assert given.canonical_face is FACE and without.canonical_face is None  # type: ignore[attr-defined]
    assert on_face(own, FACE) is own
    saliency = Saliency(network())
    assert on_face(saliency, FACE) is saliency


def test_networks_and_layers_of_methods_inside_others() -> None:
    net = network()
    method = CanonicalProjector(NoiseTunnel(LayerGradCam(net, net[0])))
    assert {id(part) for part in networks_of(method)} == {id(net), id(net[0])}
    assert networks_of(Saliency(lambda x: x)) == []


@pytest.mark.parametrize("wrong", [torch.rand(1, 3, 4, 4) + 0j, torch.rand(1, 3, 4, 4).to_sparse()])
def test_complex_and_sparse_images_are_an_error(wrong: Tensor) -> None:
    with pytest.raises(CanonicalError, match="expected real tensors with values"):
        as_tuple(wrong)
