"""Terminal output: results on stdout, messages on stderr, with control characters escaped."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from captum_canonical.files import json_text

PROGRAM = "captum-canonical"


def escape(value: object) -> str:
    r"""A text as a single line: line breaks, control characters and invisible characters are escaped.

    Example::

        >>> print(escape("a\nb\x1b[2J.jpg"))
        a\nb\x1b[2J.jpg
    """
    return "".join(each if _is_visible(each) else each.encode("unicode_escape").decode() for each in str(value))


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp")


@dataclass(frozen=True)
class CommandResult:
    """The result of a command.

    Attributes:
        text: the result for people, one or more lines; texts from files have been passed through :func:`escape`.
        values: the same result for ``--json``.
        exit_code: the exit status of the program.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    def print(self, as_json: bool) -> None:
        """Prints the text, or the values as JSON, on stdout."""
        print(json_text(self.values, str) if as_json else self.text, flush=True)


# ------------------------------------------------------------------------------------------------------ messages
def print_message(message: object) -> None:
    """Prints one line on stderr, after the program's name."""
    print(f"{PROGRAM}: {escape(message)}", file=sys.stderr, flush=True)


# What messages of the library say, and what the command line says instead.
_OPTION_NAMES = {
    r"path= \(columns=\{'path': \.\.\.\} of AlignedFaces\)": "--columns path=NAME",
    r"classes=\[\.\.\.\]": "--classes",
    r"^(subfolder|match|where):": r"--\1:",
    r"^(model|weights|device)(?=:| )": r"--\1",
    r"^strata:": "--by:",
    r"^AlignedFaces: ": "",
    r"; \.left_out holds all of them, \.counts\(\) their groups\.": ".",
}


def use_option_names(message: str) -> str:
    """A message of the library, with options in place of the arguments of functions.

    Example::

        >>> use_option_names("subfolder: expected a folder in the folder.")
        '--subfolder: expected a folder in the folder.'
    """
    for argument, option in _OPTION_NAMES.items():
        message = re.sub(argument, option, message)
    return message


@contextmanager
def warnings_as_messages() -> Iterator[None]:
    """Prints warnings as messages on stderr."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print_message(f"warning: {use_option_names(str(message))}")

    with warnings.catch_warnings():
        # Captum says so for every batch of every gradient method.
        warnings.filterwarnings("ignore", "Input Tensor .* did not already require gradients")
        warnings.showwarning = show
        yield


@contextmanager
def handle_log(handle: Callable[[str], object]) -> Iterator[None]:
    """Passes the package's log messages, from level INFO, to a function."""
    logger, handler = logging.getLogger("captum_canonical"), logging.Handler()
    handler.emit = lambda record: handle(record.getMessage())  # type: ignore[method-assign, assignment]
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


# ---------------------------------------------------------------------------------------------------- formatting
def count(number: int, one: str, many: str) -> str:
    """A number with the noun in singular or plural.

    Example::

        >>> count(1, "photograph", "photographs"), count(0, "photograph", "photographs")
        ('1 photograph', '0 photographs')
    """
    return f"{number} {one if number == 1 else many}"


def format_size(size: int) -> str:
    """A number of bytes in kB or MB.

    Example::

        >>> format_size(27_431), format_size(5_210_000)
        ('27 kB', '5.2 MB')
    """
    return f"{size / 1e3:.0f} kB" if size < 1e5 else f"{size / 1e6:,.1f} MB"


def format_duration(seconds: float) -> str:
    """A duration in the two largest units.

    Example::

        >>> format_duration(3.21), format_duration(95), format_duration(7300)
        ('3.2 s', '1 min 35 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def first_lines(lines: list[str], limit: int, more: str) -> list[str]:
    """The first lines, and one that counts the others.

    Example::

        >>> first_lines(["a", "b", "c"], 2, "more")
        ['a', 'b', 'and 1 more']
    """
    return lines[:limit] + ([f"and {len(lines) - limit} {more}"] if len(lines) > limit else [])
