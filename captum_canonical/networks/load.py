"""Loads networks by name: Python factories, timm, Hugging Face, ONNX, TorchScript and ``torch.export`` files.

A Python reference, a TorchScript file and a ``torch.export`` file are programs: loading one runs its code. Pickled
objects are never loaded, because they run code from what looks like data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_canonical.checks import check_dtype, check_path, parse_device
from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.files import file_digest
from captum_canonical.modules import exported_shape, has_modes, of_any_batch
from captum_canonical.networks.factories import network_of_factory
from captum_canonical.networks.files import EXPORTED, load_exported, load_script, script_of_any_batch
from captum_canonical.networks.from_onnx import load_onnx, onnx_digest
from captum_canonical.networks.from_timm import PREFIX as TIMM
from captum_canonical.networks.from_timm import load_timm
from captum_canonical.networks.from_transformers import PREFIX as HUGGING_FACE
from captum_canonical.networks.from_transformers import load_transformers
from captum_canonical.networks.references import is_reference, load_reference
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.networks.weights import SUFFIXES

ONNX = ".onnx"
FORMS = "package.module:factory, timm:NAME, hf:FOLDER, an ONNX (.onnx), TorchScript or torch.export file (.pt2)"


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network ready to be explained.

    Attributes:
        network: in evaluation mode, on its device.
        settings: what is known of its input and outputs.
        key: identifies the network where its weights do not, or None; the ``network_key`` of a run.
    """

    network: Callable[..., Any]
    settings: NetworkSettings
    key: str | None = None


def load_network(
    model: str | PathLike[str] | Callable[..., Any],
    weights: str | PathLike[str] | None = None,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    size: int | tuple[int, int] | None = None,
) -> LoadedNetwork:
    """Loads a network, and what is known about its input and outputs.

    ==============================  ====================================================================================
    model                           what it is
    ==============================  ====================================================================================
    ``"package.module:factory"``,   a function or class that returns a network, or a network and a mapping of settings
    or the factory itself           (:class:`NetworkSettings`)
    a network                       itself, in evaluation mode; a compiled or parallel one is unwrapped, an exported
                                    program for a fixed number of images run on so many at a time
    ``"timm:NAME"``                 timm's, with its size, mean and standard deviation, and as many classes as the
                                    weights have; ``weights="pretrained"`` downloads timm's own
    ``"hf:FOLDER"``                 a folder of Hugging Face's ``save_pretrained``, with its own size, mean, standard
                                    deviation and class names; nothing is downloaded, no code in the folder is run
    ``"FILE.onnx"``                 onnxruntime runs it, a fixed number of images at a time where the file wants that;
                                    with onnx2torch a network of torch, if both give the same outputs
    ``"FILE.pt2"``                  of ``torch.export.save``, with the size of its input
    any other file                  TorchScript; with ``size``, one that takes a single image is noticed
    ==============================  ====================================================================================

    Args:
        model: as above.
        weights: a safetensors file, or a file of ``torch.save`` that holds tensors only. All of it is loaded into the
            network, or nothing. A factory that reads the file itself, or a folder, says so by the annotation of its
            parameter: ``def factory(weights: Path)``; no other factory is given the path, whatever its parameters
            are called.
        device: the device to move the network to.
        dtype: the floating-point type to turn its weights into, such as ``torch.bfloat16``.
        size: of the input, (height, width) or the side of a square, if it is known.

    Raises:
        CanonicalError: there is no such network, it cannot be loaded, or the weights do not fit it.
        MissingDependencyError: a package is needed that is not installed; the message has pip's command.

    Example::

        >>> loaded = load_network(lambda: (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), {"size": 2, "mean": 0.5}))
        >>> loaded.network.training, loaded.settings.size, loaded.settings.mean
        (False, 2, 0.5)
    """
    if device is not None:
        parse_device("device", device)
    network, settings, key = _found(model, None if weights is None else check_path("weights", weights))
    if isinstance(network, nn.Module):
        if isinstance(network, torch.jit.ScriptModule) and size is not None:
            network = script_of_any_batch(network, (size, size) if isinstance(size, int) else size)
        network = _ready(network, device, None if dtype is None else check_dtype("dtype", dtype))
    return LoadedNetwork(network, settings, key)


def _found(model: Any, weights: Path | None) -> tuple[Callable[..., Any], NetworkSettings, str | None]:
    if isinstance(model, torch.export.ExportedProgram):
        return model.module(), NetworkSettings(), None
    if not isinstance(model, (str, PathLike)):
        source = f"model {getattr(model, '__name__', type(model).__name__)}"
        return *network_of_factory(model, weights, source), None
    name = str(model)
    if name.startswith(TIMM):
        return *load_timm(name.removeprefix(TIMM), weights), None
    if name.startswith(HUGGING_FACE):
        return *load_transformers(Path(name.removeprefix(HUGGING_FACE)), weights), None
    if is_reference(name):
        network, settings = network_of_factory(load_reference(name, "model"), weights, f"model {name}")
        return network, settings, None if isinstance(network, nn.Module) else _key_of(name, weights)
    return _from_file(Path(model), weights)


def _key_of(reference: str, weights: Path | None) -> str:
    """What identifies a black box: its name, the file that it is written in, and its weights."""
    module = sys.modules.get(reference.partition(":")[0])
    files = [Path(getattr(module, "__file__", None) or ""), *([] if weights is None else [weights])]
    return " ".join([f"reference {reference}", *(file_digest(file) for file in files if file.is_file())])


def _from_file(path: Path, weights: Path | None) -> tuple[nn.Module, NetworkSettings, str]:
    suffix = path.suffix.lower()
    if path.is_dir():
        raise CanonicalError(f"model {path}: this is a folder; one of Hugging Face is given as hf:{path}.")
    if not path.is_file():
        raise CanonicalError(f"model {path}: expected {FORMS}; this is neither a reference of that form nor a file.")
    if suffix in SUFFIXES:
        raise CanonicalError(
            f"model {path}: these are weights without a network; give the network as package.module:factory, timm:NAME "
            "or hf:FOLDER, and this file as its weights."
        )
    if weights is not None:
        raise CanonicalError(f"weights {weights}: the file {path} holds its weights; leave them out.")
    if suffix == ONNX:
        return *load_onnx(path), f"file {onnx_digest(path)}"
    key = f"file {file_digest(path)}"
    network = load_exported(path) if suffix in EXPORTED else load_script(path)
    size = exported_shape(network)[2:]
    known = len(size) == 2 and None not in size
    return network, NetworkSettings(size=size if known else None), key  # type: ignore[arg-type]


def _ready(network: nn.Module, device: str | None, dtype: torch.dtype | None) -> nn.Module:
    """Sets evaluation mode, switches gradients of the weights off, and moves the network to its device."""
    if has_modes(network):
        network.eval()
    else:
        for module in network.modules():
            module.training = False
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network = of_any_batch(network)
    try:
        return network if device is None and dtype is None else network.to(device, dtype)
    except (RuntimeError, AssertionError) as error:
        what = " ".join(str(each) for each in (device, dtype) if each is not None)
        raise CanonicalError(f"device {what}: the network cannot be moved there ({first_line(error)})") from error
