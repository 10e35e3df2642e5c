"""The folder of a run, which several modules read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.runs.explain import explain_dataset
from face_tools import mesh_of
from simulated_maps import SIZE


@pytest.fixture(scope="package")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over 40 photographs, one of which has no face."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    face = CanonicalFace.default(SIZE)
    faces = mesh_of(face, 40, 32)
    faces.found[7] = False
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2)).eval()
    data = torch.rand(40, 3, 32, 32), faces, torch.arange(40) % 2
    explain_dataset(network, data, folder, canonical_face=face, num_points=16, show_progress=False)
    return folder
