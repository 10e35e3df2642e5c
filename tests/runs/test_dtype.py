"""Half precision from end to end: networks are given photographs of their own type, and drops are not rounded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from PIL import Image
from torch import nn

import captum_canonical as cc
from captum_canonical.adapters import PixelGrid
from captum_canonical.errors import CanonicalError
from face_tools import mesh_of, noise
from occlusion_tools import correlation
from small_networks import SmallNet

pytestmark = pytest.mark.filterwarnings("ignore:.*rounding moves")
NARROW = [torch.bfloat16, torch.float16]
FACE = cc.CanonicalFace.default(64)
PHOTOS, FACES = noise(4, 32), mesh_of(FACE, 4, 32)


class Watching(nn.Module):
    """Notes the types of the images it is given."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.seen = SmallNet(32, (8, 8), softmax=False, dtype=dtype), set()

    def __fingerprint__(self) -> str:
        return str(next(self.net.parameters()).dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add(x.dtype)
        return self.net(x)


def explain(folder: Path, net: nn.Module, data: Any = (PHOTOS, FACES), **options: Any) -> cc.ModelSaliency:
    options = {"canonical_face": FACE, "num_points": 60, "target": 1, "show_progress": False} | options
    return cc.explain_dataset(cc.ClassConfidence(net), data, folder, **options)


@pytest.mark.parametrize("dtype", [*NARROW, torch.float64])
def test_a_network_is_given_photographs_of_its_own_type(dtype: torch.dtype, tmp_path: Path) -> None:
    net = Watching(dtype)
    result = explain(tmp_path / "own", net)
    exact = explain(tmp_path / "exact", Watching(torch.float32))
    assert net.seen == {dtype} and result.n == 4
    assert correlation(result.mean, exact.mean) > 0.99
    assert all((each is not None) == (dtype in NARROW) for each in result.photos.records["rounding"])


def test_the_type_can_be_chosen_and_is_a_setting_of_the_run(tmp_path: Path) -> None:
    net = Watching(torch.float32)
    net.net.forward = lambda x: SmallNet(32, (8, 8), softmax=False)(x.float())  # takes any
    explain(tmp_path / "run", net, dtype="float16")
    assert net.seen == {torch.float16}
    with pytest.raises(CanonicalError, match="dtype"):
        explain(tmp_path / "run", net, dtype=torch.bfloat16)
    with pytest.raises(CanonicalError, match="expected a floating-point type, such as"):
        explain(tmp_path / "other", net, dtype="int8")


@pytest.mark.parametrize("dtype", NARROW)
def test_the_benchmark_of_a_narrow_network(dtype: torch.dtype) -> None:
    net = Watching(dtype)
    confidence = cc.ClassConfidence(net)
    methods = {"occlusion": (cc.CanonicalOcclusion(confidence), {"num_points": 40}), "saliency": Saliency(confidence)}
    options: Any = {"faces": FACES, "canonical_face": FACE, "resamples": 20, "permutations": 20, "fills": ["mean"]}
    result = cc.benchmark(confidence, PHOTOS, methods, 1, **options)
    assert net.seen == {dtype} and not [row for row in result.rows if row.failure]
    assert result.settings["image type"] == str(dtype).removeprefix("torch.")


def test_a_data_set_of_narrow_images(tmp_path: Path) -> None:
    for number, pixels in enumerate((255 * PHOTOS).byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    narrow, plain = (
        cc.AlignedFaces(tmp_path, PixelGrid(4, 4), size=32, crop=None, mean=0.5, std=0.5, **more)
        for more in ({"dtype": torch.bfloat16}, {})
    )
    assert narrow[0].image.dtype == torch.bfloat16
    assert torch.equal(narrow[0].image, plain[0].image.bfloat16())
    assert narrow.preprocessing["dtype"] == "bfloat16" and "dtype" not in plain.preprocessing
    assert narrow.fingerprint != plain.fingerprint
    with pytest.raises(CanonicalError, match="dtype"):
        cc.AlignedFaces(tmp_path, size=32, dtype=torch.uint8)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("link", ["probability", "log_odds"])
def test_drops_are_not_rounded_again(dtype: torch.dtype, link: str) -> None:
    """The scores are computed in float32 from the logits, whose own rounding nobody can undo."""
    net = SmallNet(32, (8, 8), softmax=False, dtype=dtype)
    logits = net(PHOTOS.to(dtype))
    found = cc.ClassConfidence(net, link=link)(PHOTOS.to(dtype))
    exact = cc.ClassConfidence(lambda x: x, link=link)(logits.double())
    assert found.dtype == torch.float32
    assert np.abs(found.double().detach() - exact.detach()).max() < 1e-6
