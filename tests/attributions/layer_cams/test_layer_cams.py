"""What Grad-CAM++ and Score-CAM have in common: targets, options, types and the canonical face."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution, NoiseTunnel
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import CanonicalError, CanonicalFace, CanonicalProjector, ClassConfidence, FaceMesh
from captum_canonical.attributions import grad_cam_plus_plus, score_cam
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.score_cam import LayerScoreCam
from layer_cam_tools import LAYER_METHODS, METHODS, Grid, Net, Pair, TupleNet, plus_plus, same, scored, slow
from oracles import rolled

pytestmark = pytest.mark.filterwarnings("ignore:(Setting backward hooks on ReLU|Input Tensor 0 did not already)")


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize(
    ("target", "each"),
    [
        (2, [2, 2, 2]),
        (-1, [3, 3, 3]),
        (torch.tensor(1), [1, 1, 1]),
        (torch.tensor([1]), [1, 1, 1]),
        (torch.tensor([3, 0, 1]), [3, 0, 1]),
        ([3, 0, 1], [3, 0, 1]),
        ((2,), [2, 2, 2]),
        ([(3,), (0,), (1,)], [3, 0, 1]),
    ],
    ids=repr,
)
def test_targets(method: type, net: Net, x: Tensor, target: Any, each: list[int]) -> None:
    same(method(net, net.relu).attribute(x, target), slow(method, net, x, each))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_targets_of_a_grid_and_of_single_scores(method: type, net: Net, x: Tensor) -> None:
    grid = method(Grid(net), net.relu)
    same(grid.attribute(x, target=(1, 0)), slow(method, net, x, [2, 2, 2]))
    same(grid.attribute(x, target=[(1, 1), (0, 0), (0, 1)]), slow(method, net, x, [3, 0, 1]))
    for single in (lambda p: net(p)[:, 2], lambda p: net(p)[:, 2:3]):
        same(method(single, net.relu).attribute(x), slow(method, net, x, [2, 2, 2]))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_additional_arguments(method: type, net: Net, x: Tensor) -> None:
    scale = torch.tensor([0.5, 2.0, 3.0])
    result = method(net, net.relu).attribute(x, 1, (scale, 2))
    for row in range(3):
        expected = slow(method, net, x[row : row + 1], [1], scale=float(scale[row]), power=2)
        same(result[row : row + 1], expected)
    same(method(net, net.relu).attribute(x, 1, 2.0), slow(method, net, x, [1, 1, 1], scale=2.0))


@pytest.mark.parametrize("method", METHODS)
def test_images_do_not_know_each_other(method: type, net: Net, x: Tensor) -> None:
    target = torch.tensor([3, 0, 1])
    scale = torch.tensor([0.5, 2.0, 3.0])
    together = method(net, net.relu).attribute(x, target, scale)
    order = torch.tensor([2, 0, 1])
    assert_close(method(net, net.relu).attribute(x[order], target[order], scale[order]), together[order])
    for row in range(3):
        alone = method(net, net.relu).attribute(x[row : row + 1], int(target[row]), scale[row : row + 1])
        assert_close(alone, together[row : row + 1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_options_act_on_the_same_map(method: type, net: Net, x: Tensor) -> None:
    net.head.weight.data[1] -= 0.1  # so that the map has both signs
    cam = method(net, net.conv)
    plain = cam.attribute(x, 1)
    assert plain.min() < 0 < plain.max()
    assert_close(cam.attribute(x, 1, relu_attributions=True), plain.clamp(min=0))
    channels = cam.attribute(x, 1, attr_dim_summation=False)
    assert channels.shape == (3, 5, 6, 5)
    assert_close(channels.sum(1, keepdim=True), plain)
    assert_close(cam.attribute(x, 1, None, False, True, False), channels.clamp(min=0))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_the_input_of_a_layer_is_the_output_of_the_one_before(method: type, net: Net, x: Tensor) -> None:
    result = method(net, net.relu).attribute(x, 1, attribute_to_layer_input=True)
    assert_close(result, method(net, net.conv).attribute(x, 1))
    same(method(net, net.pool).attribute(x, 1, attribute_to_layer_input=True), slow(method, net, x, [1, 1, 1]))


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_layers_with_two_tensors(method: type, x: Tensor) -> None:
    net = TupleNet().eval()
    first, second = method(net, net.layer).attribute(x, 1)
    assert first.shape == second.shape == (3, 1, 6, 5)
    for row, photo in enumerate(x):
        a, b = (part.detach()[0] for part in net.layer(photo[None]))
        if method is LayerGradCamPlusPlus:
            net.double()
            same(first[row, 0], plus_plus(a, lambda p, b=b: net.upper(p, b[None].double())[0, 1]))
            same(second[row, 0], plus_plus(b, lambda p, a=a: net.upper(a[None].double(), p)[0, 1]), atol=1e-4)
            net.float()
        else:
            for part, channels in ((first, a), (second, b)):
                score = lambda p: net(p)[0, 1]  # noqa: E731
                same(part[row, 0], scored((photo,), channels, score, "increase", (0 * photo,)), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_wrappers_of_the_package_and_of_captum(method: type, net: Net, x: Tensor) -> None:
    confidence = ClassConfidence(net, link="log_odds")
    wrapped = method(confidence, net.relu).attribute(x, 1)
    assert wrapped.abs().max() > 0
    same(wrapped, method(nn.DataParallel(confidence), net.relu, device_ids=[0]).attribute(x, 1))
    noisy = NoiseTunnel(method(confidence, net.relu)).attribute(
        x, target=torch.tensor([1, 1, 1]), nt_samples=2, stdevs=1e-9
    )
    assert_close(noisy, wrapped, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_device_ids_reach_captum(method: type, net: Net, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    module, name = {
        LayerGradCamPlusPlus: (grad_cam_plus_plus, "_GradientsAndActivations"),
        LayerScoreCam: (score_cam, "LayerActivation"),
    }[method]
    base = getattr(module, name)

    class Spy(base):
        def __init__(self, *args: Any) -> None:
            given.extend(args[2])
            super().__init__(*args)

    monkeypatch.setattr(module, name, Spy)
    method(net, net.relu, device_ids=[1, 0]).attribute(x, 1)
    assert given == [1, 0]


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types(method: type, net: Net, x: Tensor, dtype: torch.dtype) -> None:
    result = method(net.to(dtype), net.relu).attribute(x.to(dtype), 1)
    assert result.dtype == torch.promote_types(dtype, torch.float32)
    exact = method(net.double(), net.relu).attribute(x.to(dtype).double(), 1)
    assert F.cosine_similarity(result.double().flatten(1), exact.flatten(1)).min() > 0.99


@pytest.mark.parametrize(("conv", "size"), [(nn.Conv1d, (12,)), (nn.Conv3d, (6, 5, 4))])
@pytest.mark.parametrize("method", METHODS)
def test_layers_of_other_dimensions(method: type, conv: Any, size: tuple[int, ...]) -> None:
    net = nn.Sequential(conv(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).eval()
    x = torch.randn(2, 2, *size)
    net(x)
    result = method(net, net[1]).attribute(x, 1)
    inside = tuple(length - 2 for length in size)
    assert result.shape == ((2, 1, *inside) if method is not GuidedGradCamPlusPlus else x.shape)
    assert result.isfinite().all()
    assert result.any()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(40)


@pytest.mark.parametrize("method", METHODS)
def test_inside_the_projector(method: type, face: CanonicalFace) -> None:
    """The canonical map is the projected map, whatever wraps what; a second input without a face is left out."""
    pair = Pair().eval()
    pair.head = nn.LazyLinear(4).eval()
    vertices = torch.stack([rolled(face.vertices, 10, 0.9, (24.0, 26.0)), rolled(face.vertices, -5, 1.0, (22.0, 30.0))])
    faces = FaceMesh(vertices, image_size=(56, 48), topology=face.topology)
    inputs = (torch.rand(2, 3, 56, 48), torch.rand(2, 3, 56, 48), torch.rand(2, 2))
    pair(*inputs)
    cam = method(pair, pair.both)
    projector = CanonicalProjector(cam, (faces, None, None), face)
    (result,) = projector.attribute(inputs, target=torch.tensor([1, 3]))
    maps = cam.attribute(inputs, torch.tensor([1, 3]))
    expected = CanonicalProjector(None, faces, face).project(maps if isinstance(maps, Tensor) else maps[0])
    assert result.shape == (2, 1, 40, 40)
    assert result.any()
    assert_close(result, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_cue_on_the_face_is_found_there(method: type, face: CanonicalFace) -> None:
    """A network that looks for red, faces with one red spot on the left side of the image: the map peaks there."""
    size, spot = (56, 48), 61  # a vertex at a corner of the mouth
    net = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 14 * 12, 2))
    net[0].weight.data.zero_()
    net[0].weight.data[0, 0] = 1.0
    net[0].weight.data[1, 1] = 1.0
    net[3].weight.data[:] = torch.cat([torch.full((168,), 0.1), torch.full((168,), -0.1)])
    vertices = torch.stack([rolled(face.vertices, 0, 1.1, (24.0, 27.0)), rolled(face.vertices, 25, 0.9, (20.0, 33.0))])
    x = torch.zeros(2, 3, *size)
    x[:, 1] = 0.2
    for photo, corners in zip(x, vertices, strict=True):
        column, row = (int(value) for value in corners[spot, :2])
        photo[0, row - 2 : row + 3, column - 2 : column + 3] = 1.0
    faces = FaceMesh(vertices, image_size=size, topology=face.topology)
    maps = CanonicalProjector(method(net.eval(), net[1]), faces, face).attribute(x, target=0)
    for row in maps[:, 0]:
        y, column = divmod(int(row.argmax()), 40)
        place = face.vertices[spot, :2]
        assert math.hypot(column + 0.5 - float(place[0]), y + 0.5 - float(place[1])) < 5


def test_upsampling_as_captum_does_it(net: Net, x: Tensor) -> None:
    """What stands in the example of the class."""
    maps = LayerGradCamPlusPlus(net, net.relu).attribute(x, 1)
    assert LayerAttribution.interpolate(maps, (11, 9), "bilinear").shape == (3, 1, 11, 9)


def test_layers_may_be_named() -> None:
    net, x = Net().eval(), torch.rand(2, 3, 11, 9, generator=torch.Generator().manual_seed(1))
    for method in METHODS:
        assert_close(method(net, "relu").attribute(x, target=1), method(net, net.relu).attribute(x, target=1))
        for layer, problem in {
            "rely": "no module 'rely'; it has relu",
            "": "no module ''",
            (net.relu, net.conv): "one module of the network, or its name, got tuple",
        }.items():
            with pytest.raises(CanonicalError, match=problem):
                method(net, layer)
        with pytest.raises(CanonicalError, match="pass one batch at a time"):
            method(net, "relu").attribute(torch.utils.data.DataLoader(x), target=1)
    with pytest.raises(CanonicalError, match="pass the module itself"):
        METHODS[0](lambda y: net(y), "relu")
