"""Loads networks: from factories, TorchScript files and ``torch.export`` files.

A Python reference, a TorchScript file and a ``torch.export`` file are programs: loading one runs its code. Pickled
objects are never loaded, because they run code from what looks like data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.files import file_digest
from captum_canonical.networks.files import EXPORTED, load_exported, load_script
from captum_canonical.networks.references import call_factory, is_reference, load_reference
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.networks.weights import SUFFIXES, load_weights


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
    """Loads a network, and what is known about its input and outputs.

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
            f"model {model}: expected package.module:factory, a TorchScript file or a torch.export file (.pt2); this "
            "is neither a reference of that form nor a file."
        )
    if suffix in SUFFIXES:
        raise CanonicalError(
            f"model {model}: these are weights without a network; give the network as package.module:factory, "
            "and this file as its weights."
        )
    if weights is not None:
        raise CanonicalError("weights: a TorchScript or torch.export file holds its weights; leave the option out.")
    network = load_exported(path) if suffix in EXPORTED else load_script(path)
    return LoadedNetwork(_prepare(network, device), NetworkSettings(), f"file {file_digest(path)}")


def _from_factory(model: str, weights: Path | None, device: str | None) -> LoadedNetwork:
    if weights is not None and not weights.exists():
        raise CanonicalError(f"weights {weights}: there is no such file.")
    made = load_reference(model, "model")
    takes_weights = weights is not None and _takes_weights(made)
    if not isinstance(made, nn.Module):
        made = call_factory(made, f"model {model}", {"weights": weights} if takes_weights else {})
    network, values = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(network) or isinstance(network, type):
        raise CanonicalError(
            f"model {model}: expected a function that returns a network, or a network and its settings, got "
            f"{type(network).__name__} from it."
        )
    if weights is not None and not takes_weights:
        if not isinstance(network, nn.Module):
            raise CanonicalError(f"weights: {model} returns no torch module into which weights could be loaded.")
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
        raise CanonicalError(f"device {device}: the network cannot be moved there ({first_line(error)})") from error
