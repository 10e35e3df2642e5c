"""``info``: versions, aligners and the self-test."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import captum_canonical as cc
from captum_canonical.cli import info
from captum_canonical.cli.command import main
from captum_canonical.plugins import ALIGNERS
from command_tools import Capture, run_json


def test_info(capsys: Capture) -> None:
    values = run_json(["info"], capsys)
    assert values["self_test"]["passed"] and values["self_test"]["seconds"] < 60
    assert values["captum-canonical"] == cc.__version__ and values["packages"]["torch"] == torch.__version__
    assert tuple(values["aligners"]) == ALIGNERS.names() and "face-alignment" in values["aligners"]
    for name in ("face-mesh", "mediapipe"):
        assert values["aligners"][name] == {"available": True, "says": "offline"}
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
    assert "aligner mediapipe: not available" in said and "pip install" in said


def test_the_known_map_is_large_at_its_region_and_nothing_far_from_it() -> None:
    face = cc.CanonicalFace.default(info.SIZE)
    expected = info.known_map(face, face.region_mask(info.REGION))
    assert np.unravel_index(expected.argmax(), expected.shape)[0] > info.SIZE * 0.4
    assert np.abs(expected[face.region_mask("chin").numpy()]).max() == 0
    assert info.self_test().passed
