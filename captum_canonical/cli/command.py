"""The entry point: which command, and what its errors and interruptions look like from outside."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from captum_canonical import __version__
from captum_canonical.cli import benchmark, compare, explain, info, report
from captum_canonical.cli import photographs as align
from captum_canonical.cli.console import PROGRAM, Outcome, say, warnings_in_lines
from captum_canonical.cli.options import Parser, examples
from captum_canonical.cli.references import current_folder_importable
from captum_canonical.errors import CanonicalError

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "exit codes: 0 done; 1 a check failed, or a fault of this package; 2 something to put right, said in a line on "
)
EXIT_CODES += "stderr; 130 interrupted"
COMMANDS = (align, explain, benchmark, compare, report, info)


def build_parser() -> Parser:
    """The parser of all commands."""
    shown_below = examples(
        "captum-canonical info",
        "captum-canonical explain --images photos --model examples.real_networks:gender --out run",
        "captum-canonical report run",
    )
    shown_below["epilog"] += f"\n\n{EXIT_CODES}"
    parser = Parser(prog=PROGRAM, description="Where on the face does a face network look?", **shown_below)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: what stands behind the program's name. Default: that of this process.

    Returns:
        The exit status: 0; 1 if a check failed or this package did; 2 for what the user can put right; 130 after
        Ctrl-C.

    Example::

        >>> main(["--version"])
        captum-canonical 0.1.0
        0
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as error:  # --help, or options that do not fit
        return error.code if isinstance(error.code, int) else USER_ERROR
    with ExitStack() as stack:
        stack.enter_context(current_folder_importable())
        stack.enter_context(warnings_in_lines())
        if arguments.verbose:
            stack.enter_context(_log_on_stderr())
        return _guarded(arguments)


def _guarded(arguments: Namespace) -> int:
    """The command's status; errors become one line."""
    try:
        outcome: Outcome = arguments.run(arguments)
        if int(os.environ.get("RANK", "0")) == 0:  # one of the processes that torchrun started speaks for all
            outcome.write(arguments.json)
        return outcome.code
    except KeyboardInterrupt:
        hint: Callable[[Namespace], str] = getattr(arguments, "interrupted", lambda _: "interrupted.")
        return _ended(arguments, INTERRUPTED, hint(arguments))
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (CanonicalError, OSError) as error:
        return _ended(arguments, USER_ERROR, f"error: {_told(error)}")
    except (MemoryError, torch.OutOfMemoryError):
        return _ended(arguments, USER_ERROR, "error: there is not enough memory; try a smaller --batch-size.")
    except Exception as error:
        told = f"error: {type(error).__name__}: {error} (a fault of this package; --debug shows where)"
        return _ended(arguments, FAILED, told)


def _ended(arguments: Namespace, code: int, message: str) -> int:
    if arguments.debug:
        traceback.print_exc()
    say(message)
    return code


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, CanonicalError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


class _log_on_stderr(ExitStack):
    """What the package decides, in lines on stderr."""

    def __enter__(self) -> _log_on_stderr:
        logger, handler = logging.getLogger("captum_canonical"), logging.Handler()
        level = logger.level
        handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        self.callback(logger.setLevel, level)
        self.callback(logger.removeHandler, handler)
        return super().__enter__()
