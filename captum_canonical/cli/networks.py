"""Networks that a command line names: Python factories, TorchScript and ``torch.export`` files, and their weights.

A Python reference, a TorchScript file and a ``torch.export`` file are programs: whoever loads one runs it. What is
never done is unpickling: a pickle hides a program in what looks like data.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.cli.methods import NetworkSettings
from captum_canonical.cli.references import is_reference, load_exported, load_reference
from captum_canonical.errors import CanonicalError, MissingDependencyError
from captum_canonical.fingerprint import file_digest

SCRIPTS, EXPORTED, WEIGHTS = (
    (".pt", ".pth", ".ts", ".jit", ".torchscript"),
    (".pt2",),
    (".safetensors", ".bin", ".ckpt"),
)
_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep weights in a larger file


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network ready to be explained.

    Attributes:
        network: in evaluation mode, on its device.
        settings: what its factory says about it.
        key: a text that tells it from others where its weights do not, or None.
    """

    network: Callable[..., Any]
    settings: NetworkSettings
    key: str | None = None


def load_network(model: str, weights: Path | None = None, device: str | None = None) -> LoadedNetwork:
    """The network of ``--model``.

    Args:
        model: ``package.module:factory``, a TorchScript file or a ``torch.export`` file (.pt2). A factory returns a
            network, or a network and a mapping of its settings (:class:`NetworkSettings`).
        weights: a safetensors file, or one of ``torch.save`` that holds tensors only. A factory with a parameter
            ``weights`` gets this path; into other networks they are loaded.
        device: where to put the network.

    Raises:
        CanonicalError: there is none, it cannot be loaded, or the weights are not its own.
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
    network = load_exported(path) if suffix in EXPORTED else _load_script(path)
    return LoadedNetwork(_ready(network, device), NetworkSettings(), f"file {file_digest(path)}")


# ------------------------------------------------------------------------------------------------------- factories
def _from_factory(model: str, weights: Path | None, device: str | None) -> LoadedNetwork:
    if weights is not None and not weights.exists():
        raise CanonicalError(f"--weights {weights}: there is no such file.")
    made = load_reference(model, "--model")
    taken = weights is not None and _takes_weights(made)
    if not isinstance(made, nn.Module):
        made = _call(made, model, {"weights": weights} if taken else {})
    network, values = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(network) or isinstance(network, type):
        raise CanonicalError(
            f"--model {model}: expected a function that returns a network, or a network and its settings, got "
            f"{type(network).__name__} from it."
        )
    if weights is not None and not taken:
        if not isinstance(network, nn.Module):
            raise CanonicalError(f"--weights: {model} gives no torch module into which weights could be loaded.")
        load_weights(network, weights)
    settings = NetworkSettings.of(values)
    if isinstance(network, nn.Module):
        return LoadedNetwork(_ready(network, device), settings)
    return LoadedNetwork(network, settings, f"reference {model}")


def _takes_weights(factory: Any) -> bool:
    try:
        return "weights" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _call(factory: Any, model: str, arguments: dict[str, Any]) -> Any:
    if not callable(factory):
        raise CanonicalError(f"--model {model}: expected a function or class, got {type(factory).__name__}.")
    try:
        with redirect_stdout(sys.stderr):  # stdout is for the result
            return factory(**arguments)
    except CanonicalError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"--model {model} needs a package that is not installed: {error}") from error
    except (Exception, SystemExit) as error:
        raise CanonicalError(f"--model {model} fails: {type(error).__name__}: {error}") from error


# --------------------------------------------------------------------------------------------------------- weights
def load_weights(network: nn.Module, path: Path) -> None:
    """Puts the weights of a file into a network.

    Raises:
        CanonicalError: the file cannot be read without running code in it, or its weights are of another network.
    """
    weights = read_weights(path)
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CanonicalError(f"--weights {path}: {_first_line(error)} The weights are of another network.") from error
    for what, names in (("lacks", missing), ("has unknown", unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CanonicalError(
                f"--weights {path}: the file {what} {', '.join(names[:3])}{more}; the weights are of another network."
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, of a safetensors file or one that ``torch.load(weights_only=True)`` takes.

    Raises:
        CanonicalError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise CanonicalError(f"--weights {path}: there is no such file.")
    found = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_tensors(path)
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise CanonicalError(f"--weights {path}: expected names and tensors (a state_dict), got something else.")
    prefix = "module." if all(str(name).startswith("module.") for name in found) else ""  # of DataParallel
    return {str(name).removeprefix(prefix): value for name, value in found.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(
            f"--weights {path}: the package safetensors is not installed (pip install safetensors)."
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # of the package's own kind
        raise CanonicalError(f"--weights {path}: no readable safetensors file ({_first_line(error)})") from error


def _read_tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CanonicalError(
            f"--weights {path}: the file cannot be read as tensors alone, and pickled objects are not loaded, since "
            "they can run any code; save the state_dict, better still as safetensors."
        ) from error


# ----------------------------------------------------------------------------------------------------------- files
def _load_script(path: Path) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is old
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise CanonicalError(
            f"--model {path}: the file holds no TorchScript that can be read. If these are weights, give the network "
            "as --model package.module:factory and this file as --weights; files of torch.export end in .pt2."
        ) from error


def _ready(network: nn.Module, device: str | None) -> nn.Module:
    """In evaluation mode, without gradients for its weights, on its device."""
    try:
        network.eval()
    except NotImplementedError:  # exported programs have no modes; what follows silences a warning about it
        for module in network.modules():
            module.training = False
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    try:
        return network if device is None else network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise CanonicalError(f"--device {device}: the network cannot be put there ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
