"""Several columns of groups, from the rows of a data set through a run to strata, comparisons and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_canonical import AlignedFaces, ModelSaliency, compare_groups, region_table, report
from captum_canonical.data import GroupCount, PhotoRow
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.faces.mesh import FaceMesh
from captum_canonical.run_folder.folder import RunFolder
from captum_canonical.runs.explain import explain_dataset

FACE = CanonicalFace.default(16)
NETWORK = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 2)).eval()
LABELS = [("f", "x", 30), ("m", "x", 31), ("f", "y", 62), ("m", None, None), ("f", "x", 12), ("m", "y", 12)]


def face_mesh(size: int) -> FaceMesh:
    return FaceMesh(FACE.vertices[None] * size / 16, image_size=(size, size), topology=FACE.topology)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(len(LABELS)):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "notes.txt").write_text("mine")
    lines = [f"{number}.png;{gender};{race or ''};{age or ''}" for number, (gender, race, age) in enumerate(LABELS)]
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["path;gender;race;age", *lines]))
    return tmp_path / "photos"


def data_of(folder: Path, source: Any = None, **arguments: Any) -> AlignedFaces:
    source = folder / "labels.csv" if source is None else source
    return AlignedFaces(source, faces=lambda _: face_mesh(32), size=16, crop=None, **arguments)


def explain(data: object, out: Path) -> RunFolder:
    arguments = {"canonical_face": FACE, "num_points": 8, "show_progress": False, "batch_size": 2}
    explain_dataset(NETWORK, data, out, **arguments)
    return RunFolder.open(out)


def known(run: RunFolder) -> list[tuple]:
    """(gender, race) of the photographs in the order of the source."""
    rows = zip(*(run.records[name] for name in ("place", "gender", "race")), strict=True)
    return [row[1:] for row in sorted(rows)]


def test_columns_of_a_table_are_strata_of_the_run(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder, columns={"group": ("gender", "race")})
    assert data.counts() == data.counts("gender") == {"f": GroupCount(3), "m": GroupCount(3)}
    assert data.counts(("gender", "race"))["f", "x"] == GroupCount(2)
    assert data.counts("race")[None] == GroupCount(1)
    with pytest.raises(CanonicalError, match="counts: expected a column among group, gender, race, got 'age'"):
        data.counts("age")
    run = explain(data, tmp_path / "run")
    assert run.group_columns == ["gender", "race"] and known(run) == [each[:2] for each in LABELS]
    result = ModelSaliency.open(tmp_path / "run")
    assert {name: each.n for name, each in result.strata("race").items()} == {"not known": 1, "x": 3, "y": 2}
    crossed = {name: each.n for name, each in result.strata(("gender", "race")).items()}
    assert crossed == {"f, x": 2, "f, y": 1, "m, x": 1, "m, y": 1, "not known": 1}
    people = result.weighted("people").strata("gender")
    assert {name: each.n for name, each in people.items()} == {"f": 3, "m": 3}
    sides = result.strata("gender")
    assert compare_groups(sides["f"], sides["m"], permutations=9).n == (3, 3)
    assert region_table(sides["f"]).rows


@pytest.mark.parametrize("stream", [False, True])
def test_columns_of_batches(folder: Path, tmp_path: Path, stream: bool) -> None:
    data = data_of(folder, columns={"group": ("gender", "race")})
    batches = [AlignedFaces.collate([data[number] for number in part]) for part in ((0, 1), (2, 3, 4, 5))]
    assert batches[1].group_columns == {"gender": ["f", "m", "f", "m"], "race": ["y", None, "x", "y"]}
    whole = AlignedFaces.collate(list(data))
    run = explain(batches if stream else whole, tmp_path / "run")
    assert known(run) == [each[:2] for each in LABELS]


def test_batches_of_which_one_has_no_such_column(tmp_path: Path) -> None:
    faces, names, nobody = FaceMesh.cat([face_mesh(16)] * 2), ["a", "b"], [None, None]
    images, races = torch.rand(4, 3, 16, 16), {"race": ["x", "y"]}
    first = FaceBatch(images[:2], faces, None, nobody, nobody, names, torch.arange(2), races)
    second = FaceBatch(images[2:], faces, None, nobody, nobody, names, torch.arange(2, 4))
    run = explain([first, second], tmp_path)
    found = sorted(zip(run.records["place"], run.records["race"], strict=True))
    assert found == [(0, "x"), (1, "y"), (2, None), (3, None)]


def test_columns_may_change_between_calls_and_old_folders_have_none(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert explain(data_of(folder), out).group_columns == []
    assert "groups" not in json.loads((out / "photographs.json").read_text())  # as runs had before
    before = (out / "maps.npy").stat().st_mtime_ns
    assert explain(data_of(folder, columns={"group": ("race", "age")}), out).group_columns == ["race", "age"]
    assert (out / "maps.npy").stat().st_mtime_ns == before, "nothing is computed anew"
    assert {name: each.n for name, each in ModelSaliency.open(out).strata("age", bins=[0, 18, 99]).items()} == {
        "age 0 to 18": 2,
        "age 18 to 99": 3,
        "not known": 1,
    }


def test_a_column_may_not_be_taken_for_one_of_the_run(folder: Path, tmp_path: Path) -> None:
    rows = [PhotoRow(row.path, group="a", groups={"score": "high"}) for row in data_of(folder).rows]
    with pytest.raises(CanonicalError, match=r"groups: expected other names .* got 'score'; rename the column"):
        explain(data_of(folder, rows), tmp_path / "run")
    for name in ("size", "yaw", "score"):  # strata of a column called "size" would be of the faces' sizes
        rows = [PhotoRow(row.path, group="big", groups={name: "big"}) for row in data_of(folder).rows]
        with pytest.raises(CanonicalError, match=f"got '{name}'; rename the column"):
            explain(data_of(folder, rows), tmp_path / "run")
    rows = [PhotoRow(row.path, group="a", groups={"label": "a", "race": "x"}) for row in data_of(folder).rows]
    assert explain(data_of(folder, rows), tmp_path / "run").group_columns == ["race"]


def test_the_report_shows_all_columns_and_what_is_not_used(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").rename(tmp_path / "labels.csv")
    rows = list(data_of(folder, tmp_path / "labels.csv", root=folder, columns={"group": ("gender", "race")}).rows)
    with_unused = data_of(folder, folder)
    assert [each.path.name for each in with_unused.unused] == ["notes.txt"]
    run = explain(with_unused, tmp_path / "folder")
    assert run.photographs["unused"][0][1] == "not a photograph"
    page = report(tmp_path / "folder", tmp_path / "page.html", view_3d=False, photos=False).read_text("utf-8")
    assert "Files and lines of the source that are not used: 1 (1 not a photograph)." in page
    assert "notes.txt" not in page
    assert "notes.txt" in report(tmp_path / "folder", tmp_path / "page.html", view_3d=False).read_text("utf-8")
    explain(data_of(folder, rows), tmp_path / "run")
    page = report(tmp_path / "run", tmp_path / "page.html", view_3d=False, photos=False).read_text("utf-8")
    assert "Photographs per gender" in page and "Photographs per race" in page and "Photographs per group" not in page
    assert "f and m" in page and ">Race<" in page
    strata = ["race", ("gender", "race")]
    path = report(tmp_path / "run", tmp_path / "page.html", view_3d=False, photos=False, strata=strata)
    page = path.read_text("utf-8")
    assert "Gender and race" in page and "m, y" in page and "x and y" in page and "f and m" not in page
