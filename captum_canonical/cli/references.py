"""Python objects that a command line names as ``package.module:object``."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

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


FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_HARMLESS = ("models/", "data/weights/", "data/constants/", "data/sample_inputs/", ".data/", "extra/")
_FACTS = ("archive_format", "archive_version", "byteorder", "version")


def load_exported(path: Path) -> nn.Module:
    """The network in a file of ``torch.export.save``.

    ``torch.export.load`` unpickles whatever a file brings, and loads machine code. Files that hold more than a graph
    and tensors are refused before it is called, and it is made to read tensors only.

    Raises:
        CanonicalError: the file is no such file, or holds something else.
    """
    try:
        _check(path)
        with _tensors_only():
            return torch.export.load(str(path)).module()
    except CanonicalError:
        raise
    except Exception as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CanonicalError(f"--model {path}: no readable torch.export file ({told})") from error


def _check(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = [name.partition("/")[2] for name in names]  # the first part is the name of the file itself
        unknown = [name for name in inside if name not in _FACTS and not name.startswith(_HARMLESS)]
        if unknown or len(set(names)) < len(names):
            raise CanonicalError(
                f"--model {path}: expected a graph and tensors, as torch.export.save writes them, but the file holds "
                f"{unknown[0] if unknown else 'a part twice'}; it is not loaded."
            )
        for name, short in zip(names, inside, strict=True):
            if short.startswith("data/constants/") and short.endswith("_config.json"):
                parts = json.loads(archive.read(name)).get("config", {}).values()
                if not all(str(part.get("path_name", "")).startswith("tensor_") for part in parts):
                    raise CanonicalError(
                        f"--model {path}: the file holds pickled objects, which are not loaded, since they can run any "
                        "code; export a network without them."
                    )
            if short.startswith(("data/weights/", "data/constants/")) and short.endswith(".pt"):
                raise CanonicalError(f"--model {path}: the file is in an old format; export the network again.")


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Whatever is loaded inside is read with ``weights_only=True``, even by code that says otherwise."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before
