"""Reads files of weights, and loads them into a network; nothing in them is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError, MissingDependencyError, first_line

SUFFIXES = (".safetensors", ".bin", ".ckpt")
_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep weights in a larger file


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads the weights of a file into a network.

    Raises:
        CanonicalError: the file cannot be read without running code in it, or its weights belong to another network.
    """
    weights = read_weights(path)
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CanonicalError(f"weights {path}: {first_line(error)} The weights belong to another network.") from error
    for what, names in (("lacks", missing), ("has unknown", unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CanonicalError(
                f"weights {path}: the file {what} {', '.join(names[:3])}{more}; they belong to another network."
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads named tensors from a safetensors file, or a file that ``torch.load(weights_only=True)`` accepts.

    Raises:
        CanonicalError: there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise CanonicalError(f"weights {path}: there is no such file.")
    found = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_tensors(path)
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise CanonicalError(f"weights {path}: expected names and tensors (a state_dict), got something else.")
    prefix = "module." if all(str(name).startswith("module.") for name in found) else ""  # of DataParallel
    return {str(name).removeprefix(prefix): value for name, value in found.items()}


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(
            f"weights {path}: the package safetensors is not installed (pip install safetensors)."
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own exception class
        raise CanonicalError(f"weights {path}: no readable safetensors file ({first_line(error)})") from error


def _read_tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CanonicalError(
            f"weights {path}: the file cannot be read as tensors alone, and pickled objects are not loaded, since "
            "they can run any code; save the state_dict, better still as safetensors."
        ) from error
