"""Reads weights, TorchScript and ``torch.export`` files; nothing in them is unpickled."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.cli.exported_programs import check_program
from captum_canonical.errors import CanonicalError, MissingDependencyError

EXPORTED = (".pt2",)
WEIGHTS = (".safetensors", ".bin", ".ckpt")
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts keep weights in a larger file
_EXPORTED_FACTS = ("archive_format", "archive_version", "byteorder", "version")
_EXPORTED_PARTS = ("models/", "data/weights/", "data/constants/", "data/sample_inputs/", ".data/", "extra/")


# ---------------------------------------------------------------------------------------------------------- weights
def load_weights(network: nn.Module, path: Path) -> None:
    """Loads the weights of a file into a network.

    Raises:
        CanonicalError: the file cannot be read without running code in it, or its weights belong to another network.
    """
    weights = read_weights(path)
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CanonicalError(f"--weights {path}: {first_line(error)} The weights belong to another network.") from error
    for what, names in (("lacks", missing), ("has unknown", unexpected)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CanonicalError(
                f"--weights {path}: the file {what} {', '.join(names[:3])}{more}; they belong to another network."
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads named tensors from a safetensors file, or a file that ``torch.load(weights_only=True)`` accepts.

    Raises:
        CanonicalError: there is no such file, or it holds anything else.
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
    except Exception as error:  # safetensors has its own exception class
        raise CanonicalError(f"--weights {path}: no readable safetensors file ({first_line(error)})") from error


def _read_tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CanonicalError(
            f"--weights {path}: the file cannot be read as tensors alone, and pickled objects are not loaded, since "
            "they can run any code; save the state_dict, better still as safetensors."
        ) from error


# --------------------------------------------------------------------------------------------------------- networks
def load_script(path: Path) -> nn.Module:
    """Loads a TorchScript file.

    Raises:
        CanonicalError: the file holds no TorchScript.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise CanonicalError(
            f"--model {path}: the file holds no TorchScript that can be read. If these are weights, give the network "
            "as --model package.module:factory and this file as --weights; files of torch.export end in .pt2."
        ) from error


def load_exported(path: Path) -> nn.Module:
    """Loads a file of ``torch.export.save``.

    ``torch.export.load`` by itself unpickles objects, loads machine code and evaluates texts. So files that hold more
    than a graph of torch's operations and tensors are refused before it is called, and it is restricted to tensors
    while it runs.

    Raises:
        CanonicalError: the file cannot be read, or holds more than a graph and tensors.
    """
    try:
        _check_exported(path)
        with _tensors_only():
            return torch.export.load(str(path)).module()
    except CanonicalError:
        raise
    except Exception as error:
        raise CanonicalError(f"--model {path}: no readable torch.export file ({first_line(error)})") from error


def _check_exported(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = [name.partition("/")[2] for name in names]  # without the name of the archive itself
        unknown = [name for name in inside if name not in _EXPORTED_FACTS and not name.startswith(_EXPORTED_PARTS)]
        if unknown or len(set(names)) < len(names):
            raise CanonicalError(
                f"--model {path}: expected a graph and tensors, as torch.export.save writes them, but the file holds "
                f"{unknown[0] if unknown else 'a part twice'}; it is not loaded."
            )
        if any(name.startswith(("data/weights/", "data/constants/")) and name.endswith(".pt") for name in inside):
            raise CanonicalError(f"--model {path}: the file is in an old format; export the network again.")
        for name, short in zip(names, inside, strict=True):
            if short.startswith("models/") and short.endswith(".json"):
                check_program(json.loads(archive.read(name)), f"--model {path}")
            if short.startswith("data/constants/") and short.endswith("_config.json"):
                parts = json.loads(archive.read(name)).get("config", {}).values()
                if not all(str(part.get("path_name", "")).startswith("tensor_") for part in parts):
                    raise CanonicalError(
                        f"--model {path}: the file holds pickled objects, which are not loaded, since they can run any "
                        "code; export a network without them."
                    )


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Makes every ``torch.load`` use ``weights_only=True``, even where the caller passes False."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def first_line(error: BaseException) -> str:
    """The first line of an error's message, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
