"""Reads the code blocks of Markdown pages, and checks the commands in them."""

from __future__ import annotations

import argparse
import ast
import configparser
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from captum_canonical.cli.command import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "notebooks"} & set(path.parts)),
]
KINDS = {"python", "sh", "text", "csv", "toml"}
"""What a block may be. Python is run, commands are checked, the rest is shown only."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int  # of the first line inside, from 1 on
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@lru_cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    """All fenced blocks but Sphinx's own directives, `{toctree}` and the like."""
    blocks, lines = [], page.read_text(encoding="utf-8").splitlines()
    start, fence, kind = 0, "", ""
    for number, line in enumerate(lines, 1):
        if not fence and (opened := re.match(r"\s*(`{3,}|:{3,})(.*)$", line)):
            start, fence, kind = number, opened[1], opened[2].strip()
        elif fence and line.strip() == fence:
            if not kind.startswith("{"):
                text = "\n".join(lines[start : number - 1]) + "\n"
                blocks.append(Block(page, start + 1, kind, text))
            fence = ""
    assert not fence, f"{page}: the block of line {start} has no end"
    return tuple(blocks)


def commands_of(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block of shell."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = [] if line.startswith("export ") else shlex.split(line, comments=True)
        while words:
            end = next((place for place, word in enumerate(words) if word in ("&&", "|", ">")), len(words))
            command = [word for word in words[:end]]
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):  # settings of the environment
                command.pop(0)
            if command and (not end or words[end - 1] != ">"):
                yield command
            words = words[end + 1 :] if end < len(words) and words[end] != ">" else []


class _Accepted(Exception):
    """The arguments are such that the program would have started."""


def check_command(words: list[str], files: Callable[[str], bool]) -> None:
    """Raises AssertionError unless the program exists and takes these arguments.

    Args:
        words: of the command.
        files: whether the page has made a file of this name, for scripts that the reader writes.
    """
    program, *arguments = words
    checks = {
        "pip": _check_pip,
        "python": lambda given: _check_python(given, files),
        "captum-canonical": _check_ours,
        "torchrun": lambda given: _check_torchrun(given, files),
        "srun": lambda given: check_command(given[next(i for i, word in enumerate(given) if word[0] != "-") :], files),
        "pytest": _check_paths,
        "ruff": lambda given: _check_words(given, {"check", "format", "--check", "."}),
        "mypy": _check_paths,
        "lint-imports": lambda given: _check_words(given, set()),
        "sphinx-build": lambda given: _check_paths(given[:-1]),
        "jupyter": lambda given: _check_paths(given[-1:]),
        ".": lambda given: _check_words(given, {".venv/bin/activate"}),
    }
    assert program in checks, f"{program} is not among the programs that the documentation may use"
    checks[program](arguments)


def _check_words(given: list[str], known: set[str]) -> None:
    assert set(given) <= known, f"{set(given) - known} is unknown"


def _check_paths(given: list[str]) -> None:
    for word in given:
        if "/" in word or "." in word:
            assert (ROOT / word.split("::")[0]).exists(), f"there is no {word}"


def _check_pip(given: list[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert given[0] == "install"
    for before, word in pairwise(given):
        if before == "-c":
            assert (ROOT / word).is_file(), f"there is no {word}"
        elif "[" in word:
            extras = word[word.index("[") + 1 : word.index("]")].split(",")
            unknown = [extra for extra in extras if not setup.has_option("options.extras_require", extra)]
            assert not unknown, f"there is no extra {unknown}"
        else:
            known = {"-c", "-e", ".", "--no-deps", setup["metadata"]["name"], "face-alignment", "plotly"}
            known |= {"quantus", "grad-cam", "ttach"}
            assert word in known, f"{word} is no package of ours"


def _check_python(given: list[str], files: Callable[[str], bool]) -> None:
    if given[0] == "-m":
        assert given[1] == "venv"
        return
    script = ROOT / given[0]
    if not script.is_file():
        assert files(given[0]), f"there is no {given[0]}"
        return
    with patch.object(sys, "path", [str(script.parent), *sys.path]):
        main = runpy.run_path(str(script), run_name="checked")["main"]
    _accepts(main, given[1:])


def _check_ours(given: list[str]) -> None:
    with redirect_stderr(StringIO()) as complaint:
        try:
            build_parser().parse_args(given)
        except SystemExit as end:
            assert not end.code, complaint.getvalue()


def _check_torchrun(given: list[str], files: Callable[[str], bool]) -> None:
    from torch.distributed.run import get_args_parser

    known = get_args_parser().parse_args(given)
    if known.module:
        assert known.training_script == "captum_canonical.cli"
        _check_ours(known.training_script_args)
        return
    assert files(known.training_script), f"no page makes {known.training_script}"


def _accepts(main: Callable[[], object], given: list[str]) -> None:
    """Runs a program up to the point where its arguments have been understood."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> object:
        parse(self, *args, **kwargs)
        raise _Accepted

    with (
        patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
        patch.object(sys, "argv", ["program", *given]),
        redirect_stderr(StringIO()) as complaint,
    ):
        try:
            main()
        except _Accepted:
            return
        except SystemExit:
            raise AssertionError(complaint.getvalue()) from None
    raise AssertionError("the program does not look at its arguments")


def written_files(block: Block) -> list[str]:
    """Names of files that a block of Python says it is, in its first line: ``# explain.py``."""
    first = block.text.splitlines()[0] if block.text.strip() else ""
    named = re.fullmatch(r"#\s*([\w/]+\.py)\b.*", first)
    return [named[1]] if named and block.kind == "python" else []


def python_of(block: Block) -> ast.Module:
    """The code of a block, with the line numbers of its page."""
    return ast.increment_lineno(ast.parse(block.text, str(block)), block.line - 1)  # type: ignore[return-value]
