"""The program's entry point: parses the arguments, runs a command, and turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from captum_canonical import __version__
from captum_canonical.cli import align, benchmark, explain, info, results, verify
from captum_canonical.cli.console import (
    PROGRAM,
    CommandResult,
    handle_log,
    print_message,
    use_option_names,
    warnings_as_messages,
)
from captum_canonical.cli.options import Parser, examples
from captum_canonical.errors import CanonicalError
from captum_canonical.networks.references import import_path_kept

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "exit codes: 0 done; 1 a check failed, or an error inside this package; 2 wrong options or input, explained in one "
    "line on stderr; 130 interrupted"
)


def build_parser() -> Parser:
    """Builds the parser of the program with all of its commands."""
    epilog = examples(
        "captum-canonical info",
        "captum-canonical explain --images photos --model examples.real_networks:gender --out run",
        "captum-canonical report run",
    )
    epilog["epilog"] += f"\n\n{EXIT_CODES}"
    parser = Parser(prog=PROGRAM, description="Where on the face does a face network look?", **epilog)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add_parser in (
        align.add_parser,
        explain.add_parser,
        benchmark.add_parser,
        verify.add_parser,
        results.add_compare_parser,
        results.add_report_parser,
        info.add_parser,
    ):
        add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the arguments after the program's name. Default: those of this process.

    Returns:
        The exit status: 0 for success; 1 if a check failed, or after an error inside this package; 2 for wrong options
        or input; 130 after Ctrl-C.

    Example::

        >>> main(["--version"])
        captum-canonical 0.1.0
        0
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as error:  # after --help and --version, and for options that cannot be parsed
        return error.code if isinstance(error.code, int) else USER_ERROR
    with ExitStack() as stack:
        stack.enter_context(import_path_kept())
        stack.enter_context(warnings_as_messages())
        if arguments.verbose:
            stack.enter_context(handle_log(print_message))
        return _run(arguments)


def _run(arguments: Namespace) -> int:
    """Runs the command, prints its result or its error, and returns the exit status."""
    try:
        result: CommandResult = arguments.run(arguments)
        if int(os.environ.get("RANK", "0")) == 0:  # of the processes that torchrun starts, the first one prints
            result.print(arguments.json)
        return result.exit_code
    except KeyboardInterrupt:
        hint: Callable[[Namespace], str] = getattr(arguments, "interrupted", lambda _: "interrupted.")
        return _fail(arguments, INTERRUPTED, hint(arguments))
    except BrokenPipeError:  # the reader of stdout has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (CanonicalError, OSError) as error:
        return _fail(arguments, USER_ERROR, f"error: {_error_text(error)}")
    except (MemoryError, torch.OutOfMemoryError):
        return _fail(arguments, USER_ERROR, "error: there is not enough memory; try a smaller --batch-size.")
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return _fail(arguments, FAILED, f"error: {reason} (an error inside this package; --debug shows where)")


def _fail(arguments: Namespace, exit_code: int, message: str) -> int:
    if arguments.debug:
        traceback.print_exc()
    print_message(message)
    return exit_code


def _error_text(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, CanonicalError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return use_option_names(str(error))
