"""The errors that users of the package meet. Each message says what was expected, what came and what to do."""

from __future__ import annotations


class CanonicalError(ValueError):
    """Base of all errors that this package raises about its input."""


class NoFaceError(CanonicalError):
    """An aligner found no face in one or more images; the message names them."""


class AlignmentError(CanonicalError):
    """A mesh could not be made or does not fit the images it is used with."""


class MissingDependencyError(CanonicalError, ImportError):
    """An optional package, or a file that it needs, is not installed; the message gives the command or the place."""
