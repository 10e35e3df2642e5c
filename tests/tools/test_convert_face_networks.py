"""The converter of MediaPipe's networks, which reads .tflite files: the package's weights come out of it."""

from __future__ import annotations

import runpy
import sys
from importlib import util
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from captum_canonical.adapters import face_networks

TOOL = Path(__file__).parents[2] / "tools" / "convert_face_networks.py"


@pytest.mark.skipif(util.find_spec("mediapipe") is None, reason="needs mediapipe, which holds the networks")
def test_the_packages_weights_are_those_of_mediapipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--out", str(tmp_path / "weights.safetensors")])
    runpy.run_path(str(TOOL), run_name="__main__")
    shipped = Path(face_networks.__file__).with_name("face_mesh_468.safetensors")
    with safe_open(tmp_path / "weights.safetensors", "pt") as made, safe_open(shipped, "pt") as known:
        assert made.metadata() == known.metadata() and sorted(made.keys()) == sorted(known.keys())
        assert all(torch.equal(made.get_tensor(name), known.get_tensor(name)) for name in known.keys())
