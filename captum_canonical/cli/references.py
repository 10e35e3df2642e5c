"""Python objects that a command line names as ``package.module:object``."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from captum_canonical.errors import CanonicalError, MissingDependencyError

_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Modules of the current folder can be imported, as ``python -m`` has it; afterwards the path is as before."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def is_reference(text: str) -> bool:
    """Whether a text has the form ``package.module:object``."""
    return _REFERENCE.fullmatch(text) is not None


def load_reference(text: str, option: str) -> Any:
    """The object that ``package.module:object`` names.

    The folder of the module is put at the end of the import path, so that a script finds the modules beside it as it
    does when it is run.

    Args:
        text: the reference.
        option: its name in error messages, such as ``"--model"``.

    Raises:
        CanonicalError: it has another form, or there is no such module or object.
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
            raise CanonicalError(f"{option} {text}: {match['module']} has no {name!r}; it has {', '.join(close)}.")
        found = getattr(found, name)
    return found


def _import(name: str, option: str) -> ModuleType:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise _not_found(name, option, error) from error
    except Exception as error:  # the package's own __init__
        raise CanonicalError(f"{option}: importing {name} fails: {type(error).__name__}: {error}") from error
    if spec is None:
        raise _not_found(name, option, ModuleNotFoundError(name=name))
    if spec.origin and Path(spec.origin).is_file():
        sys.path.append(str(Path(spec.origin).resolve().parent))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_found(name, option, error) from error
    except (Exception, SystemExit) as error:
        raise CanonicalError(f"{option}: importing {name} fails: {type(error).__name__}: {error}") from error


def _not_found(name: str, option: str, error: ModuleNotFoundError) -> CanonicalError:
    missing = error.name or name
    if name == missing or name.startswith(f"{missing}."):
        return CanonicalError(
            f"{option}: there is no module {missing!r}, neither installed nor in the current folder {Path.cwd()}; call "
            "the command in the folder that holds it."
        )
    return MissingDependencyError(
        f"{option}: {name} needs the module {missing!r}, which is not installed (pip install {missing.split('.')[0]})."
    )
