"""Classes: as many as the network has outputs, whether named or counted, and targets by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import captum_canonical as cc
from dataset_tools import CornerAligner, write_photos
from run_tools import SIDE, Network, explain

ROWS = 4
CORNERS = cc.CanonicalFace.from_vertices(torch.rand(3, SIDE, SIDE), torch.rand(9, 3) * SIDE)


def data(folder: Path, classes: Any) -> cc.AlignedFaces:
    return cc.AlignedFaces(write_photos(folder, ROWS), CornerAligner(), size=SIDE, classes=classes)


def run(folder: Path, classes: Any, network: Any = None, **arguments: Any) -> cc.ModelSaliency:
    given = {"data": data(folder / "photos", classes), "canonical_face": CORNERS, "num_points": 5}
    return explain(folder / "run", network, **(given | arguments))


@pytest.mark.parametrize("classes", [1, 3, ["a"], ["a", "b", "c"]])
def test_as_many_classes_as_outputs_are_expected(tmp_path: Path, classes: Any) -> None:
    with pytest.raises(cc.CanonicalError, match=r"^classes=.*network's 2 outputs"):
        run(tmp_path, classes)
    assert not list((tmp_path / "run").glob("records*"))
    assert run(tmp_path, 2).n == ROWS
    with pytest.raises(cc.CanonicalError, match=r"^classes=.*network's 2 outputs"):
        run(tmp_path, classes)  # of a run that is finished, whose network need not be run any more
    assert cc.ModelSaliency.open(tmp_path / "run").run.classes is None


def test_a_network_of_one_score_has_any_classes(tmp_path: Path) -> None:
    net = Network()
    assert run(tmp_path, 7, lambda x: net(x)[:, 1], network_key="one", device="cpu").n == ROWS


def test_a_first_photograph_that_fails_hides_no_number(tmp_path: Path) -> None:
    def fail(number: int) -> None:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError("not to my taste")

    calls: list[int] = []
    with pytest.raises(cc.CanonicalError, match=r"^classes=3: expected the network's 2 outputs"):
        run(tmp_path, 3, Network(fail))


@pytest.mark.parametrize("number", [0, -1, True])
def test_a_number_of_classes_is_one(tmp_path: Path, number: Any) -> None:
    with pytest.raises(cc.CanonicalError, match=r"^classes: expected an integer from 1 on"):
        data(tmp_path, number)


def test_a_class_by_its_name_is_the_class(tmp_path: Path) -> None:
    by_name = run(tmp_path / "a", ("man", "woman"), target="woman")
    by_index = run(tmp_path / "b", ("man", "woman"), target=1)
    assert torch.equal(by_name.mean, by_index.mean) and set(by_name.run.records["target"]) == {1}
    assert run(tmp_path / "a", ("man", "woman"), target=1).run.path == tmp_path / "a/run"  # the same run goes on
    with pytest.raises(cc.CanonicalError, match=r'^target: expected "predicted", .* man, woman.*got \'women\''):
        run(tmp_path / "c", ("man", "woman"), target="women")
    with pytest.raises(cc.CanonicalError, match=r"^target: .*classes have no names here.*got .woman"):
        run(tmp_path / "c", 2, target="woman")
