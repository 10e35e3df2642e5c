"""Fixtures that all tests share."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.inference.costs import KINDS, VARIABLE
from face_tools import mesh_of

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1234)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real photographs, meshes and networks beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the real photographs and networks in ../shared, which is absent")
    return SHARED


@pytest.fixture(scope="module")
def face(request: pytest.FixtureRequest) -> CanonicalFace:
    """The face that the package ships, at the side that the test's module gives as ``FACE_SIZE`` (32 without one)."""
    return CanonicalFace.default(getattr(request.module, "FACE_SIZE", 32))


@pytest.fixture(scope="module")
def faces(face: CanonicalFace) -> FaceMesh:
    """Two photographs in which the face lies where the canonical face does; see ``mesh_of`` for other ones."""
    return mesh_of(face, 2)


@pytest.fixture
def only_arithmetic_costs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks gain nothing by windows, for calls and copies take all of their time: here arithmetic does."""
    table: dict[str, object] = {"sides": [1], "calls": {"complete": 0.0, "window": 0.0, "prepare": 250.0}, "fresh": 0}
    for layout, cost in (("nchw", 0.06), ("nhwc", 0.05)):
        arithmetic = ("convolution", "pixel", "depthwise", "grouped", "product")
        table[layout] = {kind: [[cost * (kind in arithmetic)], [0.0]] for kind in KINDS}
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each docstring brings the number of its examples along, for the summary; MediaPipe's needs its networks."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.dtest is not None:
            item.user_properties.append(("docstring examples", len(item.dtest.examples)))
            if item.name.endswith(".MediaPipeAligner"):
                item.add_marker(pytest.mark.skipif(find_spec("mediapipe") is None, reason="needs the extra mediapipe"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the documentation has been run."""
    counts: dict[str, list[int]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, number in report.user_properties:
            if name.startswith(("documentation ", "docstring ", "notebook ")) and report.when == "call":
                counts.setdefault(name, []).append(int(number))
    if counts:
        said = [f"{sum(numbers)} {name} in {len(numbers)}" for name, numbers in sorted(counts.items())]
        terminalreporter.write_line(f"documentation that was tested, none skipped: {'; '.join(said)}")
