"""CanonicalOcclusion's maps do not depend on how the scores are found."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from captum_canonical import (
    CanonicalError,
    CanonicalFace,
    CanonicalOcclusion,
    ClassConfidence,
    FaceMesh,
    RegressionConfidence,
    VerificationConfidence,
)
from captum_canonical.inference.costs import VARIABLE
from captum_canonical.inference.dense import DenseInference
from captum_canonical.inference.engine import IncrementalInference

pytestmark = pytest.mark.usefixtures("only_arithmetic_costs")
SIZE = (64, 48)


def small_net(outputs: int) -> nn.Sequential:
    torch.manual_seed(outputs)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, outputs)).eval().double()


@pytest.fixture(scope="module")
def faces() -> FaceMesh:
    face = CanonicalFace.default()
    mesh = FaceMesh(face.resized(SIZE).vertices[None], image_size=SIZE, topology=face.topology)
    return FaceMesh.cat([mesh, mesh, mesh])


@pytest.fixture(scope="module")
def photos() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 3, *SIZE).double()


class Spied(CanonicalOcclusion):
    """Remembers which inference it was given."""

    def _begin(self, *args: object, **kwargs: object) -> object:
        call = super()._begin(*args, **kwargs)
        self.engine = type(call.drops._engine)
        return call


def compare(
    forward: Callable[..., Tensor],
    faces: object,
    inputs: object,
    used: type = IncrementalInference,
    **arguments: object,
) -> None:
    """Under "auto" the given engine is used, and the map is the dense one."""
    arguments = {"patch_size": 5, "num_points": 96} | arguments
    expected = CanonicalOcclusion(forward, faces, inference="dense").attribute(inputs, **arguments)
    method = Spied(forward, faces)
    maps = method.attribute(inputs, **arguments)
    assert method.engine is used
    if isinstance(expected, Tensor):
        maps, expected = (maps,), (expected,)
    for got, wanted in zip(maps, expected, strict=True):
        assert_close(got, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))


@pytest.mark.parametrize("per_eval", [None, 1, 7])
@pytest.mark.parametrize("target", [2, torch.tensor([0, 3, 1]), [(1,), (0,), (3,)]])
def test_targets_and_batches(faces: FaceMesh, photos: Tensor, target: object, per_eval: int | None) -> None:
    compare(small_net(4), faces, photos, target=target, perturbations_per_eval=per_eval)


@pytest.mark.parametrize("fill", [0.5, torch.rand(3, 1, 1).double(), torch.rand(3, 3, *SIZE).double()])
def test_fills(faces: FaceMesh, photos: Tensor, fill: object) -> None:
    compare(small_net(4), faces, photos, target=1, baselines=fill)


@pytest.mark.parametrize("space", ["canonical", "image"])
def test_spaces(faces: FaceMesh, photos: Tensor, space: str) -> None:
    compare(small_net(4), faces, photos, target=1, space=space)


def test_layouts_in_memory(faces: FaceMesh, photos: Tensor) -> None:
    net = small_net(4)
    compare(net, faces, photos.contiguous(memory_format=torch.channels_last), target=1)
    strided = torch.rand(3, 3, SIZE[0], 2 * SIZE[1]).double()[..., ::2]
    compare(net, faces, strided, target=1)
    compare(net, faces, photos[:1].expand(3, -1, -1, -1), target=1)
    compare(net.to(memory_format=torch.channels_last), faces, photos, target=1)


def test_confidences(faces: FaceMesh, photos: Tensor) -> None:
    compare(ClassConfidence(small_net(4), link="log_odds"), faces, photos, target=1)
    compare(
        RegressionConfidence(small_net(1)),
        faces,
        photos,
        additional_forward_args=torch.tensor([1.0, 2.0, 3.0]).double(),
    )
    compare(nn.Sequential(nn.Identity(), small_net(4), nn.Softmax(1)).eval(), faces, photos, target=1)


def test_pairs(faces: FaceMesh, photos: Tensor) -> None:
    confidence = VerificationConfidence(small_net(8))
    compare(confidence, (faces, faces), (photos, photos.flip(3)), additional_forward_args=True)
    same = torch.tensor([True, False, True])
    compare(confidence, (faces, None), (photos, photos.flip(3)), additional_forward_args=same)
    compare(confidence, (None, faces), (photos, photos.flip(3)), additional_forward_args=same)


def test_single_precision(faces: FaceMesh, photos: Tensor) -> None:
    """Drops are small differences of scores, and rounding is that of the scores."""
    net, arguments = small_net(4).float(), {"target": 1, "patch_size": 5}
    maps = CanonicalOcclusion(net, faces, inference="incremental").attribute(photos.float(), **arguments)
    expected = CanonicalOcclusion(net, faces, inference="dense").attribute(photos.float(), **arguments)
    assert_close(maps, expected, rtol=0, atol=1e-6 * float(net(photos.float()).abs().max()))


def test_a_black_box_is_run_densely(faces: FaceMesh, photos: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    net = small_net(4)
    with caplog.at_level(logging.INFO, "captum_canonical"):
        compare(lambda x: net(x), faces, photos, used=DenseInference, target=1)
    told = [record.message for record in caplog.records]
    assert told == ["inference is dense: function is not a torch.nn.Module, so it cannot be traced."]
    with pytest.raises(CanonicalError, match=r"function is not a torch\.nn\.Module"):
        CanonicalOcclusion(lambda x: net(x), faces, inference="incremental").attribute(photos, target=1)


class MixesRows(nn.Module):
    """Has no score of an image on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net(4)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return scores - scores.mean(0)


def test_a_network_that_mixes_rows_is_never_run_on_windows(faces: FaceMesh, photos: Tensor) -> None:
    method = Spied(MixesRows(), faces)
    method.attribute(photos, target=1, patch_size=5)
    assert method.engine is DenseInference
    with pytest.raises(CanonicalError, match='inference="incremental" is not possible: patches run'):
        CanonicalOcclusion(MixesRows(), faces, inference="incremental").attribute(photos, target=1, patch_size=5)


def test_half_precision_is_dense_unless_asked_for(faces: FaceMesh, photos: Tensor) -> None:
    net, half = small_net(4).bfloat16(), photos.bfloat16()
    compare(net, faces, half, used=DenseInference, target=1)
    asked = Spied(net, faces, inference="incremental")
    maps = asked.attribute(half, target=1, patch_size=5, num_points=96)
    assert asked.engine is IncrementalInference
    dense = CanonicalOcclusion(net, faces, inference="dense").attribute(half, target=1, patch_size=5, num_points=96)
    assert float(torch.corrcoef(torch.stack([maps.flatten(), dense.flatten()]))[0, 1]) > 0.5


def test_an_unknown_inference(faces: FaceMesh, photos: Tensor) -> None:
    with pytest.raises(CanonicalError, match="'auto', 'incremental' or 'dense', got 'fast'"):
        CanonicalOcclusion(small_net(4), faces, inference="fast").attribute(photos, target=1)


@pytest.mark.parametrize("inference", ["auto", "incremental"])
def test_wrong_targets_are_said_to_be_wrong(faces: FaceMesh, photos: Tensor, inference: str) -> None:
    with pytest.raises(CanonicalError, match=r"^target is out of range: 9"):
        CanonicalOcclusion(small_net(4), faces, inference=inference).attribute(photos, target=9)


def test_the_network_and_the_photos_are_left_as_they_were(faces: FaceMesh, photos: Tensor) -> None:
    net = small_net(4)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before, random = photos.clone(), torch.get_rng_state()
    CanonicalOcclusion(net, faces).attribute(photos, target=1, patch_size=5)
    torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)
    assert_close(photos, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module.training for module in net.modules())
    assert [m.inplace for m in net if isinstance(m, nn.ReLU)] == [True, True]


def test_dense_batches_lie_in_memory_as_the_photos_do(faces: FaceMesh, photos: Tensor) -> None:
    seen = []

    def forward(x: Tensor) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return x.mean((1, 2, 3))

    CanonicalOcclusion(forward, faces).attribute(photos, num_points=16)
    assert not any(seen)
    seen.clear()
    CanonicalOcclusion(forward, faces).attribute(photos.contiguous(memory_format=torch.channels_last), num_points=16)
    assert all(seen)


class Viewed(nn.Module):
    """A network whose last maps must lie in memory as they usually do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2), nn.Linear(4 * 31 * 23, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(x.size(0), -1))


@pytest.mark.parametrize(("net", "turned"), [(small_net(4), True), (Viewed().eval().double(), False)])
def test_where_windows_gain_nothing_channels_lie_last(
    faces: FaceMesh,
    photos: Tensor,
    net: nn.Module,
    turned: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE)  # by what operators really cost
    arguments = {"target": 1, "patch_size": 63, "num_points": 256}
    method = CanonicalOcclusion(net, faces)
    with caplog.at_level(logging.INFO, "captum_canonical"):
        call = method._begin(photos, 1, 256, patch_size=63)
    assert "times less expected time gains nothing" in caplog.text
    engine = call.drops._engine
    assert isinstance(engine, DenseInference)
    assert engine.inputs[0].is_contiguous(memory_format=torch.channels_last) == turned
    expected = CanonicalOcclusion(net, faces, inference="dense").attribute(photos, **arguments)
    assert_close(method.attribute(photos, **arguments), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
