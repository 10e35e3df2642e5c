"""All code in README.md and docs/ runs, and all commands in them exist.

The Python blocks of a page run from top to bottom, with the names of `documentation_setup.py`; no block can be skipped.
The numbers of examples stand in the summary of the test run (`conftest.py`).
"""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import captum_canonical
import peer_packages
import peers
from documentation import (
    KINDS,
    PAGES,
    ROOT,
    Block,
    blocks_of,
    check_command,
    commands_of,
    python_of,
    written_files,
)
from documentation_setup import names_of, write_files

WITH_PYTHON = [page for page in PAGES if any(block.kind == "python" for block in blocks_of(page))]
WITH_COMMANDS = [page for page in PAGES if any(block.kind == "sh" for block in blocks_of(page))]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(autouse=True)
def _other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and examples may import some other packages: these where installed, else stand-ins."""
    for name in peers.NAMES:
        peers.provide(name, monkeypatch)
    for name, package in (("timm", peer_packages.timm), ("transformers", peer_packages.transformers)):
        if not peers.installed(name):
            monkeypatch.setitem(sys.modules, name, package())


@pytest.mark.parametrize("page", WITH_PYTHON, ids=_name)
def test_python(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "documentation", **names_of(tmp_path)}
    python = [block for block in blocks_of(page) if block.kind == "python"]
    for block in python:
        _run(block, scope)
    record_property("documentation blocks", len(python))


def _run(block: Block, scope: dict[str, object]) -> None:
    if ">>>" in block.text:
        test = doctest.DocTestParser().get_doctest(block.text, scope, str(block), _name(block.page), block.line - 1)
        said: list[str] = []
        failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
            test, out=said.append, clear_globs=False
        )
        scope.update(test.globs)
        assert not failed, "".join(said)
        return
    for name in written_files(block):
        Path(name).write_text(block.text, encoding="utf-8")
    exec(compile(python_of(block), str(block), "exec"), scope)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=_name)
def test_commands(page: Path, record_property: Callable[[str, object], None]) -> None:
    made = {name for block in blocks_of(page) for name in written_files(block)}
    commands = [(block, words) for block in blocks_of(page) if block.kind == "sh" for words in commands_of(block)]
    for block, words in commands:
        try:
            check_command(words, made.__contains__)
        except AssertionError as error:
            raise AssertionError(f"{block}: {' '.join(words)}\n{error}") from None
    record_property("documentation commands with their options", len(commands))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_is_of_a_kind_that_is_checked_or_shown_only(page: Path) -> None:
    unknown = [str(block) for block in blocks_of(page) if block.kind not in KINDS]
    assert not unknown, f"blocks that nobody checks: {unknown}; expected one of {sorted(KINDS)}"
    code = [
        block for block in blocks_of(page) if block.kind == "text" and re.search(r"^(import|from|>>>) ", block.text)
    ]
    assert not code, f"{[str(block) for block in code]} is Python, but not run"


def test_a_fault_in_a_block_is_found_with_its_line(tmp_path: Path) -> None:
    page = ROOT / "docs" / "page.md"
    with pytest.raises(ZeroDivisionError) as caught:
        _run(Block(page, 7, "python", "a = 1\na / 0\n"), {})
    assert caught.traceback[-1].lineno == 7  # counted from 0: line 8 of the page
    with pytest.raises(AssertionError, match=r"Expected:\n +3"):
        _run(Block(page, 7, "python", ">>> 1 + 1\n3\n"), {})


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("python examples/quickstart.py --image DIR/x --sed 1", "unrecognized arguments|unknown"),
        ("python examples/no_such_script.py", "there is no examples/no_such_script.py"),
        ('pip install -c constraints.txt -e ".[demos]"', "there is no extra"),
        ("pip install numpy", "no package of ours"),
        ("pytest tests/test_nothing.py", "there is no tests/test_nothing.py"),
        ("captum-canonical explain --images photos --modle x:y --out run", "unrecognized arguments|required"),
        ("captum-canonical explode", "invalid choice"),
        ("rm -r photos", "not among the programs"),
        ("torchrun --nproc-per-node 4 other.py", "no page makes other.py"),
    ],
)
def test_a_fault_in_a_command_is_found(command: str, complaint: str) -> None:
    (words,) = commands_of(Block(ROOT / "README.md", 1, "sh", command))
    with pytest.raises(AssertionError, match=complaint):
        check_command(words, {"explain.py"}.__contains__)


# ------------------------------------------------------------------------------------------------------ docstrings
def _modules() -> list[str]:
    return [
        found.name
        for found in pkgutil.walk_packages(captum_canonical.__path__, "captum_canonical.")
        if not found.name.endswith("__main__")
    ]


def test_no_example_of_a_docstring_is_skipped() -> None:
    skipped = [
        f"{test.name}: {example.source.strip()}"
        for name in _modules()
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
        for example in test.examples
        if example.options.get(doctest.SKIP)
    ]
    assert skipped == []


PUBLIC = ("", ".adapters", ".faithfulness", ".faces.photos", ".sanity", ".statistics", ".visualization")


def test_every_public_name_has_an_example() -> None:
    """Of the packages that users import from; what functions return is shown in the examples of these functions."""
    without = [
        f"{thing.__module__}.{name}"
        for package in PUBLIC
        for name, thing in _public(importlib.import_module(f"captum_canonical{package}"))
        if ">>>" not in (inspect.getdoc(thing) or "")
    ]
    assert without == []


def _public(package: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes but errors and mere records."""
    own = [name for name, value in vars(package).items() if getattr(value, "__module__", "") == package.__name__]
    for name in getattr(package, "__all__", [name for name in own if name[0] != "_"]):
        thing = getattr(package, name)
        record = inspect.isclass(thing) and (hasattr(thing, "_fields") or issubclass(thing, Exception))
        summary = dataclasses.is_dataclass(thing) and "__call__" not in vars(thing) and package is not captum_canonical
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not record and not summary:
            yield name, thing
