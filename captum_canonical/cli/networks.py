"""Loads the networks and other Python objects that command-line options name.

A Python reference, a TorchScript file and a ``torch.export`` file are programs: loading one runs its code. Pickled
objects are never loaded, because they run code from what looks like data.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from captum_canonical.cli.network_files import EXPORTED, WEIGHTS, first_line, load_exported, load_script, load_weights
from captum_canonical.cli.settings import NetworkSettings
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.files import file_digest
from captum_canonical.plugins import Registry

_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")


# -------------------------------------------------------------------------------------------- references to objects
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


# --------------------------------------------------------------------------------------------------------- networks
@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network ready to be explained.

    Attributes:
        network: in evaluation mode, on its device.
        settings: those that its factory returns with it.
        key: identifies the network where its weights do not, or None.
    """

    network: Callable[..., Any]
    settings: NetworkSettings
    key: str | None = None


def load_network(model: str, weights: Path | None = None, device: str | None = None) -> LoadedNetwork:
    """Loads the network of ``--model``.

    Args:
        model: ``package.module:factory``, a TorchScript file or a ``torch.export`` file (.pt2). A factory returns a
            network, or a network and a mapping of its settings (:class:`NetworkSettings`).
        weights: a safetensors file, or a file of ``torch.save`` that holds tensors only. A factory with a parameter
            ``weights`` is given this path; otherwise the weights are loaded into the network that it returns.
        device: the device to move the network to.

    Raises:
        CanonicalError: there is no such network, it cannot be loaded, or the weights do not fit it.
    """
    if is_reference(model):
        return _from_factory(model, weights, device)
    path = Path(model)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise CanonicalError(
            f"--model {model}: expected package.module:factory, a TorchScript file or a torch.export file (.pt2); this "
            "is neither a reference of that form nor a file."
        )
    if suffix in WEIGHTS:
        raise CanonicalError(
            f"--model {model}: these are weights without a network; give the network as --model package.module:factory "
            "and this file as --weights."
        )
    if weights is not None:
        raise CanonicalError("--weights: a TorchScript or torch.export file holds its weights; leave the option out.")
    network = load_exported(path) if suffix in EXPORTED else load_script(path)
    return LoadedNetwork(_prepare(network, device), NetworkSettings(), f"file {file_digest(path)}")


def _from_factory(model: str, weights: Path | None, device: str | None) -> LoadedNetwork:
    if weights is not None and not weights.exists():
        raise CanonicalError(f"--weights {weights}: there is no such file.")
    made = load_reference(model, "--model")
    takes_weights = weights is not None and _takes_weights(made)
    if not isinstance(made, nn.Module):
        made = call_factory(made, f"--model {model}", {"weights": weights} if takes_weights else {})
    network, values = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(network) or isinstance(network, type):
        raise CanonicalError(
            f"--model {model}: expected a function that returns a network, or a network and its settings, got "
            f"{type(network).__name__} from it."
        )
    if weights is not None and not takes_weights:
        if not isinstance(network, nn.Module):
            raise CanonicalError(f"--weights: {model} returns no torch module into which weights could be loaded.")
        load_weights(network, weights)
    settings = NetworkSettings.of(values)
    if isinstance(network, nn.Module):
        return LoadedNetwork(_prepare(network, device), settings)
    return LoadedNetwork(network, settings, f"reference {model}")


def _takes_weights(factory: Any) -> bool:
    try:
        return "weights" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


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


def _prepare(network: nn.Module, device: str | None) -> nn.Module:
    """Sets evaluation mode, switches gradients of the weights off, and moves the network to its device."""
    try:
        network.eval()
    except NotImplementedError:  # exported programs have no modes; torch warns unless they are set by hand
        for module in network.modules():
            module.training = False
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    try:
        return network if device is None else network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise CanonicalError(f"--device {device}: the network cannot be moved there ({first_line(error)})") from error
