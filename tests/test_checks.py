"""Checks of arguments: what they let through, and the words of what they do not."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from captum_canonical import CanonicalError, CanonicalFace
from captum_canonical.checks import check_choice, check_device, check_integer, check_number

NAN = float("nan")


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2)])
def test_integers(value: object) -> None:
    found = check_integer("n", value, 2, 2)
    assert found == 2 and type(found) is int


@pytest.mark.parametrize("value", [1, 4, True, 2.0, NAN, "2", None, np.float64(2), [2]])
def test_what_is_no_integer_of_the_range(value: object) -> None:
    with pytest.raises(CanonicalError, match=re.escape(f"n: expected an integer from 2 to 3, got {value!r}.")):
        check_integer("n", value, 2, 3)


def test_integers_without_an_upper_end_and_in_other_words() -> None:
    assert check_integer("n", 10**30, 0) == 10**30
    with pytest.raises(CanonicalError, match=r"n: expected an integer from 0 on, got -1\."):
        check_integer("n", -1, 0)
    with pytest.raises(CanonicalError, match=r"n: expected one or two, got 3\."):
        check_integer("n", 3, 1, 2, expected="one or two")


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), Fraction(1, 2)])
def test_numbers(value: object) -> None:
    found = check_number("x", value, above=0, most=1)
    assert found == value and type(found) is float


@pytest.mark.parametrize("value", [0, 1.01, NAN, True, "0.5", None, float("inf")])
def test_what_is_no_number_of_the_range(value: object) -> None:
    with pytest.raises(CanonicalError, match=re.escape(f"x: expected a number above 0 and at most 1, got {value!r}.")):
        check_number("x", value, above=0, most=1)


def test_the_ends_of_a_range() -> None:
    assert check_number("x", 0, least=0, below=1) == 0
    assert check_number("x", -1e300) == -1e300
    for value, range_, words in (
        (-1, {"least": 0}, "a number at least 0"),
        (1, {"below": 1}, "a number below 1"),
        (NAN, {}, "a number"),
        (3, {"most": 2, "expected": "few"}, "few"),
    ):
        with pytest.raises(CanonicalError, match=f"x: expected {words}, got"):
            check_number("x", value, **range_)


def test_choices() -> None:
    check_choice("fruit", "fig", ("apple", "fig", "plum"))
    with pytest.raises(CanonicalError, match="fruit: expected 'apple', 'fig' or 'plum', got 'pear'"):
        check_choice("fruit", "pear", ("apple", "fig", "plum"))
    for value in (None, ["fig"], np.array(["fig"])):
        with pytest.raises(CanonicalError, match="fruit: expected 'apple' or 'fig', got "):
            check_choice("fruit", value, ("apple", "fig"))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", 99, -2, 1.5, "meta:x"])
def test_devices_that_are_not_there(device: object) -> None:
    with pytest.raises(CanonicalError, match="device: expected one that PyTorch finds here"):
        check_device("device", device)
    assert check_device("device", "cpu") == check_device("device", torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("size", [0, -1, "a", None, 2.5])
def test_sizes_of_the_canonical_face(size: object) -> None:
    with pytest.raises(CanonicalError, match="size: expected a number of pixels from 1 on"):
        CanonicalFace.default(size)  # type: ignore[arg-type]
