"""Files of ``torch.export``, loaded without unpickling anything but tensors and without running machine code."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from captum_canonical.errors import CanonicalError

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
