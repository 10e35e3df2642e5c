"""Parsers of option values."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from captum_canonical.data.crop_templates import CROP_TEMPLATES


def numbers(text: str) -> float | tuple[float, ...]:
    """Parses one number, or several separated by commas.

    Example::

        >>> numbers("0.5"), numbers("0.48,0.46,0.41")
        (0.5, (0.48, 0.46, 0.41))
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected a number, or numbers with commas between them, got {text!r}") from None
    return found[0] if len(found) == 1 else found


def input_size(text: str) -> int | tuple[int, int]:
    """Parses a number of pixels, or HEIGHTxWIDTH.

    Example::

        >>> input_size("112"), input_size("128x96")
        (112, (128, 96))
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) > 2:
        raise ArgumentTypeError(f"expected pixels or HEIGHTxWIDTH, got {text!r}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


CROPS = ("face", "none", *CROP_TEMPLATES)


def crop(text: str) -> str | tuple[float, ...]:
    """Parses one of :data:`CROPS`, or LEFT,TOP,RIGHT,BOTTOM.

    Example::

        >>> crop("arcface"), crop("37,82,140,185")
        ('arcface', (37.0, 82.0, 140.0, 185.0))
    """
    if text in CROPS:
        return text
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected {', '.join(CROPS)} or LEFT,TOP,RIGHT,BOTTOM, got {text!r}") from None
    return left, top, right, bottom


def layout(text: str) -> str:
    """Checks the layout of a layer, which :class:`~captum_canonical.Layout` reads.

    Example::

        >>> layout("tokens:14x14:1")
        'tokens:14x14:1'
    """
    from captum_canonical.attributions.layouts import Layout
    from captum_canonical.errors import CanonicalError

    try:
        Layout.of(text)
    except CanonicalError as error:
        raise ArgumentTypeError(str(error).removeprefix("layout: ")) from None
    return text


def columns(text: str) -> dict[str, str]:
    """Parses ``path=file,identity=who``."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise ArgumentTypeError(f"expected NAME=COLUMN with commas between them, such as path=file, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def column_value(text: str) -> tuple[str, str]:
    """Parses ``partition=test``."""
    name, _, value = text.partition("=")
    if not name.strip() or not value.strip():
        raise ArgumentTypeError(f"expected COLUMN=VALUE, such as partition=test, got {text!r}")
    return name.strip(), value.strip()


def quality_limits(text: str) -> dict[str, tuple[float | None, float | None]]:
    """Parses ``size=40:,yaw=-30:30``, the least and the greatest value of measures of how well a face is seen.

    Example::

        >>> quality_limits("size=40:,yaw=-30:30,faces=:1")
        {'size': (40.0, None), 'yaw': (-30.0, 30.0), 'faces': (None, 1.0)}
    """
    from captum_canonical.errors import CanonicalError
    from captum_canonical.faces.quality import checked_limits

    try:
        pairs = [part.split("=") for part in text.split(",")]
        ends = {name.strip(): [float(end) if end.strip() else None for end in pair.split(":")] for name, pair in pairs}
        return checked_limits({name: tuple(each) for name, each in ends.items()})  # type: ignore[misc]
    except CanonicalError as error:
        raise ArgumentTypeError(str(error)) from None
    except ValueError:
        raise ArgumentTypeError(
            f"expected NAME=LEAST:GREATEST,..., such as size=40:,yaw=-30:30, got {text!r}"
        ) from None


def output_part(text: str) -> tuple[str | int | slice, ...]:
    """Parses a key, a place, columns FIRST:END, or several of these separated by commas.

    Example::

        >>> output_part("logits"), output_part("1"), output_part("heads,2:9")
        (('logits',), (1,), ('heads', slice(2, 9, None)))
    """

    def step(part: str) -> str | int | slice:
        first, colon, end = part.partition(":")
        if colon and all(not each or each.lstrip("-").isdecimal() for each in (first, end)):
            return slice(int(first) if first else None, int(end) if end else None)
        return int(part) if part.lstrip("-").isdecimal() else part

    return tuple(step(part.strip()) for part in text.split(",") if part.strip())


class ClassNames(argparse.Action):
    """Collects ``NAME,...``, or ``HEAD=NAME,...`` and ``HEAD=NUMBER`` of several heads."""

    def __call__(self, parser: ArgumentParser, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds the classes of a head to those that are known, or takes names."""
        head, equals, listed = str(values).partition("=")
        known = getattr(namespace, self.dest, None)
        if not equals:
            setattr(namespace, self.dest, names(head))
            return
        classes: Any = int(listed) if listed.strip().isdecimal() else names(listed)
        setattr(namespace, self.dest, {**(known if isinstance(known, dict) else {}), head.strip(): classes})


def names(text: str) -> list[str]:
    """Parses names separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integer_from(minimum: int) -> Callable[[str], int]:
    """A parser of integers of at least ``minimum``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise ArgumentTypeError(f"expected a whole number from {minimum} on, got {text!r}")
        return int(text)

    return parse


def stopping_rule(text: str) -> Any:
    """Parses ``standard-error=0.05`` or ``split-half=0.95``."""
    from captum_canonical.errors import CanonicalError
    from captum_canonical.runs.stopping import SplitHalf, StandardError

    rules: dict[str, Callable[[float], Any]] = {"standard-error": StandardError, "split-half": SplitHalf}
    name, _, value = text.partition("=")
    try:
        return rules[name](float(value))
    except (KeyError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, CanonicalError) else ""
        raise ArgumentTypeError(f"expected standard-error=0.05 or split-half=0.95, got {text!r}{reason}") from None
