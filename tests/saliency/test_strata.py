"""Strata: photographs sorted by what is known about them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.saliency.result import ModelSaliency
from captum_canonical.saliency.strata import strata_of
from label_tools import MISSING, NAType
from simulated_maps import SIZE

FACE_SIZE = SIZE


def test_strata(face: CanonicalFace) -> None:
    maps = torch.arange(8.0)[:, None, None, None].expand(8, 1, SIZE, SIZE)
    columns = {
        "group": ["a", "a", "b", "b", "b", None, "a", "b"],
        "label": [0, 1, 1, 0, 1, 0, None, 1],
        "predicted": [0, 1, 0, 0, 1, 1, 1, 0],
        "score": [0.1, 0.9, 0.5, 0.6, 0.7, 0.2, 0.3, 0.4],
        "yaw": [-50, -10, 0, 15, 30, 90, 91, None],
    }
    result = ModelSaliency.from_maps(maps, None, face, **columns)

    def means(*arguments, **more) -> dict[str, float]:
        return {name: float(each.mean.mean()) for name, each in result.strata(*arguments, **more).items()}

    assert means("group") == {"a": 7 / 3, "b": 4.0, "not known": 5.0}
    assert means("correct") == {"correct": 2.0, "wrong": 14 / 3, "not known": 6.0}
    assert list(means("true_predicted")) == [
        "0 taken for 0",
        "0 taken for 1",
        "1 taken for 0",
        "1 taken for 1",
        "not known",
    ]
    assert {name: each.n for name, each in result.strata("confidence", bins=2).items()} == {
        "score 0.1 to 0.45": 4,
        "score 0.45 to 0.9": 4,
    }
    scores = {"score 0 to 0.25": 2.5, "score 0.25 to 0.5": 5.0, "not known": 8 / 3}
    assert means("score", bins=[0, 0.25, 0.5]) == pytest.approx(scores)
    assert means("pose") == {"yaw -90 to -15": 0, "yaw -15 to 15": 1.5, "yaw 15 to 90": 4.0, "not known": 6.5}
    assert list(means(["group", "correct"])) == ["a, correct", "b, correct", "b, wrong", "not known"]
    assert means(list("xxyyxxyy")) == {"x": 2.5, "y": 4.5}
    assert result.strata("group")["b"].records["score"] == [0.5, 0.6, 0.7, 0.4]
    for bad, message in (
        ("colour", r"a column among \['group'"),
        (["group", "colour"], "a column, several of them"),
        (list("abc"), "got 3 entries such as"),
    ):
        with pytest.raises(CanonicalError, match=message):
            result.strata(bad)
    with pytest.raises(CanonicalError, match="rising edges"):
        result.strata("score", bins=[1, 0])
    empty = ModelSaliency.from_maps(maps, None, face, group=[None] * 8)
    with pytest.raises(CanonicalError, match="nothing is known"):
        empty.strata("group")


NUMBERS = st.one_of(st.none(), st.just(math.nan), st.floats(-2, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30), st.lists(st.floats(-2, 2), min_size=2, max_size=6, unique=True))
def test_bins_with_edges_equal_a_loop(scores: list[float | None], edges: list[float]) -> None:
    edges = sorted(edges)
    want: list[list[int]] = [[] for _ in edges]  # the last one of those in no bin
    for number, score in enumerate(scores):
        place = len(edges) - 1
        for at in range(len(edges) - 1):
            last = at == len(edges) - 2
            if score is not None and edges[at] <= score and (score < edges[at + 1] or (last and score == edges[-1])):
                place = at
        want[place].append(number)
    if len(want[-1]) == len(scores):
        with pytest.raises(CanonicalError, match="nothing is known"):
            strata_of({"score": scores}, len(scores), "confidence", edges)
        return
    assert list(strata_of({"score": scores}, len(scores), "confidence", edges).values()) == [
        each for each in want if each
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.integers(1, 5))
def test_bins_by_number_hold_equally_many_and_every_photograph_once(scores: list[float], bins: int) -> None:
    found = strata_of({"score": scores}, len(scores), "confidence", bins)
    assert sorted(number for each in found.values() for number in each) == list(range(len(scores)))
    sizes = [len(each) for each in found.values()]
    assert max(sizes) - min(sizes) <= 2 or len(scores) < 2 * bins
    ends = [(min(scores[number] for number in each), max(scores[number] for number in each)) for each in found.values()]
    assert all(high < low for (_, high), (low, _) in pairwise(ends))


def test_names_of_narrow_bins_differ() -> None:
    scores = [0.99903, 0.99911, 0.99920, 0.99928, 0.99939, 0.99947]  # all of them 0.999
    assert list(strata_of({"score": scores}, 6, "confidence").values()) == [[0, 1], [2, 3], [4, 5]]


def test_nan_is_not_known_and_tensors_are_entries() -> None:
    many = [number + 0.5 for number in range(20)]
    found = strata_of({"age": [*many, math.nan]}, 21, "age")
    assert [len(each) for each in found.values()] == [7, 6, 7, 1] and found["not known"] == [20]
    few = strata_of({"yaw": [-21.3, 4.5, 17.25, -3.5, 9.75, 2.5]}, 6, "yaw")  # measured: hardly two are the same
    assert [len(each) for each in few.values()] == [2, 2, 2]
    doses = strata_of({"dose": [0.5, 1.5, 0.5, 1.5]}, 4, "dose")
    assert doses == {"0.5": [0, 2], "1.5": [1, 3]}
    assert strata_of({"age": [3.0, math.nan]}, 2, "age") == {"3": [0], "not known": [1]}
    assert strata_of({}, 3, torch.tensor([1, 0, 1])) == {"0": [1], "1": [0, 2]}


@pytest.mark.parametrize("absent", MISSING, ids=repr)
def test_groups_that_are_missing_or_equal(face: CanonicalFace, absent: Any) -> None:
    groups = ["1", 1.0, "x", absent, 1, "1.0 "]
    maps = torch.zeros(6, 1, SIZE, SIZE)
    expected = {"1": 4, "x": 1, "not known": 1}
    result = ModelSaliency.from_maps(maps, None, face, group=groups)
    assert {name: each.n for name, each in result.strata("group").items()} == expected
    assert {name: each.n for name, each in result.strata(groups).items()} == expected
    crossed = ModelSaliency.from_maps(maps, None, face, group=groups, sex=["f"] * 6).strata(["group", "sex"])
    assert {name: each.n for name, each in crossed.items()} == {"1, f": 4, "x, f": 1, "not known": 1}


def test_groups_that_are_texts_for_missing(face: CanonicalFace) -> None:
    maps, groups = torch.zeros(4, 1, SIZE, SIZE), ["a", "nan", "-", "a"]
    with pytest.warns(UserWarning, match="from_maps: group: 2 of 4 entries are taken as missing"):
        result = ModelSaliency.from_maps(maps, None, face, group=groups)
    assert {name: each.n for name, each in result.strata("group").items()} == {"a": 2, "not known": 2}
    with pytest.warns(UserWarning, match="strata: 2 of 4 entries are taken as missing"):
        assert list(result.strata(groups)) == ["a", "not known"]


def test_classes_keep_their_names_and_missing_ones_are_neither_right_nor_wrong() -> None:
    records = {"label": ["None", "NA", math.nan, NAType(), 1], "predicted": ["None", "None", 1.0, 1.0, "1.0"]}
    assert strata_of(records, 5, "correct") == {"correct": [0, 4], "wrong": [1], "not known": [2, 3]}
    assert list(strata_of(records, 5, "label")) == ["1", "NA", "None", "not known"]
    pairs = strata_of(records, 5, "true_predicted")
    assert pairs == {"1 taken for 1": [4], "NA taken for None": [1], "None taken for None": [0], "not known": [2, 3]}
    assert strata_of({"score": [0.1, NAType(), None, 0.9]}, 4, "confidence", 1)["not known"] == [1, 2]


def test_texts_have_no_bins() -> None:
    for by, records in (("group", {"group": ["a", None, "b"]}), (["a", "b", 1], {})):
        with pytest.raises(CanonicalError, match=r"bins: expected numbers in .*got 'a'; texts are strata without bins"):
            strata_of(records, 3, by, 2)


@pytest.mark.parametrize("bins", [2.5, ["low", "high"], "ab"])
def test_bins_that_are_no_numbers_are_an_error(bins: Any) -> None:
    with pytest.raises(CanonicalError, match="bins: expected how many there are, or their edges"):
        strata_of({"score": [0.1, 0.7]}, 2, "score", bins)
