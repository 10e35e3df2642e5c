"""What a run is made with, as numbers and texts that are the same in every process."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_canonical.errors import depth_of_the_call
from captum_canonical.faces.canonical_face import CanonicalFace

_PLAIN = (type(None), bool, int, float, str)
_UNTOLD = "a value that cannot be told from others"


def tensor_digest(value: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and values."""
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def network_fingerprint(forward_func: Callable[..., Any], key: str | None) -> str:
    """What tells a network from others: its weights and settings, or the text that the user gives for it.

    Settings are the public attributes of its modules that are numbers, texts or arrays, or lists and dicts of these.

    A callable that is no module is known by its name only, which is said in a warning.

    Example::

        >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> network_fingerprint(one, None) == network_fingerprint(other, None)
        False
        >>> network_fingerprint(abs, "my network, version 2")
        'key my network, version 2'
    """
    if key is not None:
        return f"key {key}"
    if isinstance(forward_func, nn.Module):
        return _module_digest(forward_func)
    name = f"{type(forward_func).__module__}.{type(forward_func).__qualname__}"
    name = getattr(forward_func, "__qualname__", name)
    warnings.warn(
        f"explain_dataset: {name} is no torch module, so that nothing but its name can tell it from another network "
        "when the run goes on; network_key=, a text that changes whenever its outputs would, makes sure.",
        stacklevel=depth_of_the_call(),
    )
    return f"callable {name}"


def _module_digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        settings = {key: _told(value) for key, value in vars(module).items() if key[0] != "_"}
        known = [(key, settings[key]) for key in sorted(settings) if settings[key] is not _UNTOLD]
        digest.update(repr((name, type(module).__qualname__, module.training, known)).encode())
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        digest.update(f"{name} {tensor_digest(tensor)}".encode())
    return digest.hexdigest()


def _told(value: Any) -> Any:
    """A setting as what is equal in two processes just when the setting is; or that nothing can be told of it."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        return tensor_digest(torch.as_tensor(value))
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_told(each) for each in value)]
    if isinstance(value, Mapping):
        return sorted((repr(key), repr(_told(each))) for key, each in value.items())
    return _UNTOLD


def face_digest(face: CanonicalFace) -> str:
    """SHA-256 of what decides the maps on a canonical face; its image does not."""
    parts = [repr((face.size, face.topology, face.progressive))]
    parts += [tensor_digest(each) for each in (face.vertices, face.triangles, face.point_vertices, face.point_weights)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def described(value: Any, network: object) -> Any:
    """A setting as what JSON can hold: plain values as they are, arrays by their contents, layers by their names."""
    if isinstance(value, _PLAIN):
        return repr(value) if isinstance(value, float) and not np.isfinite(value) else value
    if isinstance(value, Mapping):
        return {str(key): described(each, network) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each, network) for each in value]
    return _in_words(value, network)


def _in_words(value: Any, network: object) -> Any:
    if isinstance(value, (Tensor, np.ndarray)):
        tensor = torch.as_tensor(value)
        return f"tensor {tuple(tensor.shape)} {tensor_digest(tensor)[:16]}"
    if isinstance(value, CanonicalFace):
        return f"face {face_digest(value)[:16]}"
    if isinstance(value, Attribution):
        return _method(value, network)
    if isinstance(value, nn.Module):
        return _layer_name(value, network) or f"network {_module_digest(value)[:16]}"
    return getattr(value, "__qualname__", type(value).__qualname__)


def _method(method: Attribution, network: object) -> dict[str, Any]:
    """The class of a method and its settings, those of methods in it included; not the network that it is for."""
    held = {
        name: value
        for name, value in vars(method).items()
        if value is not network and name != "forward_func" and (name[0] != "_" or isinstance(value, _PLAIN))
    }
    return {"class": type(method).__qualname__} | {
        name: described(value, network) for name, value in sorted(held.items()) if value is not None
    }


def _layer_name(layer: nn.Module, network: object) -> str | None:
    modules = network.named_modules() if isinstance(network, nn.Module) else ()
    return next((f"layer {name or '(the network)'}" for name, module in modules if module is layer), None)
