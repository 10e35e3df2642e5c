"""The errors that users of the package meet. Each message says what was expected, what came and what to do."""

from __future__ import annotations

import sys


class CanonicalError(ValueError):
    """Base of all errors that this package raises about its input."""


class NoFaceError(CanonicalError):
    """An aligner found no face in one or more images; the message names them.

    Attributes:
        reason: why, where more is known than that, else empty.
    """

    reason: str = ""


class AlignmentError(CanonicalError):
    """A mesh could not be made or does not fit the images it is used with."""


class MissingDependencyError(CanonicalError, ImportError):
    """An optional package, or a file that it needs, is not installed; the message gives the command or the place."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."


def user_stacklevel() -> int:
    """The ``stacklevel`` at which a warning names the user's line, not one of this package, Captum or torch."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in ("captum_canonical", "captum", "torch"):
        level, frame = level + 1, frame.f_back
    return level + 1
