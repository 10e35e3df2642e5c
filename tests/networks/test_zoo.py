"""Every network of the zoo in one line each: attribute, projector, benchmark, explain_dataset and the command line.

Slow, and for an environment that has torchvision, timm and transformers: ``bash tools/check_networks.sh``.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from captum.attr import Saliency
from PIL import Image
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.attributions.spatial_layers import last_spatial_layer
from command_tools import Capture, run_error, run_json
from face_tools import mesh_of
from zoo import ZOO, ZooNetwork, photos
from zoo_networks import command_line_form, explained

pytestmark = pytest.mark.slow
FACE = cc.CanonicalFace.default(64)
POINTS = 12
ENCODERS = ("own:iresnet18", "own:iresnet50", "own:inception_resnet_v1", "own:mobile_face_net")
TABLE: dict[str, dict[str, str]] = {}


@dataclass
class Case:
    """A network with two photographs, and what was found about it."""

    zoo: ZooNetwork
    net: nn.Module
    x: Tensor
    faces: cc.FaceMesh
    found: dict[str, str] = field(default_factory=dict)

    def confidence(self, net: nn.Module | None = None) -> cc.ClassConfidence:
        return cc.ClassConfidence(explained(self.net if net is None else net), link="log_odds")


@pytest.fixture(scope="module", params=list(ZOO), ids=list(ZOO))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    zoo = ZOO[request.param]
    if zoo.needs is not None and importlib.util.find_spec(zoo.needs) is None:
        pytest.skip(f"{zoo.needs} is not installed")
    torch.manual_seed(1)
    made = Case(zoo, zoo.build(), photos(2, zoo.size), mesh_of(FACE, 2, zoo.size))
    TABLE[zoo.name] = made.found
    yield made


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    columns = ["incremental", "incremental / float64", "dense / float64", "layer"]
    print("\n| network | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, found in TABLE.items():
        print(f"| {name} | " + " | ".join(found.get(column, "") for column in columns) + " |")


def occlusion(case: Case, inference: Any, net: nn.Module | None = None, x: Tensor | None = None) -> Tensor:
    method = cc.CanonicalOcclusion(case.confidence(net), case.faces[:1], FACE, inference=inference)
    return method.attribute(case.x[:1] if x is None else x, target=0, num_points=POINTS)


def test_attribute(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """In windows and as a whole, the map is that of float64 but for rounding, which windows do not make much worse."""
    caplog.set_level(logging.INFO, "captum_canonical")
    dense = occlusion(case, "dense")
    exact = occlusion(case, "dense", copy.deepcopy(case.net).double(), case.x[:1].double())
    scale = float(exact.abs().max())
    assert scale > 0
    rounding = float((dense - exact).abs().max()) / scale
    case.found["dense / float64"] = f"{rounding:.1e}"
    assert rounding < 2e-3
    try:
        windows = occlusion(case, "incremental")
    except cc.CanonicalError as error:
        case.found["incremental"] = str(error).removeprefix('inference="incremental" is not possible: ')[:80]
        return
    apart = float((windows - exact).abs().max()) / scale
    case.found["incremental"], case.found["incremental / float64"] = "yes", f"{apart:.1e}"
    assert apart < max(10 * rounding, 1e-4)


def test_projector(case: Case) -> None:
    x = case.x[:1].clone().requires_grad_()
    maps = cc.CanonicalProjector(Saliency(case.confidence()), case.faces[:1], FACE).attribute(x, target=0)
    assert torch.isfinite(maps).all() and float(maps.abs().max()) > 0
    name = case.found["layer"] = last_spatial_layer(case.confidence(), case.x[:1])
    cam = cc.LayerGradCamPlusPlus(case.confidence(), name)
    maps = cc.CanonicalProjector(cam, case.faces[:1], FACE).attribute(x, target=0)
    assert torch.isfinite(maps).all() and maps.shape == (1, 1, *FACE.size)


def test_benchmark(case: Case) -> None:
    confidence = case.confidence()
    methods = {"occlusion": (cc.CanonicalOcclusion(confidence), {"num_points": 4}), "saliency": Saliency(confidence)}
    options: Any = {"fills": ["mean"], "spaces": (), "controls": False, "resamples": 20, "permutations": 20}
    result = cc.benchmark(confidence, case.x, methods, 0, faces=case.faces, canonical_face=FACE, **options)
    assert len(result.rows) == 4 and not [row.failure for row in result.rows if row.failure]


def test_explain_dataset(case: Case, tmp_path: Path) -> None:
    data = (case.x, case.faces)
    options: Any = {"canonical_face": FACE, "num_points": 4, "show_progress": False}
    result = cc.explain_dataset(case.confidence(), data, tmp_path / "run", **options)
    again = cc.explain_dataset(case.confidence(), data, tmp_path / "run", **options)
    assert result.n == again.n == 2 and float(result.mean.abs().max()) > 0


def test_command_line(case: Case, tmp_path: Path, capsys: Capture) -> None:
    photographs = tmp_path / "photos"
    photographs.mkdir()
    Image.fromarray((255 * case.x[0].clamp(0, 1)).byte().permute(1, 2, 0).numpy()).save(photographs / "0.png")
    size = ["--size", case.zoo.size, "--crop", "none", "--mean", 0, "--std", 1]
    command = ["explain", "--images", photographs, "--aligner", "command_tools:DrawnAligner", "--out", tmp_path / "run"]
    command += [*command_line_form(case.zoo.name, case.net, tmp_path), *size, "--points", 4, "--target", 0, "--quiet"]
    command = [str(each) for each in command]
    if case.zoo.name in ENCODERS:  # numbers of features are classes only for those who say so
        assert "--kind" in run_error(command, capsys)
        command += ["--kind", "classifier"]
    assert run_json(command, capsys)["explained"] == 1
    seen = (255 * case.x[:1].clamp(0, 1)).byte().float() / 255
    mesh = mesh_of(cc.CanonicalFace.default(), 1, case.zoo.size)
    expected = cc.CanonicalOcclusion(case.confidence(), mesh).attribute(seen, target=0, num_points=4)
    found = cc.ModelSaliency.open(tmp_path / "run").mean
    assert (found - expected[0]).abs().max() < 1e-3 * expected.abs().max()
