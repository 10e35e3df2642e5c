"""Labels: one rule for what is missing and what is equal, and nobody without an identity is anybody else."""

from __future__ import annotations

import math
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from captum_canonical.errors import CanonicalError
from captum_canonical.statistics.labels import MISSING_TEXTS, label_of, labels_of, people_units, without_missing
from label_tools import MISSING, NAType


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_values_that_are_missing(value: Any) -> None:
    assert label_of(value) is None


@pytest.mark.parametrize(
    "same",
    [
        (1, 1.0, "1", "1.0", " 1 ", "1.000", np.int64(1), np.float32(1), torch.tensor(1), torch.tensor(1.0)),
        (1, Decimal(1), Decimal("1.0"), Decimal("1E0"), Fraction(1)),
        ("Ann", "\ufeffAnn", "Ann\u200b ", " \u200e Ann\u200f"),
        (0, -0.0, "0", "-0.0", np.uint8(0)),
        ("Ann", " Ann", "Ann\n", "Ann\N{NO-BREAK SPACE}", np.str_("Ann")),
        ("Zoe\N{COMBINING DIAERESIS}", "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}"),
        (2.5, "2.5", np.float64(2.5), Decimal("2.5")),
        (True, np.True_, "True"),
    ],
    ids=str,
)
def test_labels_that_are_equal(same: tuple[Any, ...]) -> None:
    assert len({label_of(value) for value in same}) == 1


def test_labels_that_differ() -> None:
    different = ["1", "01", "001.0", "1.5", "1.", "1e0", "-1", "ann", "Ann", "Na", "Nan", "Null", "none", ("a", 1)]
    assert len({label_of(value) for value in different}) == len(different)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert None not in labels_of(different, len(different), "identities")
    assert label_of(10**400) == str(10**400) and label_of(math.inf) == "inf"


def test_bytes_are_texts() -> None:
    """As NumPy and HDF5 hold them."""
    assert labels_of(np.array(["Ann", "Bob", ""], "S"), 3, "identities") == ["Ann", "Bob", None]
    assert labels_of([b"1.0", 1, "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}".encode()], 3, "group")[:2] == ["1", "1"]
    assert len(set(labels_of(["Zo\xeb", "Zo\xeb".encode()], 2, "group"))) == 1


def test_texts_that_stand_for_missing_are_counted() -> None:
    match = r"identities: 4 of 6 entries are taken as missing \('nan' 3 times, '-' 1 times\)"
    with pytest.warns(UserWarning, match=match):
        found = labels_of(["nan", "Ann", " nan", None, "-", "nan"], 6, "identities")
    assert found == [None, "Ann", None, None, None, None]
    with pytest.warns(UserWarning, match=f"{len(MISSING_TEXTS)} of {len(MISSING_TEXTS)} entries"):
        assert labels_of(sorted(MISSING_TEXTS), len(MISSING_TEXTS), "group") == [None] * len(MISSING_TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert without_missing(["None", 0, math.nan], 3, "label", texts=False) == ["None", 0, None]


@pytest.mark.parametrize(
    "values",
    [
        ["7", None, "7", float("nan")],
        torch.tensor([7.0, math.nan, 7.0, math.nan]),
        np.array([7.0, np.nan, 7.0, np.nan]),
        np.array([7, NAType(), "7.0", ""], object),
        np.ma.masked_array([7, 0, 7, 0], [False, True, False, True]),
        (each for each in (7, None, 7.0, " ")),
    ],
    ids=["list", "tensor", "array", "objects", "masked", "generator"],
)
def test_nobody_without_an_identity_is_anybody_else(values: Any) -> None:
    assert people_units(labels_of(values, 4, "identities")).tolist() == [0, 1, 0, 2]


def test_columns_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    for column in (
        pandas.Series([7, None, 7, None]),
        pandas.Series([7, None, 7, None], dtype="Int64"),
        pandas.Series(["7", pandas.NA, "7.0", pandas.NaT], dtype="object"),
        pandas.Series(["7", None, "7", None], dtype="string"),
        pandas.Series(["7", None, "7", None], dtype="category"),
    ):
        assert labels_of(column, 4, "identities") == ["7", None, "7", None]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ("abc", r"who: expected a list with one entry for each image, got 'abc'"),
        ({"a": 1, "b": 2, "c": 3}, "expected a list"),
        ({"a", "b", "c"}, "expected a list"),
        (torch.ones(3, 1), r"got shape \(3, 1\)"),
        (torch.tensor(3), r"got shape \(\)"),
        (3, "got a int"),
        (["a", "b"], "expected one entry for each of the 3 photographs, got 2"),
        ([["a"], "b", "c"], r"expected texts or numbers, got \['a'\]"),
        ([(["a"],), "b", "c"], r"expected texts or numbers, got \(\['a'\],\)"),
    ],
)
def test_what_is_no_list_of_labels(values: Any, match: str) -> None:
    with pytest.raises(CanonicalError, match=match):
        labels_of(values, 3, "who")
