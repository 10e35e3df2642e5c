"""A target for each photograph of a run, and galleries in which a photograph is not compared with itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import captum_canonical as cc
from captum_canonical.runs.targets import gallery_names
from dataset_tools import CornerAligner, write_photos
from output_tools import HEADS, SevenLogits
from run_tools import COUNT, SIDE, explain, labelled, photographs, summary, together

CLASSES = [number % 2 for number in range(COUNT)]
NAMES = [f"photo {number}" for number in range(COUNT)]
CORNERS = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)


@pytest.mark.parametrize(
    "target", [CLASSES, torch.tensor(CLASSES), np.array(CLASSES), dict(zip(NAMES, CLASSES, strict=True))]
)
def test_targets_of_photographs_are_those_of_the_data(tmp_path: Path, target: Any) -> None:
    given = explain(tmp_path / "given", data=labelled(), target="given")  # the same numbers in the data
    own = explain(tmp_path / "own", data=labelled(), target=target)
    assert_close(own.mean, given.mean, rtol=0, atol=0)
    assert own.photos.records["target"] == given.photos.records["target"]
    before = summary(tmp_path / "own")
    explain(tmp_path / "own", data=labelled(), target=target)  # goes on
    assert summary(tmp_path / "own") == before
    other = [1 - each for each in CLASSES]
    with pytest.raises(cc.CanonicalError, match="differ in target"):
        explain(tmp_path / "own", data=labelled(), target=other)


def test_several_processes_have_the_targets_of_one(tmp_path: Path) -> None:
    alone = explain(tmp_path / "alone", target=CLASSES)
    codes, output = together(tmp_path, "explain", 2, out=tmp_path / "run", target=CLASSES)
    assert codes == [0, 0], output
    result = cc.ModelSaliency.open(tmp_path / "run")
    assert result.run.records["target"] == alone.run.records["target"]
    assert_close(result.mean, alone.mean)


def test_names_of_classes_and_photographs_of_files(tmp_path: Path) -> None:
    data = cc.AlignedFaces(write_photos(tmp_path / "photos", 4), CornerAligner(), size=SIDE)
    confidence = cc.ClassConfidence(SevenLogits(), output="race", classes=HEADS)
    rows = {row.path: row.name for row in data.rows}
    names = ["r2", "r0", "r1", "r1"]
    runs = [
        explain(tmp_path / str(place), confidence, data, target=target, canonical_face=CORNERS, num_points=5)
        for place, target in enumerate(
            (names, dict(zip(rows.values(), names, strict=True)), dict(zip(map(str, rows), [2, 0, 1, 1], strict=True)))
        )
    ]
    for run in runs:
        found = dict(zip(run.photos.records["name"], run.photos.records["target"], strict=True))
        assert found == dict(zip(rows.values(), names, strict=True))
        assert_close(run.mean, runs[0].mean, rtol=0, atol=0)


def test_a_column_of_the_data(tmp_path: Path) -> None:
    from dataclasses import replace

    data = replace(labelled(), group_columns={"race": [["r1", "2"][number % 2] for number in range(COUNT)]})
    confidence = cc.ClassConfidence(SevenLogits(), output="race", classes=HEADS)
    result = explain(tmp_path / "run", confidence, data, target="race")
    found = dict(zip(result.photos.records["name"], result.photos.records["target"], strict=True))
    assert found == {name: ["r1", "r2"][place % 2] for place, name in enumerate(NAMES)}
    with pytest.raises(cc.CanonicalError, match="1 have none: photo 3"):
        missing = replace(data, group_columns={"race": [None if number == 3 else "r0" for number in range(COUNT)]})
        explain(tmp_path / "other", confidence, missing, target="race")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (CLASSES[:-1], r"one for each of the 13 photographs of the data, .* got 12"),
        ({"photo 1": 1}, r"one for each photograph, but 12 have none: photo 0, photo 2"),
        ({**dict.fromkeys(NAMES, 1), "nobody": 0}, r"names or paths of photographs, such as 'photo 0', got 'nobody'"),
        ([*CLASSES[:-1], None], "1 have none: photo 12"),
        ([*CLASSES[:-1], 0.5], "class indices or names, got 0.5"),
        ([*CLASSES[:-1], "sad"], "a class index .classes have no names here"),
        (0.5, "a class, one for each photograph or None, got 0.5"),
    ],
)
def test_what_is_no_target_of_each(tmp_path: Path, target: Any, message: str) -> None:
    with pytest.raises(cc.CanonicalError, match=message):
        explain(tmp_path, data=labelled(), target=target)


def test_photographs_of_one_name_need_paths(tmp_path: Path) -> None:
    with pytest.raises(cc.CanonicalError, match="13 photographs are called 'x'; give their paths"):
        explain(tmp_path, data=labelled(names=["x"] * COUNT), target={"x": 1})


def gallery(labels: list[Any]) -> cc.ZeroShotConfidence:
    encoder, (images, _, _) = SevenLogits(), photographs()
    return cc.ZeroShotConfidence(encoder, encoder(images).detach(), labels)


PEOPLE = [f"p{number // 3}" for number in range(COUNT)]  # the last one is alone


def nearest_by_hand(confidence: cc.ZeroShotConfidence, same: bool) -> list[int | None]:
    cosines = confidence(photographs()[0]).detach()
    found: list[int | None] = []
    for row in range(COUNT):
        others = [each for each in range(COUNT) if each != row and (not same or PEOPLE[each] == PEOPLE[row])]
        found.append(max(others, key=lambda each: float(cosines[row, each])) if others else None)
    return found


@pytest.mark.parametrize("target", ["predicted", "given"])
def test_a_photograph_is_not_its_own_nearest_neighbour(tmp_path: Path, target: str) -> None:
    confidence = gallery(PEOPLE)
    result = explain(tmp_path, confidence, labelled(identities=PEOPLE), target=target)
    names = gallery_names(PEOPLE)
    expected = {
        NAMES[row]: None if place is None else names[place]
        for row, place in enumerate(nearest_by_hand(confidence, target == "given"))
    }
    records = result.run.records
    found = {
        name: None if place is None else names[place]
        for name, place in zip(records["name"], records["target"], strict=True)
    }
    assert found == expected
    failed = [name for name, status in zip(records["name"], records["status"], strict=True) if status != "done"]
    assert failed == ([NAMES[12]] if target == "given" else [])
    scores = dict(zip(records["name"], records["score"], strict=True))
    assert max(score for score in scores.values() if score is not None) < 1 - 1e-6
    if failed:
        (reason,) = [each for each in records["reason"] if each]
        assert "another photograph of 'p4' than the one that is explained" in reason


def test_without_identities_nobody_is_given(tmp_path: Path) -> None:
    with pytest.raises(cc.CanonicalError, match="expects the identity of each photograph"):
        explain(tmp_path, gallery(PEOPLE), target="given")


def test_another_gallery_is_another_run(tmp_path: Path) -> None:
    explain(tmp_path, gallery(PEOPLE), labelled(identities=PEOPLE))
    with pytest.raises(cc.CanonicalError, match="network: "):
        explain(tmp_path, gallery(PEOPLE[::-1]), labelled(identities=PEOPLE))


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_half_precision_knows_the_photograph_itself(dtype: torch.dtype) -> None:
    features = torch.nn.functional.normalize(torch.randn(6, 64), dim=1)
    confidence = cc.ZeroShotConfidence(torch.nn.Identity(), features, list("abcabc"))
    similarity = confidence(features.to(dtype))
    assert confidence.nearest(similarity, list("abcabc")).tolist() == [3, 4, 5, 0, 1, 2]
