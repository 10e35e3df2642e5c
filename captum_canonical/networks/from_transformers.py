"""Networks of Hugging Face in a folder, with its own preprocessing and names; none of its code is run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from captum_canonical.errors import CanonicalError, first_line
from captum_canonical.networks.files import tensors_only
from captum_canonical.networks.references import optional
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.networks.weights import load_weights

logger = logging.getLogger("captum_canonical")
PREFIX = "hf:"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


def load_transformers(folder: Path, weights: Path | None) -> tuple[nn.Module, NetworkSettings]:
    """The network of a folder that ``save_pretrained`` wrote, in float32, and the folder's preprocessing and classes.

    Args:
        folder: with config.json, weights, and perhaps preprocessor_config.json.
        weights: a file in place of those in the folder.

    Raises:
        MissingDependencyError: transformers is not installed.
        CanonicalError: it is no such folder, its network needs code of its own, or its weights do not fit.
    """
    source = f"model {PREFIX}{folder}"
    if not (folder / CONFIG).is_file():
        raise CanonicalError(
            f"{source}: expected a folder with {CONFIG}, as save_pretrained writes it; names of the hub are not looked "
            "up: download the network first (hf download NAME --local-dir FOLDER)."
        )
    config = _read(folder / CONFIG)
    network = _network(optional("transformers", source), folder, config, weights, source).float()
    try:
        return network, settings_of(config, _preprocessor(folder), source)
    except (TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise CanonicalError(
            f"{source}: {CONFIG} or {PREPROCESSOR} holds values of another kind than transformers writes "
            f"({first_line(error)}); correct the file, or leave {PREPROCESSOR} out and give size, mean and std."
        ) from error


def _network(transformers: Any, folder: Path, config: Mapping[str, Any], weights: Path | None, source: str) -> Any:
    kind = _kind(transformers, config, source)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with tensors_only():
            if weights is not None:
                network = kind(kind.config_class.from_pretrained(folder, **options))
            else:
                network, info = kind.from_pretrained(folder, **options, output_loading_info=True)
    except Exception as error:
        raise CanonicalError(f"{source}: transformers cannot load it ({first_line(error)})") from error
    if weights is not None:
        load_weights(network, weights)
    elif info["missing_keys"]:
        some = ", ".join(sorted(info["missing_keys"])[:3])
        raise CanonicalError(
            f"{source}: the folder's weights lack {some}, which would be random; save the network anew."
        )
    return network


def _kind(transformers: Any, config: Mapping[str, Any], source: str) -> Any:
    """The class of transformers that the folder names."""
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    kind = getattr(transformers, name, None) if name.isidentifier() else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        why = "its code lies in the folder and is not run" if "auto_map" in config else "transformers does not have it"
        raise CanonicalError(
            f"{source}: expected a network of transformers, got {name or 'none'} in {CONFIG} ({why}); if you trust it, "
            "load it in a factory of your own."
        )
    return kind


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CanonicalError(f"{path}: expected JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise CanonicalError(f"{path}: expected a JSON object, got {type(found).__name__}.")
    return found


def _preprocessor(folder: Path) -> dict[str, Any] | None:
    return _read(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else None


# ---------------------------------------------------------------------------------------------------- preprocessing
def settings_of(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None, source: str = "model"
) -> NetworkSettings:
    """What config.json and preprocessor_config.json say of the input and the classes.

    A preprocessor computes (f x - o - mean) / std from x in 0..1, f being 255 times the factor by which it scales
    bytes, o its offset; this is (x - (o + mean) / f) / (std / f).

    Example::

        >>> config = {"id2label": {"0": "sad", "1": "glad"}}
        >>> preprocessor = {"size": {"height": 96, "width": 96}, "image_mean": [0.5], "image_std": [0.5]}
        >>> found = settings_of(config, preprocessor)
        >>> found.size, found.mean, found.std, found.classes
        ((96, 96), (0.5,), (0.5,), ('sad', 'glad'))
    """
    values: dict[str, Any] = {"classes": _classes(config)}
    if config.get("problem_type") == "regression":
        values["link"] = "none"
    if config.get("num_channels") == 1:
        values["channels"] = "L"
    if preprocessor is None:
        logger.warning(
            "%s: there is no %s, so photographs are not normalised; give mean and std as the network was trained.",
            source,
            PREPROCESSOR,
        )
        return NetworkSettings(size=_size(config.get("image_size")), **values)
    crop = preprocessor.get("crop_size") if preprocessor.get("do_center_crop", "crop_size" in preprocessor) else None
    values["size"] = _size(crop) or _size(preprocessor.get("size")) or _size(config.get("image_size"))
    if preprocessor.get("do_flip_channel_order"):
        values["channels"] = "BGR"
    factor = 255 * preprocessor.get("rescale_factor", 1 / 255) if preprocessor.get("do_rescale", True) else 255.0
    offset = 1.0 if preprocessor.get("rescale_offset") and preprocessor.get("do_rescale", True) else 0.0
    mean, std = [0.0], [1.0]
    if preprocessor.get("do_normalize", "image_mean" in preprocessor):
        mean, std = (
            _numbers(preprocessor.get(name, default)) for name, default in (("image_mean", 0.0), ("image_std", 1.0))
        )
    if preprocessor.get("include_top"):  # of EfficientNet, which divides once more
        std = [each**2 for each in std]
    values["mean"] = tuple(round((each + offset) / factor, 9) for each in mean)
    values["std"] = tuple(round(each / factor, 9) for each in std)
    return NetworkSettings(**values)


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes in their order, unless they are those that nobody gave."""
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or not labels:
        return None
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return None if names == tuple(f"LABEL_{number}" for number in range(len(names))) else names


def _size(value: Any) -> int | tuple[int, int] | None:
    if isinstance(value, Mapping):
        if {"height", "width"} <= value.keys():
            return int(value["height"]), int(value["width"])
        value = value.get("shortest_edge")
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return int(value[0]), int(value[1])
    return int(value) if isinstance(value, (int, float)) else None


def _numbers(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, (list, tuple)) else [float(value)]
