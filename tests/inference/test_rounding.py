"""How much of a map half precision makes: measured, said once, and kept with a run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.faithfulness.fills import fill_pixels
from captum_canonical.inference.rounding import Rounding, rounding_text
from captum_canonical.inference.scorer import Scorer
from face_tools import mesh_of, noise
from run_tools import Network, explain, photographs
from small_networks import LinearNet, SmallNet

FACE = cc.CanonicalFace.default(32)
FACES = mesh_of(FACE, 2)


def occlusion(net: Callable[..., Tensor], images: Tensor) -> tuple[Tensor, list[str]]:
    method = cc.CanonicalOcclusion(net, FACES, FACE, inference="dense")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maps = method.attribute(images, target=1, num_points=40, patch_size=7)
    return maps, [str(each.message) for each in caught]


def inside(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Autocast inside a forward function, whose output is float32."""

    def forward(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(images).float()

    return forward


def test_a_confidence_in_float32_does_not_hide_it() -> None:
    def narrow(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(images)

    net, images = SmallNet(32, (8, 8), softmax=False), noise(2, 32)
    _, told = occlusion(cc.ClassConfidence(narrow), images)
    assert len(told) == 1 and "bfloat16" in told[0]
    assert occlusion(cc.ClassConfidence(net), images)[1] == []


@pytest.mark.parametrize("how", ["network", "autocast", "inside"])
def test_the_noise_that_is_told_is_that_of_the_map(how: str) -> None:
    """Against the same map in float32: the standard deviation that is told, and its threefold, hold."""
    net, images = SmallNet(32, (8, 8), softmax=False), noise(2, 32)
    exact, silent = occlusion(net, images)
    assert silent == []
    if how == "network":
        maps, told = occlusion(SmallNet(32, (8, 8), softmax=False).bfloat16(), images.bfloat16())
    elif how == "inside":
        maps, told = occlusion(inside(net), images)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            maps, told = occlusion(net, images)
    assert len(told) == 1 and "bfloat16" in told[0] and "float32" in told[0] and "log-odds" in told[0]
    share = float(re.search(r"about ([\d.]+) % of the largest", told[0])[1]) / 100
    error = (maps - exact).abs().amax((1, 2, 3)) / exact.abs().amax((1, 2, 3))
    assert 0.2 * share < float(error.mean()) < 4 * share


def test_the_noise_of_a_score_is_its_spread() -> None:
    """A score of 20 in bfloat16 has steps of 1/8: rounding is at least that of the step, whatever the pixels do."""
    images = noise(3, 8)
    scorer = Scorer(lambda x: (10 + x.sum((1, 2, 3)) / 10).bfloat16(), None, (), 3)
    scores = scorer((images,), torch.arange(3)) + torch.arange(8)[:, None] / 8
    found = Rounding.measured(scorer, (images,), scores.flatten())
    assert found.narrow == torch.bfloat16
    steps = torch.finfo(torch.bfloat16).eps * scores[0]
    assert bool((found.noise >= 0.99 * steps / 12**0.5).all()) and bool((found.noise < steps).all())
    assert Rounding.measured(Scorer(LinearNet(8), 0, (), 3), (images.double(),), torch.rand(99)).narrow is None


def test_whole_numbers_are_no_sign_of_half_precision() -> None:
    scorer = Scorer(lambda x: x.sum((1, 2, 3)), None, (), 1)
    assert Rounding.measured(scorer, (torch.ones(1, 3, 4, 4),), torch.arange(99.0)).narrow is None


def test_text() -> None:
    assert rounding_text(torch.tensor([1e-5, torch.nan]), "x") == rounding_text(torch.zeros(0), "x") == ""
    assert "about 5 % of" in rounding_text(torch.tensor([0.05]), "x")
    assert "a standard deviation, 30 % in the worst of 3 images" in rounding_text(torch.tensor([0.1, 0.2, 0.3]), "x")
    assert "by about all of" in rounding_text(torch.tensor([torch.inf]), "x")


def test_score_cam_says_it_and_gradients_do_not() -> None:
    net, images = SmallNet(32, (8, 8), softmax=False).bfloat16(), noise(2, 32).bfloat16()
    with pytest.warns(UserWarning, match=r"bfloat16: rounding moves a drop by about [\d.]+ %"):
        cc.LayerScoreCam(net, "relu0").attribute(images, target=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cc.LayerGradCamPlusPlus(net, "relu0").attribute(images, target=1)
        cc.LayerScoreCam(net.float(), "relu0").attribute(images.float(), target=1)


def test_refining_says_it_once() -> None:
    net, images = SmallNet(32, softmax=False).bfloat16(), noise(2, 32).bfloat16()
    method = cc.CanonicalOcclusion(net, FACES, FACE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(method.refine(images, target=1, first_points=8, num_points=32, patch_size=7))
    assert ["rounding moves" in str(each.message) for each in caught] == [True]


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_run_says_it_once_and_keeps_it(tmp_path: Path, interrupted: bool) -> None:
    def stop(number: int) -> None:
        seen.append(number)
        if interrupted and len(set(seen)) > 6:
            raise KeyboardInterrupt

    images, faces, targets = photographs()
    seen: list[int] = []
    narrow = Network(stop).bfloat16()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            explain(tmp_path / "run", narrow, (images.bfloat16(), faces, targets))
        except KeyboardInterrupt:
            assert interrupted
            caught.clear()
            explain(tmp_path / "run", Network().bfloat16(), (images.bfloat16(), faces, targets))
    assert len([each for each in caught if "rounding moves" in str(each.message)]) == 1
    result = cc.ModelSaliency.open(tmp_path / "run")
    shares = result.run.records["rounding"]
    assert len(shares) == 13 and all(0 < share <= 1 for share in shares)
    assert result.run.rounding == rounding_text(torch.tensor(shares), "the scores were computed in half precision")
    page = cc.report(tmp_path / "run", tmp_path / "page.html", photos=False, view_3d=False).read_text("utf-8")
    assert "The scores were computed in half precision: rounding moves" in page


def test_a_run_in_float32_says_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*rounding")
        result = explain(tmp_path / "run")
    assert result.run.rounding == "" and set(result.run.records["rounding"]) == {None}


def test_a_benchmark_notes_it() -> None:
    net = SmallNet(32, softmax=True).bfloat16()
    method = cc.CanonicalOcclusion(net)
    methods = {"ours": (method, {"num_points": 20, "patch_size": 7}), "Saliency": Saliency(net)}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*rounding")
        result = cc.benchmark(
            net, noise(4, 32).bfloat16(), methods, 1, faces=mesh_of(FACE, 4), canonical_face=FACE, fills=["zero"]
        )
    notes = [note for note in result.notes if "rounding moves" in note]
    assert len(notes) == 1 and notes[0].startswith("ours in half precision")


def test_integer_pixels_are_filled_as_they_can_be() -> None:
    """A grey of 127 is one, half a step and what lies outside of the range are refused, for all that fill pixels."""
    images = (noise(2, 32) * 255).to(torch.uint8)

    def net(x: Tensor) -> Tensor:
        return x.float()[:, :, 8:24, 8:24].mean((1, 2, 3))

    method = cc.CanonicalOcclusion(net, FACES, FACE)
    mean = torch.full((1, 3, 1, 1), 127.0)
    whole = method.attribute(images, num_points=40, baselines=mean)
    torch.testing.assert_close(whole, method.attribute(images.float(), num_points=40, baselines=mean))
    for fill in (0.5, -1, 256, mean + 0.25):
        with pytest.raises(cc.CanonicalError, match=r"^baselines: expected values that torch.uint8 images can hold"):
            method.attribute(images, num_points=40, baselines=fill)
    hidden = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    assert fill_pixels(images, hidden, 7).eq(7).all() and fill_pixels(images, hidden, 7).dtype == torch.uint8
    for name in ("mean", "blur", 0.5):
        with pytest.raises(cc.CanonicalError, match=r"^fill .*: expected values that torch.uint8 images can hold"):
            fill_pixels(images, hidden, name)
