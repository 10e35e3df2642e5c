"""Reads TorchScript and ``torch.export`` files; nothing in them is unpickled."""

from __future__ import annotations

import json
import logging
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.modules import FixedBatch
from captum_canonical.networks.exported_programs import check_program

logger = logging.getLogger("captum_canonical")
EXPORTED = (".pt2",)
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_EXPORTED_FACTS = ("archive_format", "archive_version", "byteorder", "version")
_EXPORTED_PARTS = ("models/", "data/weights/", "data/constants/", "data/sample_inputs/", ".data/", "extra/")


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
            f"model {path}: the file holds no TorchScript that can be read. If these are weights, give the network "
            "as package.module:factory, and this file as its weights; files of torch.export end in .pt2."
        ) from error


@torch.no_grad()
def script_of_any_batch(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """A TorchScript network that takes any number of images: one at a time if it was traced for a single one.

    That is tried on two images of noise: such a network fails, or gives them other outputs than one by one.
    """
    for channels in (3, 1):
        images = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
        single = FixedBatch(network, 1)
        try:
            expected = single(images)
        except Exception:  # of other channels, or one that fails in another way, too
            continue
        try:
            if _alike(network(images), expected):
                return network
        except Exception:  # of a shape that was traced
            pass
        logger.info("the network was traced for one image, and is run on one at a time.")
        return single
    return network


def _alike(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return all(_alike(found[name], expected[name]) for name in expected)
    if isinstance(expected, (list, tuple)):
        return all(map(_alike, found, expected))
    close = found.shape == expected.shape and (found - expected).abs().max() <= 1e-3 * expected.abs().max()
    return bool(close)


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
        with tensors_only():
            return torch.export.load(str(path)).module()
    except CanonicalError:
        raise
    except Exception as error:
        raise CanonicalError(f"model {path}: no readable torch.export file ({first_line(error)})") from error


def _check_exported(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = [name.partition("/")[2] for name in names]  # without the name of the archive itself
        unknown = [name for name in inside if name not in _EXPORTED_FACTS and not name.startswith(_EXPORTED_PARTS)]
        if unknown or len(set(names)) < len(names):
            raise CanonicalError(
                f"model {path}: expected a graph and tensors, as torch.export.save writes them, but the file holds "
                f"{unknown[0] if unknown else 'a part twice'}; it is not loaded."
            )
        if any(name.startswith(("data/weights/", "data/constants/")) and name.endswith(".pt") for name in inside):
            raise CanonicalError(f"model {path}: the file is in an old format; export the network again.")
        for name, short in zip(names, inside, strict=True):
            if short.startswith("models/") and short.endswith(".json"):
                check_program(json.loads(archive.read(name)), f"model {path}")
            if short.startswith("data/constants/") and short.endswith("_config.json"):
                parts = json.loads(archive.read(name)).get("config", {}).values()
                if not all(str(part.get("path_name", "")).startswith("tensor_") for part in parts):
                    raise CanonicalError(
                        f"model {path}: the file holds pickled objects, which are not loaded, since they can run any "
                        "code; export a network without them."
                    )


@contextmanager
def tensors_only() -> Iterator[None]:
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
