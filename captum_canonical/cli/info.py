"""``captum-canonical info``: versions, available aligners, and a self-test of the installation.

The self-test compares a map with its known values. Its network, with weights set by hand, is a weighted sum of the
pixels in one facial region of the canonical face. Its score is linear in the pixels, so the drop at each point is a sum
over the patch, and the map follows from the definition (Eqs. 1, 4 and 5) in a slow loop that shares no code with the
package.
"""

from __future__ import annotations

import math
import platform
import time
from argparse import Namespace, _SubParsersAction
from dataclasses import dataclass
from importlib import metadata
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from captum_canonical import __version__
from captum_canonical.adapters.aligner import make_aligner
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.cli.console import CommandResult, escape, format_duration
from captum_canonical.cli.options import add_common, add_face_landmarker, examples
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.plugins import ALIGNERS
from captum_canonical.tables import Column, Table

SIZE, PATCH, CLASSES = 96, 7, 2
REGION = "nose_tip"
INFERENCES: tuple[tuple[int, Literal["dense", "incremental"]], ...] = ((1, "dense"), (3, "incremental"))
TOLERANCE = 1e-4  # of the map's largest value: float32 sums
PACKAGES = tuple(
    "torch captum numpy scipy opencv-python torchmetrics pillow matplotlib mediapipe face-alignment safetensors".split()
)


def add_parser(commands: _SubParsersAction[Any]) -> None:
    """Adds the parser of ``info``."""
    parser = commands.add_parser(
        "info",
        help="versions, aligners available, and a self-test",
        description="Lists versions and the aligners that work here, and computes a map that is known beforehand, in a "
        "few seconds. Exit status 1 if it comes out wrong.",
        **examples("captum-canonical info", "captum-canonical info --json --no-self-test"),
    )
    add_face_landmarker(parser)
    parser.add_argument("--no-self-test", action="store_true", help="only versions and aligners")
    add_common(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> CommandResult:
    """Collects the versions and aligners, and runs the self-test."""
    versions = {name: _version(name) for name in PACKAGES}
    aligners = {name: _try_aligner(name, arguments.face_landmarker) for name in ALIGNERS.names()}
    test = None if arguments.no_self_test else self_test()
    values: dict[str, Any] = {
        "captum-canonical": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": _devices(),
        "threads": torch.get_num_threads(),
        "packages": versions,
        "aligners": {name: {"state": state, "says": says} for name, (state, says) in aligners.items()},
    }
    if test is not None:
        values["self_test"] = {
            "passed": test.passed,
            "seconds": test.seconds,
            "checks": {check.name: check.difference for check in test.checks},
        }
    return CommandResult(_text(values, test), values, 0 if test is None or test.passed else 1)


_PACKAGE_COLUMNS: tuple[Column[tuple[str, str | None]], ...] = (
    Column("package", value=itemgetter(0)),
    Column("version", value=itemgetter(1), missing="-", align="right"),
)


def _text(values: dict[str, Any], test: SelfTest | None) -> str:
    lines = [f"captum-canonical {__version__}, Python {values['python']}, {values['platform']}"]
    lines.append(f"devices: {', '.join(values['devices'])}; {values['threads']} threads")
    lines.append(Table(_PACKAGE_COLUMNS, list(values["packages"].items())).text())
    for name, each in values["aligners"].items():
        lines.append(f"aligner {name}: {each['state']}{': ' * bool(each['says'])}{escape(each['says'])}")
    if test is not None:
        lines += [
            f"self-test: {check.name}: {'ok' if check.passed else 'WRONG'} ({check.difference:.1e})"
            for check in test.checks
        ]
        lines.append(f"self-test {'passed' if test.passed else 'FAILED'} in {format_duration(test.seconds)}")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    found = ["cpu"]
    found += [f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def _try_aligner(name: str, face_landmarker: Path | None) -> tuple[str, str]:
    """Whether an aligner works here, and why not or why nobody knows."""
    options = {"on_missing": "skip", **({"model_asset_path": face_landmarker} if face_landmarker else {})}
    try:
        untried = make_aligner(ALIGNERS.load(name), options).try_out()
    except (CanonicalError, MissingDependencyError) as error:
        return "not available", str(error)
    except Exception as error:  # packages of others may fail in any way
        return "not available", f"{type(error).__name__}: {error}"
    return ("works", "") if untried is None else ("not tried", untried)


# -------------------------------------------------------------------------------------------------------- self-test
@dataclass(frozen=True)
class SelfTestCheck:
    """One comparison of the self-test.

    Attributes:
        name: what is compared.
        difference: the largest difference, as a share of the map's largest value.
        passed: whether the difference is small enough.
    """

    name: str
    difference: float
    passed: bool


@dataclass(frozen=True)
class SelfTest:
    """The comparisons of the self-test, and its duration in seconds."""

    checks: tuple[SelfTestCheck, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)


class RegionNet(nn.Module):
    """Scores (N, 2): the mean brightness of a region and its negative, by a convolution as large as the image."""

    def __init__(self, region: Tensor) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.Conv2d(4, CLASSES, (region.shape[0], region.shape[1]), bias=False)
        with torch.no_grad():
            self.trunk.weight.zero_()
            self.trunk.weight[:3, :, 1, 1] = torch.eye(3)  # passes the colours on
            self.head.weight.zero_()
            self.head.weight[:, :3] = region / (3 * region.sum()) * torch.tensor([1.0, -1.0])[:, None, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to scores (N, 2)."""
        return self.head(self.trunk(x)).flatten(1)


def self_test() -> SelfTest:
    """Computes the known map by dense and by incremental inference, and their mean, in a few seconds.

    Example::

        >>> self_test().passed
        True
    """
    from captum_canonical.saliency.metric import CanonicalModelSaliency  # imports torchmetrics, 0.5 s

    start = time.perf_counter()
    face = CanonicalFace.default(SIZE)
    region = face.region_mask(REGION)
    net = RegionNet(region.float()).eval().requires_grad_(False)
    mesh = FaceMesh(face.vertices[None], image_size=face.size, topology=face.topology)
    photo = face.image[None]
    expected = known_map(face, region)
    checks, maps = [], torch.zeros(0)
    mean = CanonicalModelSaliency(face)
    for factor, inference in INFERENCES:
        method: Any = CanonicalOcclusion(net, mesh, face, inference)
        maps, coverage = method.attribute(photo, target=0, patch_size=PATCH, return_coverage=True)
        checks.append(_compare(f"map by {inference} inference", maps, expected))
        mean.update(factor * maps, coverage)
    checks.append(_compare("mean of two maps", mean.compute().mean[None], 2 * expected))
    inside = float(maps[0, 0][region].mean() / maps[0, 0][face.raster.covered].abs().mean())
    checks.append(
        SelfTestCheck(f"most of it in the region {REGION}", 1 / inside if inside > 0 else math.inf, inside > 5)
    )
    return SelfTest(tuple(checks), time.perf_counter() - start)


def known_map(face: CanonicalFace, region: Tensor) -> np.ndarray:
    """The map (H, W) of :class:`RegionNet` for the canonical face as the photograph, computed from its definition.

    A point at v hides, and paints, the same square of side k = :data:`PATCH`, which begins at floor(v - k / 2 + 1 / 2).
    """
    height, width = face.size
    weighted = (face.image.double().mean(0) * region / region.sum()).numpy()
    sums, hits = np.zeros((height, width)), np.zeros((height, width))
    vertices, corners, weights = (
        each.numpy() for each in (face.vertices.double(), face.point_vertices, face.point_weights)
    )
    for triangle, share in zip(corners, weights, strict=True):
        x, y, _ = share @ vertices[triangle]
        left, top = math.floor(x - PATCH / 2 + 0.5), math.floor(y - PATCH / 2 + 0.5)
        rows, columns = slice(max(top, 0), max(top + PATCH, 0)), slice(max(left, 0), max(left + PATCH, 0))
        sums[rows, columns] += weighted[rows, columns].sum()
        hits[rows, columns] += 1
    return sums / np.maximum(hits, 1)


def _compare(name: str, values: Tensor, expected: np.ndarray) -> SelfTestCheck:
    difference = float(np.abs(values[0, 0].double().numpy() - expected).max() / np.abs(expected).max())
    return SelfTestCheck(name, difference, difference <= TOLERANCE)
