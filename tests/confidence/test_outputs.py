"""Networks that return more than one matrix: what counts is found, or taken by key, place, columns or head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from captum_canonical import ClassConfidence
from captum_canonical.adapters import as_network
from captum_canonical.confidence import NetworkOutput, RegressionConfidence, ZeroShotConfidence
from captum_canonical.errors import CanonicalError
from captum_canonical.fingerprint import network_digest
from confidence_tools import photos
from output_tools import COLUMNS, FOUND, HEADS, RACES, Returns, SevenLogits


@pytest.mark.filterwarnings("ignore:.*probably are in the gallery")
@pytest.mark.parametrize("kind", FOUND)
def test_logits_are_found_by_themselves(kind: str) -> None:
    x = photos()
    logits = SevenLogits()(x)
    assert_close(ClassConfidence(Returns(kind))(x), logits.softmax(1))
    assert_close(as_network(Returns(kind))(x), logits)
    recognition = ZeroShotConfidence(Returns(kind), logits[:2], [0, 1])
    assert recognition.target(x[:2], [0, 1], exclude=[-1, -1]).tolist() == [0, 1]
    assert_close(recognition.outputs(x), logits)


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        *[("dictionary", "scores"), ("tuple", 1), ("tuple", -1), ("model output", "logits"), ("model output", 0)],
        *[("data class", "logits"), ("named tuple", "logits"), ("named tuple", 1), ("nested", ("out", "logits"))],
        *[("nested", "out"), ("tensor", slice(None)), ("model output", ("hidden_states", 1))],
    ],
)
def test_a_part_is_taken_by_its_name_or_place(kind: str, output: Any) -> None:
    x = photos()
    assert_close(as_network(Returns(kind), output)(x), SevenLogits()(x))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["tensor", "model output", "heads"])
def test_a_head_is_softmaxed_by_itself(kind: str, head: str) -> None:
    x, confidence = photos(), ClassConfidence(Returns(kind), output=head, classes=HEADS)
    logits = SevenLogits()(x)[:, COLUMNS[head]].detach()
    for row in range(3):  # by hand
        odds = [float(value.exp()) for value in logits[row]]
        assert_close(confidence(x)[row], torch.tensor([each / sum(odds) for each in odds]))
    assert confidence.classes == HEADS[head]
    p = logits.softmax(1)
    assert_close(ClassConfidence(Returns(kind), "log_odds", head, HEADS)(x), (p / (1 - p)).log(), rtol=1e-4, atol=1e-4)


def test_heads_may_be_given_by_the_number_of_their_classes_and_inside_a_part() -> None:
    x, sizes = photos(), {"race": 3, "gender": ("f", "m"), "age": 2}
    net = as_network(Returns("dictionary"), ("scores", "age"), sizes)
    assert_close(net(x), SevenLogits()(x)[:, 5:7])
    assert net.classes is None and net.head == "age" and net.part == "scores, age"
    assert as_network(Returns("dictionary"), ("scores", "gender"), sizes).classes == ("f", "m")


def test_columns_of_one_vector_with_names() -> None:
    x, confidence = photos(), ClassConfidence(SevenLogits(), output=slice(0, 3), classes=RACES)
    assert_close(confidence(x), SevenLogits()(x)[:, :3].softmax(1))
    assert confidence.classes == RACES


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (np.array([[0.25, 0.75], [1.0, 0.0]]), [[0.25, 0.75], [1.0, 0.0]]),
        (np.array([0.25, 0.75], np.float32), [[0.25], [0.75]]),
        ([0.25, np.float64(0.75)], [[0.25], [0.75]]),
        ([torch.tensor(0.25), torch.tensor(0.75)], [[0.25], [0.75]]),
        ({"logits": np.array([[1], [2]])}, [[1], [2]]),
    ],
)
def test_results_of_black_boxes(result: Any, expected: Any) -> None:
    assert as_network(lambda x: result)(photos(2)).tolist() == expected


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), {"score": 0.5}])
def test_a_number_is_the_score_of_the_only_photograph(number: Any) -> None:
    assert as_network(lambda x: number)(photos(1)).tolist() == [[0.5]]
    assert RegressionConfidence(lambda x: number)(photos(1), 1.5).tolist() == [-1.0]
    with pytest.raises(CanonicalError, match=r"expected scores of shape \(N, K\) or \(N,\)"):
        as_network(lambda x: number)(photos(2))


@pytest.mark.parametrize(
    ("kind", "output", "classes", "message"),
    [
        (
            "dictionary",
            None,
            None,
            r"expected logits .* got dict of 'scores' \(3, 7\), 'x' \(3, 3, 12, 10\); .*output=",
        ),
        ("dictionary", "score", None, r"returns dict of 'scores' \(3, 7\), .* there is no 'score'; 'scores'\?"),
        ("tuple", 2, None, r"returns tuple of 0 \(3, 3, 12, 10\), 1 \(3, 7\), in which there is no 2\."),
        ("tuple", "logits", None, "there is no 'logits'"),
        (
            "tensor",
            "logits",
            None,
            r"returns \(3, 7\), in which there is no 'logits'. Columns are taken by output=slice",
        ),
        ("tensor", 1, None, r"there is no 1. Columns are taken by output=slice\(start, stop\)"),
        ("dictionary", slice(0, 2), None, r"returns dict of .*no matrix whose columns"),
        ("tuple", 0, None, r"expected scores of shape \(N, K\) or \(N,\) from the network, got \(3, 3, 12, 10\)"),
        ("tensor", "rase", HEADS, r"one of the heads in classes, race, gender, age, got 'rase'"),
        ("tensor", None, HEADS, r"one of the heads in classes, race, gender, age, got None"),
        ("tensor", "race", {"race": 3, "age": 2}, r"columns, 7, got 5 \(race 3, age 2\)"),
        (
            "tensor",
            None,
            ("a", "b"),
            r"a name for each of the 7 columns .* got 2 \(a, b\); several heads",
        ),
        ("tensor", None, ("a", "a"), "different names"),
        ("tensor", None, 7, "a sequence of names, got 7"),
        ("tensor", slice(0, 3), HEADS, r"one of the heads in classes, race, gender, age, got slice\(0, 3, None\)"),
        ("tensor", "race", {"race": 8, "age": -1}, r"classes\['age'\]: expected an integer from 1 on, got -1"),
        ("tensor", None, "abc", "a sequence of names"),
        ("tensor", 1.5, None, "a key, the place in a tuple"),
        ("tensor", True, None, "a key, the place in a tuple"),
    ],
)
def test_what_is_not_there_is_refused(kind: str, output: Any, classes: Any, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        ClassConfidence(Returns(kind), output=output, classes=classes)(photos())


def test_one_logit_has_two_classes() -> None:
    confidence = ClassConfidence(lambda x: (x.mean((1, 2, 3)), x), output=0, classes=("no", "yes"))
    assert confidence(photos()).shape == (3, 2) and confidence.classes == ("no", "yes")


def test_another_part_is_another_network() -> None:
    net = SevenLogits()
    parts = [*HEADS, slice(0, 3), slice(0, 2)]
    made = [NetworkOutput(net, part, HEADS if isinstance(part, str) else None) for part in parts]
    assert len({network_digest(each) for each in [*made, net, NetworkOutput(net)]}) == len(parts) + 2
    assert network_digest(made[0]) == network_digest(NetworkOutput(SevenLogits(), "race", HEADS))
    one, other = (ClassConfidence(lambda x, head=head: net(x)[:, COLUMNS[head]]) for head in ("race", "age"))
    assert network_digest(one) != network_digest(other)


@pytest.mark.parametrize("columns", [slice(3, 3), slice(7, 9), slice(1, 6), slice(-6, 2)])
def test_columns_that_there_are_not(columns: slice) -> None:
    with pytest.raises(CanonicalError, match=r"returns \(2, 5\), in which there is no matrix whose columns"):
        as_network(lambda x: x, columns)(torch.ones(2, 5))
    assert as_network(lambda x: x, slice(-5, 5))(torch.ones(2, 5)).shape == (2, 5)


@pytest.mark.parametrize(("output", "classes"), [(None, ["female"]), ("gender", {"race": 3, "gender": ["female"]})])
def test_one_name_for_a_single_logit_would_name_the_negative_side(output: str | None, classes: Any) -> None:
    with pytest.raises(CanonicalError, match=r"two classes apart.*name both, such as \['not female', 'female'\]"):
        ClassConfidence(torch.nn.Identity(), output=output, classes=classes)
