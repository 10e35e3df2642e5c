"""``info``: versions, aligners and the self-test."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import captum_canonical as cc
from captum_canonical.adapters.face_alignment import _files_to_download
from captum_canonical.cli import info
from captum_canonical.cli.command import main
from captum_canonical.plugins import ALIGNERS
from command_tools import Capture, run_json


def test_info(capsys: Capture) -> None:
    values = run_json(["info"], capsys)
    assert values["self_test"]["passed"] and values["self_test"]["seconds"] < 60
    assert values["captum-canonical"] == cc.__version__ and values["packages"]["torch"] == metadata.version("torch")
    assert tuple(values["aligners"]) == ALIGNERS.names() and "face-alignment" in values["aligners"]
    for name in ("face-mesh", *(["mediapipe"] if find_spec("mediapipe") else [])):
        assert values["aligners"][name] == {"state": "works", "says": ""}
    assert values["aligners"]["face-alignment"]["state"] == "not tried"  # its weights would be downloaded
    assert "downloads 3DFAN4" in values["aligners"]["face-alignment"]["says"]
    assert main(["info"]) == 0
    assert "self-test passed" in capsys.readouterr().out


def test_info_finds_a_package_that_computes_something_else(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A splat that is off by one pixel; and an aligner that is not there."""
    from captum_canonical.attributions import points

    splat = points.splat
    monkeypatch.setattr(points, "splat", lambda box, *rest: splat(box + 1, *rest))
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    assert main(["info"]) == 1
    said = capsys.readouterr().out
    assert "self-test FAILED" in said and "map by dense inference: WRONG" in said
    assert "mean of two maps: WRONG" in said
    assert "aligner mediapipe: not available" in said and "FaceMeshAligner" in said


def test_a_file_for_newer_releases_of_mediapipe_is_tried(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    pytest.importorskip("mediapipe")
    damaged = tmp_path / "face_landmarker.task"
    damaged.write_bytes(b"no bundle")
    found = run_json(["info", "--no-self-test", "--face-landmarker", str(damaged)], capsys)["aligners"]
    assert found["mediapipe"]["state"] == "not available" and str(damaged) in found["mediapipe"]["says"]
    file = str(shared / "models/face_landmarker.task")
    found = run_json(["info", "--no-self-test", "--face-landmarker", file], capsys)["aligners"]
    assert found["mediapipe"] == {"state": "works", "says": ""}


@pytest.mark.parametrize(("version", "pip"), [((3, 12), True), ((3, 13), False)])
def test_nobody_is_sent_for_what_there_is_not(
    version: tuple[int, int], pip: bool, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releases of MediaPipe that have their networks with them end with Python 3.12."""
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    says = run_json(["info", "--no-self-test"], capsys)["aligners"]["mediapipe"]["says"]
    assert ("pip install" in says) == pip and "FaceMeshAligner" in says


def test_weights_of_face_alignment_that_are_there_are_tried(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for name in _files_to_download("sfd"):
        (tmp_path / "checkpoints" / name).write_bytes(b"damaged")
    found = run_json(["info", "--no-self-test"], capsys)["aligners"]["face-alignment"]
    assert found["state"] == "not available" and "cannot load its networks" in found["says"]


def test_the_known_map_is_large_at_its_region_and_nothing_far_from_it() -> None:
    face = cc.CanonicalFace.default(info.SIZE)
    expected = info.known_map(face, face.region_mask(info.REGION))
    assert np.unravel_index(expected.argmax(), expected.shape)[0] > info.SIZE * 0.4
    assert np.abs(expected[face.region_mask("chin").numpy()]).max() == 0
    assert info.self_test().passed
