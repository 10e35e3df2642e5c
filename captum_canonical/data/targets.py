"""Targets of photographs as Captum takes them: class indices, tuples of these, or numbers to be predicted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from captum_canonical.checks import check_integer
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError

INTEGER = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def class_names(classes: int | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of classes, None where they have none.

    Raises:
        CanonicalError: they are no list of different names.

    Example::

        >>> class_names(["glad", "sad"]), class_names(2), class_names(None)
        (('glad', 'sad'), None, None)
    """
    if classes is None:
        return None
    if isinstance(classes, Integral):
        check_integer("classes", classes, 1)
        return None
    names = () if isinstance(classes, str) or not isinstance(classes, Iterable) else tuple(map(str, classes))
    if not names or len(set(names)) < len(names):
        raise CanonicalError(f"classes: expected a number or a list of different names, got {classes!r}.")
    return names


class ClassNamesError(CanonicalError):
    """There are not as many classes as the network has outputs."""


def check_classes(classes: int | Sequence[str] | None, outputs: int) -> None:
    """Raises ClassNamesError unless there are as many classes as outputs, no classes, or a single score without any.

    Args:
        classes: their names or number, as :class:`AlignedFaces` takes them.
        outputs: of the network.

    Example::

        >>> check_classes(["glad", "sad"], 2)
        >>> check_classes(3, 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.data.targets.ClassNamesError: classes=3: expected the network's 2 outputs...
    """
    if isinstance(classes, int):
        if outputs not in (1, classes):
            raise ClassNamesError(f"classes={classes}: expected the network's {outputs} outputs, or no number at all.")
        return
    names = list(classes or ())
    if names and outputs not in (1, len(names)):
        raise ClassNamesError(
            f"classes=[...]: expected a name for each of the network's {outputs} outputs, in their order, got "
            f"{len(names)} ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})."
        )


def class_of(target: str, names: Sequence[str] | None) -> int:
    """The index of the class of this name.

    Raises:
        CanonicalError: there is none.

    Example::

        >>> class_of("sad", ["glad", "sad"])
        1
    """
    if names is None or target not in names:
        known = f"one of the classes {', '.join(names[:10])}" if names else "a class index (classes have no names here)"
        raise CanonicalError(f'target: expected "predicted", "given", {known}, a tuple or None, got {target!r}.')
    return list(names).index(target)


def with_targets(rows: Sequence[PhotoRow], classes: int | Sequence[str] | None = None) -> list[PhotoRow]:
    """The rows with targets as Captum takes them.

    Args:
        rows: with or without targets; texts, as a CSV file holds them, stand for numbers or for class names.
        classes: how many classes there are, or their names in the order of the network's outputs. Default: targets are
            whole numbers from 0 (or tuples of them), or else numbers to be predicted.

    Raises:
        CanonicalError: targets are missing in some rows only, are no numbers or names of this kind, or lie outside the
            range; the message names the rows.

    Example::

        >>> from pathlib import Path
        >>> rows = [PhotoRow(Path("a.jpg"), "sad"), PhotoRow(Path("b.jpg"), "glad")]
        >>> [row.target for row in with_targets(rows, classes=["glad", "sad"])]
        [1, 0]
    """
    given = [row for row in rows if row.target is not None]
    if not given:
        return list(rows)
    if len(given) < len(rows):
        raise CanonicalError(_report("a target in each row or in none", [r for r in rows if r.target is None]))
    if classes is None:
        return _numbers(rows)
    if isinstance(classes, Integral):
        wanted = f"targets from 0 to {int(classes) - 1} (classes={int(classes)})"
        return _converted(rows, lambda value: _index(value, int(classes)), wanted)
    names = class_names(classes) or ()
    wanted = f"one of {len(names)} class names ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})"
    return _converted(
        rows,
        lambda value: names.index(value) if value in names else _index_of(value, names),
        f"{wanted} or its place",
    )


def _numbers(rows: Sequence[PhotoRow]) -> list[PhotoRow]:
    values = [_number(row.target) for row in rows]
    wrong = [row for row, value in zip(rows, values, strict=True) if value is None]
    if wrong:
        raise CanonicalError(
            _report("targets that are numbers", wrong)
            + " For class names give classes=[...], in the order of the network's outputs."
        )
    if any(isinstance(value, float) for value in values):  # a column "30, 31.5" is one of numbers to be predicted
        values = [value if isinstance(value, tuple) else float(value) for value in values]  # type: ignore[arg-type]
    negative = [
        row for row, value in zip(rows, values, strict=True) if not isinstance(value, float) and _below_zero(value)
    ]
    if negative:
        raise CanonicalError(
            _report("class indices from 0", negative) + " Numbers to be predicted are given as floats, such as -2.0."
        )
    return [replace(row, target=value) for row, value in zip(rows, values, strict=True)]


def _below_zero(value: Any) -> bool:
    return min(value) < 0 if isinstance(value, tuple) else value < 0


def _converted(rows: Sequence[PhotoRow], convert: Callable[[Any], int | None], wanted: str) -> list[PhotoRow]:
    values = [convert(row.target) for row in rows]
    wrong = [row for row, value in zip(rows, values, strict=True) if value is None]
    if wrong:
        raise CanonicalError(_report(wanted, wrong))
    return [replace(row, target=value) for row, value in zip(rows, values, strict=True)]


def _index_of(value: Any, names: Sequence[str]) -> int | None:
    """The place of a name that is spelt otherwise in its letters' case, or the number of a class."""
    same = [place for place, name in enumerate(names) if isinstance(value, str) and name.lower() == value.lower()]
    return same[0] if len(same) == 1 else _index(value, len(names))


def _index(value: Any, count: int) -> int | None:
    number = _number(value)
    return number if isinstance(number, int) and 0 <= number < count else None


def _number(value: Any) -> int | float | tuple[int, ...] | None:
    """A finite number, a tuple of whole numbers, or None for anything else."""
    if isinstance(value, str):
        text = value.strip()
        if not DECIMAL.fullmatch(text):  # Python reads "1_0" and digits of other scripts, too
            return None
        value = int(text) if INTEGER.fullmatch(text) else float(text)
    elif getattr(value, "shape", None) == ():  # numbers of NumPy and torch
        value = value.item()
    if isinstance(value, tuple) and value and all(isinstance(each, Integral) for each in value):
        return tuple(int(each) for each in value)
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) < 2**63 else None  # what a tensor holds
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _report(wanted: str, rows: Sequence[PhotoRow]) -> str:
    listed = "; ".join(f"{row.label}: {row.target!r}" for row in rows[:5])
    more = f"; and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"target: expected {wanted}, got {listed}{more}."
