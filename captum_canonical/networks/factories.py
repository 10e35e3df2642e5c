"""Networks that Python functions make, and whose weights they are."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, get_args, get_origin

from torch import nn

from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.modules import unwrapped
from captum_canonical.networks.references import call_factory
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.networks.weights import load_weights

_PATH = re.compile(r"\b(Path|PathLike)\b")
_DRAW_WEIGHTS = ("torchvision", "timm")  # packages whose factories draw random weights unless they are asked not to


def network_of_factory(made: Any, weights: Path | None, source: str) -> tuple[Callable[..., Any], NetworkSettings]:
    """The network of a factory, with its weights, and its settings.

    Args:
        made: a function or class that makes a network, or a network and a mapping of settings; or a network.
        weights: a file. A factory that wants it says so: its parameter ``weights`` is annotated as a ``Path``. It is
            given the path, which may be a folder. No other factory is, since ``weights`` means many things (of
            torchvision: which weights to download); the file is loaded into the network that it returns.
        source: for messages.

    Raises:
        CanonicalError: the factory fails or returns something else, or the weights do not fit.
    """
    if weights is not None and not weights.exists():
        raise CanonicalError(f"weights {weights}: there is no such file.")
    wants_path = weights is not None and not isinstance(made, nn.Module) and takes_path(made)
    if not isinstance(made, nn.Module):
        if weights is None:
            _warn_of_random_weights(made, source)
        made = call_factory(made, source, {"weights": weights} if wants_path else {})
    network, values = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not callable(network) or isinstance(network, type):
        raise CanonicalError(
            f"{source}: expected a function that returns a network, or a network and its settings, got "
            f"{type(network).__name__} from it."
        )
    if isinstance(network, nn.Module):
        network = unwrapped(network)
    if weights is not None and not wants_path:
        if not isinstance(network, nn.Module):
            raise CanonicalError(
                f"weights {weights}: {source} returns no torch module into which weights could be loaded; a factory "
                "that reads the file itself has a parameter weights: Path."
            )
        load_weights(network, weights)
    return network, NetworkSettings.of(values)


def takes_path(factory: Any) -> bool:
    """Whether a factory has a parameter ``weights`` that is annotated as a path.

    Example::

        >>> def ours(weights: Path | None = None): ...
        >>> def theirs(weights=None, progress=True): ...
        >>> takes_path(ours), takes_path(theirs)
        (True, False)
    """
    try:
        parameter = _parameters(factory, eval_str=True).get("weights")
    except Exception:  # a name that is imported for type checkers only
        parameter = _parameters(factory).get("weights")
    annotation = None if parameter is None else parameter.annotation
    if isinstance(annotation, str):
        return _PATH.search(annotation) is not None
    kinds = [get_origin(each) or each for each in (annotation, *get_args(annotation))]
    return any(isinstance(each, type) and issubclass(each, PathLike) for each in kinds)


def _parameters(factory: Any, eval_str: bool = False) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(factory, eval_str=eval_str).parameters)
    except (TypeError, ValueError):
        return {}


def _warn_of_random_weights(factory: Any, source: str) -> None:
    if str(getattr(factory, "__module__", "")).partition(".")[0] in _DRAW_WEIGHTS:
        parameters = _parameters(factory)
        if any(name in parameters and not parameters[name].default for name in ("weights", "pretrained")):
            warn_of_random_weights(source)


def warn_of_random_weights(source: str) -> None:
    """Warns that a network knows nothing."""
    warnings.warn(
        f"{source}: the network has random weights; its own come from a file (weights).", stacklevel=user_stacklevel()
    )
