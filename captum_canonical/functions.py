"""What decides the values of functions and modules: code, captured values, globals that are read, settings, hooks."""

from __future__ import annotations

import collections
import dis
import functools
import hashlib
import io
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OWN = "captum_canonical"
VERSIONED_ELSEWHERE = {"torch", "numpy", "captum", OWN}
"""Packages whose versions a run folder records and compares itself."""

BOOKKEEPING = {
    *("__init__", "__new__", "__post_init__", "__doc__", "__module__", "__dict__", "__weakref__", "__annotations__"),
    *("__qualname__", "__repr__", "__str__", "__hash__", "__reduce__", "__reduce_ex__", "__getstate__"),
    *("__setstate__", "__fingerprint__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__"),
    *("__firstlineno__", "__static_attributes__", "__match_args__", "__slots__", "__dataclass_fields__"),
    *("__dataclass_params__", "__annotations_cache__", "__annotate_func__", "__replace__", "__init_subclass__"),
}
"""Attributes of classes that decide nothing about the values that their instances compute."""
_MAKERS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__dataclass_fields__"}


def installed_version(module: str) -> str | None:
    """The version of the installed package that a module belongs to, None for modules of the user.

    Packages of Python itself, and those whose versions a run folder records anyway, have the version ``""``.

    Example::

        >>> installed_version("json.decoder"), installed_version("torch.nn"), installed_version("__main__")
        ('', '', None)
    """
    root = module.partition(".")[0]
    if root == "__main__":
        return None
    if root in sys.stdlib_module_names or root in VERSIONED_ELSEWHERE:
        return ""
    package = sys.modules.get(root)
    file = str(getattr(package, "__file__", None) or "")
    if "site-packages" not in file and "dist-packages" not in file:
        return None
    version = getattr(package, "__version__", "")
    return version if isinstance(version, str) else ""


def is_known_by_name(value: Any) -> bool:
    """Whether the name of a function or class leads to it in an installed package.

    Example::

        >>> is_known_by_name(nn.functional.relu), is_known_by_name(lambda x: x)
        (True, False)
    """
    module, name = str(getattr(value, "__module__", None) or "builtins"), str(getattr(value, "__qualname__", ""))
    if installed_version(module) is None or not name:
        return False
    found: Any = sys.modules.get(module)
    for each in name.split("."):
        found = getattr(found, each, None)
    return found is value


def parts_of(function: Any) -> dict[str, Any] | None:
    """What decides a function's value, None for anything that is no function of Python or around one.

    Example::

        >>> scale = 2
        >>> parts_of(lambda x: scale * x)["globals"], parts_of((3).__add__)["self"]
        ({'scale': 2}, 3)
    """
    if isinstance(function, FunctionType):
        return _of_python(function)
    if isinstance(function, MethodType):
        return {"function": function.__func__, "self": function.__self__}
    if isinstance(function, (BuiltinFunctionType, type((3).__add__))):
        own = getattr(function, "__self__", None)
        return {"name": function.__qualname__, "self": None if isinstance(own, ModuleType) else own}
    if isinstance(function, functools.partial):
        keywords = dict(sorted(function.keywords.items()))
        return {"function": function.func, "arguments": function.args, "keywords": keywords}
    if isinstance(function, ModuleType):
        return {name: each for name, each in sorted(vars(function).items()) if name[:2] != "__"}
    return _of_wrapper(function)


def _of_wrapper(function: Any) -> dict[str, Any] | None:
    if isinstance(function, property):
        return {"get": function.fget, "set": function.fset}
    if isinstance(function, functools.cached_property):
        return {"get": function.func}
    if isinstance(function, (staticmethod, classmethod)) or isinstance(function, type(_cached)):
        return {"kind": type(function).__name__, "function": function.__wrapped__}
    return None


@functools.cache
def _cached() -> None:
    """Of the type that functools.cache makes."""


def _of_python(function: FunctionType) -> dict[str, Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    return {
        "code": code_parts(function.__code__, function.__doc__),
        "defaults": function.__defaults__,
        "keywords": function.__kwdefaults__,
        "captured": dict(zip(function.__code__.co_freevars, cells, strict=True)),
        "attributes": {name: each for name, each in sorted(vars(function).items()) if name != "__wrapped__"},
        "globals": dict(_globals_of(function.__code__, function.__globals__)),
    }


def code_parts(code: CodeType, doc: str | None = None) -> list[Any]:
    """What a code object does, without its names for people, lines and files."""
    constants = [None if each == doc and isinstance(each, str) else each for each in code.co_consts]
    return [
        code.co_code,
        getattr(code, "co_exceptiontable", b""),
        [code_parts(each) if isinstance(each, CodeType) else each for each in constants],
        code.co_names,
        code.co_varnames[: code.co_argcount + code.co_kwonlyargcount],
        code.co_freevars,
        code.co_flags,
    ]


def class_parts(kind: type, made: bool = False) -> dict[str, Any]:
    """Functions and values that the user's classes among the bases of a class define.

    Args:
        kind: the class.
        made: whether instances may be made of it later, so that what makes them counts, too.

    Example::

        >>> class Gain:
        ...     __module__ = "mine"  # not of an installed package
        ...     factor = 2
        ...     def __init__(self, unit=1):
        ...         self.unit = unit
        >>> list(class_parts(Gain)), list(class_parts(Gain, made=True))
        (['factor'], ['__init__', 'factor'])
    """
    left_out = BOOKKEEPING - (_MAKERS if made else set())
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if installed_version(base.__module__) is None:
            found |= {name: each for name, each in vars(base).items() if name not in left_out}
    if type(kind) is not type and installed_version(type(kind).__module__) is None:
        found["metaclass"] = type(kind)
    return dict(sorted(found.items()))


def parts_beside_value(value: Any) -> dict[str, Any] | None:
    """What a number, text, container or member of an enumeration holds beside its value, None where there is nothing.

    Example::

        >>> parts_beside_value({"a": 1}), list(parts_beside_value(collections.defaultdict(list)))
        (None, ['default'])
    """
    kind = type(value)
    if isinstance(value, collections.defaultdict):
        return {"default": value.default_factory}
    if not isinstance(value, (int, float, str, Mapping, list, tuple, set, frozenset, Enum)):
        return None
    if installed_version(kind.__module__) is not None:
        return None
    return {"class": kind, **(vars(value) if hasattr(value, "__dict__") and not isinstance(value, Enum) else {})}


def plain_array(array: Tensor | np.ndarray) -> np.ndarray:
    """A tensor of any layout, quantised or not, as the bytes of its numbers; an array in the order of this machine."""
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    dense = array.detach().cpu()
    dense = dense.dequantize() if dense.is_quantized else dense
    dense = dense if dense.layout == torch.strided else dense.to_dense()
    return dense.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()


def attributes_of(value: Any) -> dict[str, Any] | None:
    """All attributes of an object that keeps its whole state in ``__dict__``, else None.

    Values of ``functools.cached_property`` are left out: they follow from the others.
    """
    bases = type(value).__mro__
    slots = any(getattr(base, "__slots__", ()) for base in bases)
    in_c = type(value).__reduce__ is not object.__reduce__  # as functools.partial: __dict__ is not all of it
    is_code = hasattr(value, "__code__") or isinstance(value, (type, nn.Module))
    if not hasattr(value, "__dict__") or slots or in_c or is_code:
        return None
    cached = {
        name for base in bases for name, each in vars(base).items() if isinstance(each, functools.cached_property)
    }
    return {name: each for name, each in vars(value).items() if name not in cached}


def _globals_of(code: CodeType, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Globals that a function and those inside it read; of the user's modules, the members that are read."""
    steps = list(dis.get_instructions(code))
    for place, step in enumerate(steps):
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or step.argval not in names:
            continue
        path, value, after = step.argval, names[step.argval], place + 1
        while isinstance(value, ModuleType) and installed_version(value.__name__) is None and after < len(steps):
            if steps[after].opname not in ("LOAD_ATTR", "LOAD_METHOD") or not hasattr(value, steps[after].argval):
                break
            path, value = f"{path}.{steps[after].argval}", getattr(value, steps[after].argval)
            after += 1
        yield path, value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant, names)


# -------------------------------------------------------------------------------------------------------- modules
TORCH_S_OWN = {*vars(nn.Module()), "_is_torch_compile"} - {"training"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def module_settings(module: nn.Module) -> dict[str, Any]:
    """What a module holds beside parameters, buffers, other modules and torch's bookkeeping, hooks in their order."""
    hooks = {name: [*getattr(module, name, {}).values()] for name in _HOOKS}
    found = {name: each for name, each in vars(module).items() if name not in TORCH_S_OWN}
    if isinstance(module, torch.fx.GraphModule):
        found = {
            name: each for name, each in found.items() if isinstance(each, (type(None), bool, int, float, str, Tensor))
        }
        found |= {
            "_code": module.code,
            "_functions": [_called(step.target) for step in module.graph.nodes if callable(step.target)],
        }
    elif type(module).__module__ == "torch.export._unlift":  # it checks the inputs of an exported program
        found.pop("forward", None)
    return found | {name: each for name, each in hooks.items() if each}


def _called(target: Any) -> Any:
    """What a step of a traced graph calls; operations of torch by name, since they hold what no process can compare."""
    return str(target) if isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)) else target


def _is_simple(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, Tensor))


def as_compiled(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Parts of a network by name, without what torch.compile puts around modules, which is another in each process."""
    for name, part in named:
        if not (isinstance(part, nn.Module) and "_orig_mod" in part._modules):
            yield name.replace("._orig_mod", ""), part


def script_parts(module: nn.Module) -> list[Any]:
    """All that TorchScript writes of a module, without the numbers that a process gives to its classes."""
    content = io.BytesIO()
    torch.jit.save(module, content)
    found: list[Any] = []
    with zipfile.ZipFile(content) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith(".pkl"):
                found += [(step.name, _plain_name(str(step_value))) for step, step_value, _ in pickletools.genops(data)]
            elif name.endswith(".py"):
                found.append(_plain_name(data.decode()))
            elif "/data/" in name or "/constants/" in name:
                found.append(hashlib.sha256(data).hexdigest())
    return [name for name in found if name]


def _plain_name(text: str) -> str:
    return re.sub(r"\.?___torch_mangle_\d+", "", text)
