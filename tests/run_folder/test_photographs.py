"""What a run folder knows about the photographs of its source, those without a map too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_canonical import AlignedFaces
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.runs.explain import explain_dataset
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.units import units_of
from label_tools import NAType

FACE = CanonicalFace.default(16)
NETWORK = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)).eval()


def face_mesh(size: int) -> FaceMesh:
    return FaceMesh(FACE.vertices[None] * size / 16, image_size=(size, size), topology=FACE.topology)


def explain(data: object, out: Path) -> RunFolder:
    arguments = {"canonical_face": FACE, "num_points": 8, "show_progress": False, "batch_size": 2}
    explain_dataset(NETWORK, data, out, **arguments)
    return RunFolder.open(out)


def test_files_are_remembered_with_their_faces_and_why_some_take_no_part(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "b.png").write_text("no image")
    source = [(tmp_path / f"{name}.png", None, group, None) for name, group in zip("abc", "xxy", strict=True)]
    with pytest.warns(UserWarning, match="1 unreadable"):
        data = AlignedFaces(source, faces=lambda _: face_mesh(32), size=16, crop=None).align()
    columns = explain(data, tmp_path / "run").photographs
    assert columns is not None
    assert (columns["place"], columns["group"], columns["left_out"]) == (
        [0, 1, 2],
        ["x", "x", "y"],
        [None, "unreadable", None],
    )
    assert columns["path"] == [str(tmp_path / f"{name}.png") for name in "abc"]
    vertices = face_mesh(32).vertices[0, :, :2].float()
    box = [*vertices.min(0).values.tolist(), *vertices.max(0).values.tolist()]
    assert [columns["box"][0], columns["box"][1], columns["box"][2]] == [pytest.approx(box), None, pytest.approx(box)]


def test_tensors_have_names_but_no_files(tmp_path: Path) -> None:
    faces = FaceMesh.cat([face_mesh(16)] * 3)
    columns = explain((torch.rand(3, 3, 16, 16), faces), tmp_path).photographs
    assert columns is not None
    assert (columns["name"], columns["path"]) == (["image 0", "image 1", "image 2"], [None, None, None])


def test_a_damaged_or_missing_file_spoils_no_run(tmp_path: Path) -> None:
    faces = FaceMesh.cat([face_mesh(16)] * 2)
    explain((torch.rand(2, 3, 16, 16), faces), tmp_path)
    (tmp_path / "photographs.json").write_text('{"place": [0, 1], "name": ["a"]}')
    run = RunFolder.open(tmp_path)
    with pytest.warns(UserWarning, match="the file is damaged.* not known until"):
        assert run.n == 2
    with pytest.raises(CanonicalError, match="expected the columns row, place, name"):
        _ = run.photographs
    (tmp_path / "photographs.json").unlink()
    assert RunFolder.open(tmp_path).photographs is None
    with pytest.warns(UserWarning, match=r"photographs.json is missing. Names, groups, identities, .* not known until"):
        assert RunFolder.open(tmp_path).records["name"] == ["photograph 0", "photograph 1"]


@pytest.mark.parametrize("stream", [False, True])
def test_missing_labels_of_batches_are_missing_in_the_folder(tmp_path: Path, stream: bool) -> None:
    faces = FaceMesh.cat([face_mesh(16)] * 5)
    groups, identities = [1, "1.0", float("nan"), NAType(), "2"], ["a", None, float("nan"), "", "a "]
    names = [f"{number}.png" for number in range(5)]
    batch = FaceBatch(torch.rand(5, 3, 16, 16), faces, None, groups, identities, names, torch.arange(5))
    run = explain([batch] if stream else batch, tmp_path)
    known = zip(run.records["place"], run.records["group"], run.records["identity"], strict=True)
    assert sorted(known) == [(0, "1", "a"), (1, "1", None), (2, None, None), (3, None, None), (4, "2", "a")]
    result = ModelSaliency.open(tmp_path)
    assert units_of(result.photos).description == "4 people"
    assert {name: part.n for name, part in result.strata("group").items()} == {"1": 2, "2": 1, "not known": 2}
    assert run.photographs is None or run.photographs["group"] == ["1", "1", None, None, "2"]
