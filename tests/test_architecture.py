"""The limits that keep the package readable: sizes, imports, names and words."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "captum_canonical"
LINES_OF_A_MODULE, LINES_OF_A_BODY, LINES_OF_A_TEST, LONGEST_CHAIN = 320, 60, 450, 18

# Words that were replaced by the field's, or by plain English.
WORDS = ("depth_of_the_call", "made_with", "numbered", "other_folds", "untouched", r"_?told\w*", "class Stretch")
WORDS += ("sign mended", "cannot be had", "something to put right", "as it were", "where processes meet")


@cache
def sources() -> dict[str, str]:
    """The text of every module of the package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


@cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in sources().items()}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.end_lineno or 0) - first.lineno + 1


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Modules of the package that an import needs."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in trees())
    elif node.module in trees():
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in trees() else node.module


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules that it imports as it is imported, or for its types only; not inside of functions."""
    found: dict[str, set[str]] = {}
    for name, tree in trees().items():
        statements, needed = list(tree.body), set()
        while statements:
            node = statements.pop()
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}: relative import"
                needed |= set(imported(node))
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                statements += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        found[name] = needed - {name}
    return found


def longest_chain(graph: Mapping[str, set[str]]) -> list[str]:
    """The longest chain of imports.

    Raises:
        AssertionError: some modules import each other in a circle.
    """
    chains: dict[str, list[str]] = {}

    def chain(name: str, above: tuple[str, ...]) -> list[str]:
        assert name not in above, f"a circle: {' > '.join([*above[above.index(name) :], name])}"
        if name not in chains:
            below = [chain(other, (*above, name)) for other in sorted(graph[name])]
            chains[name] = [name, *max(below, key=len, default=[])]
        return chains[name]

    return max((chain(name, ()) for name in sorted(graph)), key=len)


# ------------------------------------------------------------------------------------------------------------- sizes
def test_modules_are_read_in_one_go() -> None:
    long = {name: lines for name, text in sources().items() if (lines := text.count("\n")) > LINES_OF_A_MODULE}
    assert not long, f"more than {LINES_OF_A_MODULE} lines: {long}"


def test_function_bodies_fit_on_a_screen() -> None:
    functions = {
        f"{name}.{node.name}": body_lines(node)
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: lines for name, lines in functions.items() if lines > LINES_OF_A_BODY}
    assert not long, f"more than {LINES_OF_A_BODY} lines: {long}"


def test_files_of_tests_have_one_topic() -> None:
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    long = {str(path): lines for path, text in texts.items() if (lines := text.count("\n")) > LINES_OF_A_TEST}
    assert not long, f"more than {LINES_OF_A_TEST} lines: {long}"


# ----------------------------------------------------------------------------------------------------------- imports
def test_chains_of_imports_are_short_and_end() -> None:
    chain = longest_chain(imports())
    assert len(chain) <= LONGEST_CHAIN, f"{len(chain)} modules: {' > '.join(chain)}"


def test_the_longest_chain_of_a_small_graph() -> None:
    graph = {"a": {"b", "c"}, "b": {"d"}, "c": set(), "d": {"c"}}
    assert longest_chain(graph) == ["a", "b", "d", "c"]
    with pytest.raises(AssertionError, match="a circle: a > b > d > a"):
        longest_chain(graph | {"d": {"a"}})


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "studies", "tools"])
def test_what_scripts_import_is_there(folder: str) -> None:
    """Also inside of functions, which hardly any test calls."""
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (PACKAGE, "studies"):
                module = importlib.import_module(node.module or "")
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                missing += [f"{path.name}: {node.module}.{name}" for name in names if not is_module(module, name)]
    assert not missing


def is_module(package: ModuleType, name: str) -> bool:
    return importlib.util.find_spec(f"{package.__name__}.{name}") is not None


# ------------------------------------------------------------------------------------------------------------- names
def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(name)
    shared = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert not shared


def test_words_that_were_replaced_do_not_return() -> None:
    word = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
    found = {
        name: sorted(set(map(str.lower, hits))) for name, text in sources().items() if (hits := word.findall(text))
    }
    assert not found
