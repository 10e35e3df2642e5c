"""What one photograph, file or device that fails may not spoil in a run of explain_dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import captum_canonical as cc
from dataset_tools import CornerAligner, write_photos
from run_tools import COUNT, SIDE, Network, explain, photographs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    explain(out)
    return out


def test_a_photograph_that_fails_is_recorded_and_the_others_are_as_they_would_be(
    tmp_path: Path, finished: Path
) -> None:
    def fail(number: int) -> None:
        if number == bad:
            raise RuntimeError("not to my taste")

    records = cc.ModelSaliency.open(finished).run.records
    bad = records["place"][5]
    result = explain(tmp_path / "run", Network(fail))
    assert result.n == COUNT - 1 and result.run.complete
    assert result.run.left_out == {bad: f"image {bad}: RuntimeError: not to my taste"}
    assert result.run.records["status"][5] == "failed" and result.run.records["reason"][5].endswith("not to my taste")
    good = [row for row in range(COUNT) if row != 5]
    theirs, ours = cc.ModelSaliency.open(finished).run, result.run
    np.testing.assert_allclose(ours.maps[good], theirs.maps[good], rtol=1e-4, atol=1e-6)
    assert not ours.maps[5].any() and not ours.coverage[5].any()
    assert "1 photograph" in repr(result)


def test_scores_and_maps_that_are_not_finite_and_faces_that_are_not_seen(tmp_path: Path) -> None:
    images, faces, labels = photographs()
    images[2, 1, 20, 20] = torch.nan
    visible, found = faces.visible.clone(), faces.found.clone()
    visible[4], found[6] = False, False
    data = (images, cc.FaceMesh(faces.vertices, visible, (SIDE, SIDE), faces.topology, found), labels)
    result = explain(tmp_path / "run", data=data)
    assert result.n == COUNT - 3
    assert result.run.left_out == {
        2: "image 2: the network's score is nan",
        4: "image 4: nothing of the face is seen in the photograph",
        6: "image 6: no face was found",
    }
    assert bool(torch.isfinite(result.mean).all())


def test_labels_outside_the_range(tmp_path: Path) -> None:
    images, faces, labels = photographs()
    labels = labels.clone()
    labels[3] = 7
    result = explain(tmp_path / "run", data=(images, faces, labels), target="given")
    assert list(result.run.left_out) == [3] and result.n == COUNT - 1
    assert "7" in result.run.left_out[3]
    with pytest.raises(cc.CanonicalError, match=r"every photograph of the first batch fails.*Nothing was written"):
        explain(tmp_path / "all", data=(images, faces, labels + 7), target="given")
    with pytest.raises(cc.CanonicalError, match='"given" expects a class for each photograph, but the data have no'):
        explain(tmp_path / "none", data=(images, faces), target="given")


def test_classes_that_have_names_are_called_by_them(tmp_path: Path) -> None:
    """In strata and columns; the run keeps the numbers, reads folders without names, and names decide nothing."""
    names = ("glad", "sad")
    rows = [(path, number % 2) for number, path in enumerate(write_photos(tmp_path / "photos", 6))]
    data = cc.AlignedFaces(rows, CornerAligner(), size=SIDE, classes=names)
    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)
    result = explain(tmp_path / "run", data=data, canonical_face=corners, num_points=5)
    run = result.run
    assert data.classes == names and tuple(run.classes) == names and set(run.records["label"]) == {0, 1}
    for column in ("label", "predicted", "target"):
        assert result.photos.records[column] == [names[number] for number in run.records[column]]
    assert {*result.strata("label")} == {*names}
    assert {name: part.n for name, part in result.strata("correct").items()} == {
        "correct": sum(a == b for a, b in zip(run.records["label"], run.records["predicted"], strict=True)),
        "wrong": sum(a != b for a, b in zip(run.records["label"], run.records["predicted"], strict=True)),
    }
    other = cc.AlignedFaces(rows, CornerAligner(), size=SIDE, classes=names[::-1])
    again = explain(tmp_path / "run", data=other, canonical_face=corners, num_points=5)
    assert tuple(again.run.classes) == names[::-1] and torch.equal(again.mean, result.mean)
    for column in ("label", "predicted", "target"):
        assert again.photos.records[column] == [names[1 - number] for number in run.records[column]]


def test_as_many_names_of_classes_as_outputs_are_expected(tmp_path: Path) -> None:
    rows = [(path, number % 2) for number, path in enumerate(write_photos(tmp_path / "photos", 6))]
    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)
    for names in (("glad", "sad", "calm"), ("glad", "sad", "calm", "angry")):
        data = cc.AlignedFaces(rows, CornerAligner(), size=SIDE, classes=names)
        with pytest.raises(cc.CanonicalError, match=rf"^classes=.*each of the network's 2 outputs.*got {len(names)} "):
            explain(tmp_path / "run", data=data, canonical_face=corners, num_points=5)
        assert not list((tmp_path / "run").glob("records*"))


def test_a_call_in_which_everything_fails_says_why_at_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def fail(number: int) -> None:
        calls.append(number)
        raise RuntimeError("out of order")

    with pytest.raises(
        cc.CanonicalError, match="every photograph of the first batch fails: RuntimeError: out of order"
    ):
        explain(tmp_path / "run", Network(fail))
    assert len(set(calls)) == 2 and not list((tmp_path / "run").glob("records*"))
    explain(tmp_path / "run")  # the mistake put right, the same folder serves


def test_a_mistake_in_an_argument_does_not_block_the_folder(tmp_path: Path) -> None:
    """Nothing was finished with the wrong settings, so that there is nothing to keep them for."""
    with pytest.raises(cc.CanonicalError, match="every photograph of the first batch fails: patch_size"):
        explain(tmp_path / "run", patch_size=-1)
    assert explain(tmp_path / "run").n == COUNT
    with pytest.raises(cc.CanonicalError, match=r"differ in arguments\.patch_size: 7 there, 5 now"):
        explain(tmp_path / "run", patch_size=5)


def test_bad_files_duplicates_and_files_that_go_away(tmp_path: Path) -> None:
    """The sorts that test_dataset_bad_files knows, on to the result."""
    photos = write_photos(tmp_path / "photos", 6, "jpg")
    photos[0].write_bytes(photos[0].read_bytes()[:400])  # truncated
    photos[1].write_text("no photograph")
    photos[2].write_bytes(b"")
    (tmp_path / "photos/twin.jpg").write_bytes(photos[3].read_bytes())
    with pytest.warns(UserWarning, match="3 of 7 photographs are left out"):
        data = cc.AlignedFaces(tmp_path / "photos", CornerAligner(), size=SIDE).align()
    photos[4].unlink()  # after its face was found
    corners = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)
    result = explain(tmp_path / "run", data=data, canonical_face=corners, num_points=5)
    assert result.n == 3 and sorted(result.run.left_out) == [0, 1, 2, 4]
    assert "went away since its face was found" in result.run.left_out[4]
    assert result.run.left_out_before.keys() == {0, 1, 2}
    records = result.run.records
    status = dict(zip(records["name"], records["status"], strict=True))
    assert status["03.jpg"] == status["twin.jpg"] == "done"


def test_progress_says_photographs_per_second_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(tmp_path / "run", show_progress=True)
    output = capsys.readouterr().err
    assert "13/13" in output and "photo/s" in output and "Explaining" in output
    explain(tmp_path / "run", show_progress=True)
    assert "13/13" in capsys.readouterr().err


def test_memory_that_runs_out_is_no_photograph_s_fault(tmp_path: Path) -> None:
    def too_much(number: int) -> None:
        seen.append(number)
        if len(set(seen)) == 6:
            raise MemoryError

    seen: list[int] = []
    with pytest.raises(MemoryError):
        explain(tmp_path / "run", Network(too_much))
    partial = cc.ModelSaliency.open(tmp_path / "run").run
    assert len(partial) == 4 and partial.left_out == {}


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(cc.CanonicalError, match=r"device: expected one that PyTorch finds here, such as 'cpu', got 99"):
        explain(tmp_path / "run", device=99)
