"""Labels of photographs, such as identities and groups: which are equal, and which are missing.

One rule for tables, lists, tensors and DataFrames: None, NaN, ``pd.NA``, masked and empty entries are missing, and so
are the texts :data:`MISSING_TEXTS`, with which programs write a missing value. A photograph whose identity is missing
is a person of its own. Spaces and invisible characters around a label do not count, bytes are texts, and a number is
the same label however it is written: 1, 1.0, Decimal("1.0"), "1" and "1.0".
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from numbers import Integral, Real
from types import NoneType
from typing import Any

from torch import Tensor

from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.statistics.units import factorize

MISSING_TEXTS = frozenset(
    ("nan", "NaN", "NAN", "-nan", "-NaN", "NA", "N/A", "n/a", "#NA", "#N/A", "<NA>", "NaT", "None", "NULL", "null")
    + ("?", "-", "--", "\N{EN DASH}", "\N{EM DASH}")
)
"""Case matters: Nan, Na and Null are names of people, "none" may well be a group."""
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_MISSING_TYPES = ("NAType", "MaskedConstant")  # of pandas and NumPy; pd.NA has no truth value when it is compared


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT, ``pd.NA``, masked or an empty text.

    Example::

        >>> [is_missing(value) for value in (None, float("nan"), " ", 0, "nan")]
        [True, True, True, False, False]
    """
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return True
    if isinstance(value, str):
        return not _stripped(value)
    try:
        return bool(value != value)
    except (TypeError, ValueError, RuntimeError):  # arrays and tensors of several values
        return False


def label_of(value: Any) -> Hashable | None:
    """A label in the form in which equal ones are equal: numbers as texts, texts without spaces around; None: missing.

    Example::

        >>> [label_of(value) for value in (1, 1.0, " 1.0", 2.5, "007", True, float("nan"))]
        ['1', '1', '1', '2.5', '007', 'True', None]
    """
    if is_missing(value):
        return None
    if getattr(value, "shape", None) == ():  # numbers of NumPy and torch
        value = value.item()
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", _stripped(value))  # file systems and tables write accents in different ways
        number = _WHOLE_NUMBER.fullmatch(text)
        return str(int(number[1])) if number else text
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        return str(int(float(value)))
    return str(value) if isinstance(value, Real) else value


def labels_of(values: Any, count: int, who: str) -> list[Hashable | None]:
    """One label for each photograph as of :func:`label_of`, None where it is missing; warns of texts that are missing.

    Args:
        values: a list, tensor, array or column of a table; None: all are missing.
        count: the number of photographs.
        who: the argument, for messages.

    Raises:
        CanonicalError: it is not one label for each photograph, or one of them cannot be a label.

    Example::

        >>> labels_of([1, "1.0", None, float("nan"), "Ann "], 5, "identities")
        ['1', '1', None, None, 'Ann']
    """
    labels = [label_of(value) for value in without_missing(values, count, who)]
    try:
        hash(tuple(labels))
    except TypeError:
        unfit = next(label for label in labels if not isinstance(label, (str, NoneType)))
        raise CanonicalError(f"{who}: expected texts or numbers, got {unfit!r}.") from None
    return labels


def label_texts(values: Any, count: int, who: str) -> list[str | None]:
    """Like :func:`labels_of`, with labels of other types, such as tuples, as texts."""
    return [None if label is None else str(label) for label in labels_of(values, count, who)]


def without_missing(values: Any, count: int, who: str, texts: bool = True) -> list[Any]:
    """The entries as they are, None where they are missing.

    Args:
        values, count, who: as in :func:`labels_of`.
        texts: whether :data:`MISSING_TEXTS` are missing, too, with a warning that counts them.

    Raises:
        CanonicalError: it is not one entry for each photograph.
    """
    if values is None:
        return [None] * count
    entries = _entries(values, who)
    if len(entries) != count:
        raise CanonicalError(f"{who}: expected one entry for each of the {count} photographs, got {len(entries)}.")
    found = Counter(text.strip() for text in entries if texts and isinstance(text, str) and _stands_for_missing(text))
    if found:
        listed = ", ".join(f"{text!r} {times} times" for text, times in found.most_common(5))
        warnings.warn(
            f"{who}: {found.total()} of {count} entries are taken as missing ({listed}); where such a text is a name, "
            "write it in another way.",
            stacklevel=user_stacklevel(),
        )
    return [
        None if is_missing(each) or (texts and isinstance(each, str) and _stands_for_missing(each)) else each
        for each in entries
    ]


def people_units(identities: Sequence[Hashable | None]) -> Tensor:
    """(N,) int64 codes of people, from 0 on in the order of their first photograph; a missing one is its own person.

    Args:
        identities: as of :func:`labels_of`.

    Example::

        >>> people_units(["Ann", None, "Ann", None])
        tensor([0, 1, 0, 2])
    """
    return factorize([object() if name is None else name for name in identities])


def _entries(values: Any, who: str) -> list[Any]:
    if getattr(values, "ndim", 1) != 1 or isinstance(values, (str, bytes, Mapping, Set)):
        got = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else repr(values)[:80]
        raise CanonicalError(f"{who}: expected a list with one entry for each image, got {got}.")
    if not isinstance(values, Iterable):
        raise CanonicalError(f"{who}: expected a list with one entry for each image, got a {type(values).__name__}.")
    entries = values.tolist() if hasattr(values, "tolist") else values
    return [each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else each for each in entries]


def _stripped(text: str) -> str:
    """Without what is not seen around it: spaces, and marks of zero width, as of the beginning of a file."""
    while text != (text := text.strip().strip(_INVISIBLE)):
        pass
    return text


def _stands_for_missing(text: str) -> bool:
    return _stripped(text) in MISSING_TEXTS
