"""What a command says: its result on stdout, all else on stderr, in lines that no file name can break."""

from __future__ import annotations

import sys
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from captum_canonical.files import json_text

PROGRAM = "captum-canonical"


def shown(value: object) -> str:
    r"""A text as one harmless line: line breaks, control characters and invisible marks become escapes.

    Example::

        >>> print(shown("a\nb\x1b[2J.jpg"))
        a\nb\x1b[2J.jpg
    """
    return "".join(each if _is_visible(each) else each.encode("unicode_escape").decode() for each in str(value))


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp")


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        text: for people, several lines; what comes from files went through :func:`shown`.
        values: the same for programs, as JSON can hold it.
        code: exit status.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0

    def write(self, as_json: bool) -> None:
        """On stdout."""
        print(json_text(self.values, str) if as_json else self.text, flush=True)


def say(message: object) -> None:
    """A line on stderr."""
    print(f"{PROGRAM}: {shown(message)}", file=sys.stderr, flush=True)


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Warnings are lines on stderr too, each said once."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def seconds(value: float) -> str:
    """A time for people.

    Example::

        >>> seconds(3.21), seconds(95), seconds(7300)
        ('3.2 s', '1 min 35 s', '2 h 1 min')
    """
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
