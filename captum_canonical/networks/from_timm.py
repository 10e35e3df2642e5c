"""Networks of timm by name, with the preprocessing that timm knows of them; nothing is downloaded unless asked for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.networks.factories import warn_of_random_weights
from captum_canonical.networks.references import optional
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.networks.weights import put_weights, read_weights, without_prefix

PREFIX = "timm:"
DOWNLOAD = Path("pretrained")


def load_timm(name: str, weights: Path | None) -> tuple[nn.Module, NetworkSettings]:
    """A network of timm, and the size, mean and standard deviation of its input.

    Args:
        name: as ``timm.list_models()`` has it, perhaps with a tag, such as ``resnet18.a1_in1k``.
        weights: a file, whose numbers of classes and of colours the network takes over; ``Path("pretrained")``: timm's
            own, which it downloads. Default: random ones, with a warning.

    Raises:
        MissingDependencyError: timm is not installed.
        CanonicalError: there is no such network, or the weights do not fit.
    """
    source = f"model {PREFIX}{name}"
    timm = optional("timm", source)
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; close to it are {', '.join(close)}" if close else ""
        raise CanonicalError(f"{source}: timm has no network of this name{hint} (timm.list_models() lists them all).")
    if weights is None:
        warn_of_random_weights(source)
    download = weights == DOWNLOAD and not DOWNLOAD.exists()
    found = None if weights is None or download else read_weights(weights)
    sizes: dict[str, int] = {}
    try:
        network = timm.create_model(name, pretrained=download)
        if found is not None:
            found = without_prefix(found, network.state_dict())
            sizes = _sizes(network, found)
            network = timm.create_model(name, pretrained=False, **sizes)
    except Exception as error:
        raise CanonicalError(f"{source}: timm cannot make it ({first_line(error)})") from error
    if found is not None and weights is not None:
        put_weights(network, found, weights)
    return network, _settings(timm.data.resolve_model_data_config(network), sizes.get("in_chans"))


def _settings(config: Any, channels: int | None) -> NetworkSettings:
    _, height, width = config["input_size"]
    if (channels or config["input_size"][0]) != 1:
        return NetworkSettings(size=(height, width), mean=tuple(config["mean"]), std=tuple(config["std"]))
    mean, std = (sum(config[name]) / len(config[name]) for name in ("mean", "std"))  # as timm does for grey images
    return NetworkSettings(size=(height, width), channels="L", mean=mean, std=std)


def _sizes(network: Any, weights: dict[str, Tensor]) -> dict[str, int]:
    """Arguments by which timm makes the network with as many classes and colours as the weights have."""
    config, sizes = getattr(network, "pretrained_cfg", {}), {}
    for key, argument, place in (("classifier", "num_classes", 0), ("first_conv", "in_chans", 1)):
        layers = config.get(key) or ()
        layer = layers if isinstance(layers, str) else next(iter(layers), "")
        found, own = (names.get(f"{layer}.weight") for names in (weights, network.state_dict()))
        if own is None and (found is None or key != "classifier"):
            continue
        if found is not None and (
            own is None or found.ndim == own.ndim
        ):  # None: an encoder unless classes are asked for
            sizes[argument] = found.shape[place]
        elif key == "classifier":
            sizes[argument] = 0  # the weights are an encoder's
    return sizes
