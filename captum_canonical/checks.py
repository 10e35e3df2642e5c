"""Checks of arguments; their messages say what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError


def check_integer(name: str, value: Any, least: int, most: int | None = None, expected: str | None = None) -> int:
    """The value as an ``int``, if it is an integer from ``least`` to ``most``; a bool is none.

    Args:
        name: of the argument, for the message.
        value: anything.
        least, most: the range. None: without an upper end.
        expected: the range in other words, for the message.

    Raises:
        CanonicalError: it is not.

    Example::

        >>> check_integer("folds", 1, 2)
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: folds: expected an integer from 2 on, got 1.
    """
    bad = isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least
    if bad or (most is not None and int(value) > most):
        expected = expected or (f"an integer from {least} " + ("on" if most is None else f"to {most}"))
        raise CanonicalError(f"{name}: expected {expected}, got {value!r}.")
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    expected: str | None = None,
) -> float:
    """The value as a ``float``, if it is a real number between these ends; NaN and bool are none.

    Args:
        name: of the argument, for the message.
        value: anything.
        above, least: the lower end, which does not belong to the range, or does.
        below, most: the upper end, likewise.
        expected: the range in other words, for the message.

    Raises:
        CanonicalError: it is not.

    Example::

        >>> check_number("level", 95, above=0, below=1)
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: level: expected a number above 0 and below 1, got 95.
    """
    number = float("nan") if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    ends = {"above": above, "at least": least, "below": below, "at most": most}
    inside = (
        number == number
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    )
    if not inside:
        span = " and ".join(f"{words} {end:g}" for words, end in ends.items() if end is not None)
        raise CanonicalError(f"{name}: expected {expected or f'a number {span}'.rstrip()}, got {value!r}.")
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises CanonicalError unless the value is one of the choices.

    Example::

        >>> check_choice("space", "face", ("image", "canonical"))
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: space: expected 'image' or 'canonical', got 'face'.
    """
    if not isinstance(value, str) or value not in choices:
        *others, last = (repr(choice) for choice in choices)
        raise CanonicalError(f"{name}: expected {' or '.join(filter(None, [', '.join(others), last]))}, got {value!r}.")


def check_device(name: str, value: Any) -> torch.device:
    """A device that this machine has.

    Raises:
        CanonicalError: it is none.

    Example::

        >>> check_device("device", "gpu")
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: device: expected one that PyTorch finds here, such as 'cpu', got 'gpu'.
    """
    try:
        return torch.empty(0, device=value).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise CanonicalError(f"{name}: expected one that PyTorch finds here, such as 'cpu', got {value!r}.") from error


def check_representable(name: str, values: Tensor | float, dtype: torch.dtype) -> None:
    """Raises CanonicalError if integers, such as uint8 pixels, cannot take these values; other types can.

    Example::

        >>> check_representable("baselines", 0.5, torch.uint8)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: baselines: expected values that torch.uint8 images can hold, got 0.5...
    """
    if dtype.is_floating_point or dtype.is_complex:
        return
    wanted = torch.as_tensor(values).detach().double()
    wrong = wanted[wanted.to(dtype).double() != wanted]
    if wrong.numel():
        raise CanonicalError(
            f"{name}: expected values that {dtype} images can hold, got {wrong.flatten()[0].item():g}; give the "
            "images as floating point (images.float()), or whole numbers in their range."
        )
