"""Finds the Python objects that references ``package.module:object`` name; importing a module runs its code."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.plugins import Registry

_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")


@contextmanager
def import_path_kept() -> Iterator[None]:
    """Whatever :func:`load_reference` adds to the import path inside, the path is as before afterwards."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def is_reference(text: str) -> bool:
    """Whether a text has the form ``package.module:object``."""
    return _REFERENCE.fullmatch(text) is not None


def load_reference(text: str, option: str) -> Any:
    """Imports the object that ``package.module:object`` names.

    The current folder and the folder of the module are appended to the import path, so that a script finds the modules
    beside it as it does when it is run. They come last: a file there takes no other module's place, and commands that
    are given no reference import nothing from them.

    Args:
        text: the reference.
        option: its name in error messages, such as ``"--model"``.

    Raises:
        CanonicalError: the text has another form, or there is no such module or object.
        MissingDependencyError: the module needs a package that is not installed.

    Example::

        >>> load_reference("math:pi", "--model")
        3.141592653589793
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise CanonicalError(f"{option}: expected package.module:name, got {text!r}.")
    found: Any = _import(match["module"], option)
    for name in match["name"].split("."):
        if not hasattr(found, name):
            known = [each for each in dir(found) if not each.startswith("_")]
            own = [each for each in known if getattr(getattr(found, each), "__module__", None) == match["module"]]
            close = get_close_matches(name, known, n=3, cutoff=0.7) or own[:20] or known[:20]
            file = getattr(sys.modules.get(match["module"]), "__file__", None)
            place = f"{match['module']} ({file})" if file else match["module"]
            raise CanonicalError(f"{option} {text}: {place} has no {name!r}; it has {', '.join(close)}.")
        found = getattr(found, name)
    return found


def load_plugin(text: str, registry: Registry, option: str) -> Any:
    """Loads what has a name in a registry, or the object that ``package.module:object`` names.

    Raises:
        CanonicalError: there is no such name or object, or it cannot be imported.
        MissingDependencyError: the module needs a package that is not installed.
    """
    if is_reference(text):
        return load_reference(text, option)
    if text not in registry:
        raise CanonicalError(
            f"{option}: expected {', '.join(registry.names())} or package.module:{registry.kind}, got {text!r}."
        )
    return registry.load(text)


def _import(name: str, option: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(name=name)
        if spec.origin and Path(spec.origin).is_file():
            sys.path.append(str(Path(spec.origin).resolve().parent))
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_found(name, option, error) from error
    except (Exception, SystemExit) as error:
        raise CanonicalError(f"{option}: importing {name} fails: {type(error).__name__}: {error}") from error


def _not_found(name: str, option: str, error: ModuleNotFoundError) -> CanonicalError:
    missing = error.name or name
    if name == missing or name.startswith(f"{missing}."):
        return CanonicalError(
            f"{option}: there is no module {missing!r}, neither installed nor in the current folder {Path.cwd()}; run "
            "the command in the folder that holds it."
        )
    return MissingDependencyError(
        f"{option}: {name} needs the module {missing!r}, which is not installed (pip install {missing.split('.')[0]})."
    )


def call_factory(factory: Any, option: str, arguments: dict[str, Any]) -> Any:
    """Calls what an option names; an error says which option.

    Raises:
        CanonicalError: it is no function or class, or the call fails.
        MissingDependencyError: the call needs a package that is not installed.
    """
    if not callable(factory):
        raise CanonicalError(f"{option}: expected a function or class, got {type(factory).__name__}.")
    try:
        with redirect_stdout(sys.stderr):  # stdout is for the result
            return factory(**arguments)
    except CanonicalError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"{option} needs a package that is not installed: {error}") from error
    except (Exception, SystemExit) as error:
        raise CanonicalError(f"{option} fails: {type(error).__name__}: {error}") from error


def optional(name: str, what: str) -> Any:
    """Imports a module of a package that not everybody needs.

    Args:
        name: of the module.
        what: needs it, for the message.

    Raises:
        MissingDependencyError: it is not installed; the message has pip's command.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{what}: the package {package} is not installed, or lacks something (pip install {package}): {error}"
        ) from error
