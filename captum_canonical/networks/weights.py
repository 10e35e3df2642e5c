"""Reads files of weights, and loads them into a network; nothing in them is unpickled."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.networks.references import optional

SUFFIXES = (".safetensors", ".bin", ".ckpt")
_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep weights in a larger file


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads the weights of a file into a network: all of them, or none.

    A prefix that all names in the file share and none in the network, as training frameworks write it, is left out.

    Raises:
        CanonicalError: the file cannot be read without running code in it, or its weights belong to another network.
    """
    put_weights(network, read_weights(path), path)


def put_weights(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Loads weights that were read from a file, as :func:`load_weights` does."""
    expected = network.state_dict()
    versions = getattr(expected, "_metadata", {})  # of modules, which some of them look for
    weights = without_prefix(weights, expected)
    shapes = [name for name, value in weights.items() if name in expected and value.shape != expected[name].shape]
    if shapes:
        sizes = f"{tuple(weights[shapes[0]].shape)} instead of {tuple(expected[shapes[0]].shape)}"
        raise CanonicalError(
            f"weights {path}: in the file {_some(shapes)} has the shape {sizes}; the weights belong to another "
            "network, and nothing was loaded."
        )
    before = _with_versions({name: value.clone() for name, value in expected.items()}, versions)
    missing, unexpected = network.load_state_dict(_with_versions(weights, versions), strict=False)
    found = [f"{what} {_some(names)}" for what, names in (("lacks", missing), ("has unknown", unexpected)) if names]
    if found:
        network.load_state_dict(before)
        raise CanonicalError(
            f"weights {path}: the file {' and '.join(found)}; the weights belong to another network, and nothing was "
            "loaded."
        )


def _with_versions(weights: Mapping[str, Tensor], versions: Any) -> OrderedDict[str, Tensor]:
    """Weights as ``state_dict`` returns them, if they do not bring the versions of their modules along."""
    if isinstance(weights, OrderedDict) and hasattr(weights, "_metadata"):
        return weights
    found = OrderedDict(weights)
    found._metadata = versions  # type: ignore[attr-defined]
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def without_prefix(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what all of their names begin with, such as ``module.``, if no name that is expected does."""
    while not weights.keys() & expected.keys():
        prefix = next(iter(weights)).partition(".")[0] + "."
        if not all(name.startswith(prefix) for name in weights):
            break
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads named tensors from a safetensors file, or a file that ``torch.load(weights_only=True)`` accepts.

    Raises:
        CanonicalError: there is no such file, or it holds anything else.
    """
    if path.is_dir():
        raise CanonicalError(f"weights {path}: expected a file of weights, got a folder.")
    if not path.is_file():
        raise CanonicalError(f"weights {path}: there is no such file.")
    found = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_tensors(path)
    for name in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    pairs = found.items() if isinstance(found, Mapping) else ()
    if not pairs or not all(isinstance(name, str) and isinstance(each, Tensor) for name, each in pairs):
        raise CanonicalError(f"weights {path}: expected names and tensors (a state_dict), got something else.")
    return found if isinstance(found, dict) else dict(found)


def _read_safetensors(path: Path) -> Any:
    load_file = optional("safetensors.torch", f"weights {path}").load_file
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
