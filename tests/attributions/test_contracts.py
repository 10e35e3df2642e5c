"""What every attribution class of the package must do, as data: a new class is tested by one line in ``make``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch
from captum.attr import Attribution, LayerGradCam, NoiseTunnel, Saliency
from torch import Tensor, nn
from torch.testing import assert_close

import captum_canonical
from captum_canonical import CanonicalFace, FaceMesh, attributions
from captum_canonical.attributions.base import CanonicalAttribution

SIZE = (32, 32)
NAMES = sorted(attributions.__all__)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 4, 5, stride=3)
        self.head = nn.Linear(4 * 100, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ZeroDivisionError("of the network")
        return self.head(self.conv(x).relu().flatten(1))


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def face() -> CanonicalFace:
    return CanonicalFace.default(24)


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    vertices = face.resized(SIZE).vertices[None].repeat(2, 1, 1)
    vertices[1, :, 0] += 5
    return FaceMesh(vertices, image_size=SIZE, topology=face.topology)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, *SIZE)


def make(name: str, net: Net, faces: FaceMesh, face: CanonicalFace) -> Attribution:
    """An object of the class, ready for ``attribute(x, target=...)``."""
    cls = getattr(attributions, name)
    if name == "CanonicalProjector":
        return cls(Saliency(net), faces, face)
    if "layer" in inspect.signature(cls).parameters:
        return cls(net, net.conv)
    return cls(net, faces, face)


def writes_canonical_maps(method: Attribution) -> bool:
    return isinstance(method, CanonicalAttribution)


pytestmark = [
    pytest.mark.parametrize("name", NAMES),
    pytest.mark.filterwarnings("ignore:.*(hooks|requires_grad|required_grads).*"),
]


def test_is_an_attribution_of_captum(name: str) -> None:
    assert issubclass(getattr(attributions, name), Attribution)
    assert getattr(captum_canonical, name) is getattr(attributions, name)


def test_takes_captums_keywords(name: str) -> None:
    """``inputs`` first, by position; then keywords under Captum's names; nothing else is required."""
    parameters = inspect.signature(getattr(attributions, name).attribute).parameters
    ordered = list(parameters.values())[1:]
    assert ordered[0].name == "inputs"
    assert all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in ordered[1:]), (
        "no argument but inputs is required"
    )
    if name == "CanonicalProjector":
        assert any(p.kind == p.VAR_KEYWORD for p in ordered), "the wrapped method's own keywords pass through"
    elif name == "CanonicalOcclusion":
        assert ordered[1].name == "target"
        for keyword in ("baselines", "additional_forward_args", "perturbations_per_eval", "show_progress"):
            assert parameters[keyword].kind == inspect.Parameter.KEYWORD_ONLY
    else:  # the CAM classes: as captum.attr.LayerGradCam, so that the swap is the class name
        expected = list(inspect.signature(LayerGradCam.attribute).parameters)[1:4]
        assert [p.name for p in ordered[:3]] == expected


def test_attribute_is_decorated_as_captums(name: str) -> None:
    """NoiseTunnel, Occlusion and GuidedGradCam call ``attribute.__wrapped__``."""
    assert callable(getattr(attributions, name).attribute.__wrapped__)


def test_name_reads_well(name: str, net: Net, faces: FaceMesh, face: CanonicalFace) -> None:
    shown = make(name, net, faces, face).get_name()
    assert shown == re.sub(r"(?<!^)(?=[A-Z])", " ", name)
    assert not re.search(r"\b[A-Z] [A-Z]\b", shown), "capitals in a row would be spelt out: Cam, not CAM"


def test_attribute_future_is_refused_as_captum_refuses(
    name: str, net: Net, faces: FaceMesh, face: CanonicalFace
) -> None:
    method = make(name, net, faces, face)
    assert "attribute_future" in dir(type(method))
    with pytest.raises(NotImplementedError, match=name):
        method.attribute_future()


def test_maps(name: str, net: Net, faces: FaceMesh, face: CanonicalFace, x: Tensor) -> None:
    method = make(name, net, faces, face)
    before = x.clone()
    maps = method.attribute(x, target=torch.tensor([0, 2]))
    assert len(maps) == 2
    assert not maps.requires_grad
    assert maps.is_contiguous()
    assert maps.isfinite().all()
    assert maps.abs().max() > 0
    assert torch.equal(x, before)
    if writes_canonical_maps(method):
        assert maps.shape == (2, 1, *face.size)
    for row, target in enumerate((0, 2)):
        keywords = {"faces": faces[row]} if writes_canonical_maps(method) else {}
        alone = method.attribute(x[row : row + 1], target=target, **keywords)
        assert_close(maps[row : row + 1], alone, atol=1e-5, rtol=1e-4)


def test_inside_noise_tunnel(name: str, net: Net, faces: FaceMesh, face: CanonicalFace, x: Tensor) -> None:
    method = make(name, net, faces, face)
    target = torch.tensor([0, 2])
    expected = method.attribute(x, target=target)
    for kind in ("smoothgrad", "vargrad"):
        result = NoiseTunnel(method).attribute(x, target=target, nt_type=kind, nt_samples=3, stdevs=1e-9)
        assert_close(result, expected if kind == "smoothgrad" else torch.zeros_like(expected), atol=1e-4, rtol=1e-3)


def test_wrappers_can_ask_for_its_flags(name: str, net: Net, faces: FaceMesh, face: CanonicalFace) -> None:
    method = make(name, net, faces, face)
    assert method.has_convergence_delta() in (True, False)
    assert NoiseTunnel(method).get_name() == "Noise Tunnel"
    assert method.forward_func is net


def hooks(net: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in net.modules() for kind in kinds)


def wrong_target(method: Attribution, x: Tensor) -> object:
    return method.attribute(x, target=77)


def failing_network(method: Attribution, x: Tensor) -> object:
    return method.attribute(x * float("nan"), target=0)


def wrong_argument(method: Attribution, x: Tensor) -> object:
    return method.attribute(x, target=0, no_such_argument=1)


@pytest.mark.parametrize("fail", [wrong_target, failing_network, wrong_argument])
def test_nothing_is_left_behind(
    name: str,
    net: Net,
    faces: FaceMesh,
    face: CanonicalFace,
    x: Tensor,
    fail: Callable[[Attribution, Tensor], object],
) -> None:
    """No hook, no other mode, no gradient, no other random state, after success and after an error."""
    method = make(name, net, faces, face)
    net.conv.weight.requires_grad_(False)
    states = [parameter.requires_grad for parameter in net.parameters()]
    random_state = torch.get_rng_state()

    def check() -> None:
        assert hooks(net) == 0
        assert [module.training for module in net.modules()] == [False, False, False]
        assert [parameter.requires_grad for parameter in net.parameters()] == states
        assert all(parameter.grad is None for parameter in net.parameters())
        assert torch.equal(torch.get_rng_state(), random_state)
        assert torch.is_grad_enabled()
        assert x.grad is None
        assert not x.requires_grad

    method.attribute(x, target=0)
    check()
    with pytest.raises((ZeroDivisionError, ValueError, AssertionError, IndexError, TypeError, RuntimeError)):
        fail(method, x)
    check()
