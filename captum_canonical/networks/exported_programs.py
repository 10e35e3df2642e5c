"""Checks the program in a ``torch.export`` file before torch reads it.

``torch.export.load`` evaluates texts of the file as Python: the formulas of sizes and the conditions on inputs. A text
that is anything but arithmetic could run any code, so each is parsed here and compared with what ``torch.export.save``
writes. Operations are looked up by their names; those that read or write files, and what is no operation, are refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from captum_canonical.errors import CanonicalError

_OPERATION = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|map_impl|while_loop|wrap_with_autocast|wrap_with_set_grad_enabled)"
    r"|torch\.sym_(float|int|ite|max|min|not|sqrt|sum)|math\.(ceil|floor|sqrt|trunc)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv)"
)
_FILES = re.compile(r"torch\.ops\.aten\.(_?from_file|save|_print)\b")
_CALLS = frozenset(
    "Symbol Integer Rational Float Add Mul Pow Mod Max Min Abs Eq Ne Equality Unequality Lt Le Gt Ge And Or Not "
    "Piecewise StrictLessThan LessThan StrictGreaterThan GreaterThan ExprCondPair Tuple floor ceiling FloorDiv "
    "CeilDiv CleanDiv ModularIndexing PythonMod FloatPow FloatTrueDiv IntTrueDiv PowByNatural LShift RShift "
    "TruncToInt TruncToFloat "
    "CeilToInt FloorToInt RoundToInt RoundDecimal ToFloat Identity Where max min abs int float".split()
)
_SIZES = ("size", "shape", "stride", "storage_offset", "ndim")
_MATH = ("floor", "ceil", "trunc", "sqrt")
_VARIABLE = re.compile(r"[a-z]{1,3}\d*|zuf\d+|L|math|int_oo")
_TEXT = re.compile(r"\w{1,100}")
_NODES = (
    *(ast.Expression, ast.Load, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Subscript),
    *(ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.IfExp),
)


def check_program(program: Any, source: str) -> None:
    """Raises CanonicalError unless the JSON of an exported program holds operations and arithmetic alone.

    Args:
        program: what ``models/*.json`` of the file holds.
        source: the option and the file, for the message.
    """
    for problem in _problems(program):
        raise CanonicalError(
            f"{source}: expected a graph of torch's own operations, but the file holds {problem[:100]}, which might "
            "run any code; it is not loaded. If you trust it, give a Python reference to a function that loads it."
        )


def _problems(value: Any, key: str = "") -> Iterator[str]:
    """What is not allowed anywhere in the JSON."""
    if isinstance(value, dict):
        if key == "range_constraints":
            yield from (f"the size {name!r}" for name in value if not _is_arithmetic(name))
        if "inputs" in value and "outputs" in value and "target" in value:
            yield from _operation(value["target"])
        for name, each in value.items():
            yield from _problems(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _problems(each, key)
    elif isinstance(value, str):
        yield from _text(value, key)


def _text(value: str, key: str) -> Iterator[str]:
    if key in ("expr_str", "guards_code") and not _is_arithmetic(value):
        yield f"the text {value!r}"
    elif key == "as_operator":
        yield from _operation(value)
    elif "__enum__" in value or "default_factory" in value:  # these import the module that they name
        yield "a class of Python"


def _operation(name: Any) -> Iterator[str]:
    if not isinstance(name, str) or not _OPERATION.fullmatch(name) or _FILES.match(name):
        yield f"the operation {name!r}"


def _is_arithmetic(text: str) -> bool:
    """Whether a text is a formula of sizes: numbers, symbols, and functions of a fixed list."""
    if any(sign in text for sign in '"\\#\n'):
        return False
    try:
        return all(_is_allowed(node) for node in ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in _CALLS)
    if isinstance(node, ast.Name):
        return node.id in _CALLS or _VARIABLE.fullmatch(node.id) is not None
    if isinstance(node, ast.Attribute):
        of_math = isinstance(node.value, ast.Name) and node.value.id == "math"
        return node.attr in (_MATH if of_math else _SIZES)
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or _TEXT.fullmatch(node.value) is not None
    return isinstance(node, _NODES)
