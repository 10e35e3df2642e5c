"""Networks as the program ``captum-canonical`` takes them: ``--model examples.real_networks:gender``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from studies.face_nets.download import get_face_nets
from studies.face_nets.networks import EXPRESSIONS, FAIRFACE, load
from studies.face_nets.photographs import TIGHT, WITH_HAIR
from studies.face_nets.tasks import patch_side

NetworkAndSettings = tuple[nn.Module, dict[str, Any]]


def gender(weights: Path | None = None) -> NetworkAndSettings:
    return _with_settings("age_gender", weights, margin=TIGHT, classes=("male", "female"))


def gender_xception(weights: Path | None = None) -> NetworkAndSettings:
    return _with_settings("gender_xception", weights, margin=WITH_HAIR, classes=("woman", "man"))


def expression(weights: Path | None = None) -> NetworkAndSettings:
    return _with_settings("face_expression", weights, margin=TIGHT, classes=EXPRESSIONS)


def encoder(weights: Path | None = None) -> NetworkAndSettings:
    return _with_settings("mobilefacenet", weights, crop="arcface", kind="encoder")


def fairface(weights: Path | None = None) -> NetworkAndSettings:
    return _with_settings("fairface", weights, crop="arcface", kind="heads", classes=FAIRFACE)


def _with_settings(name: str, weights: Path | None, **settings: Any) -> NetworkAndSettings:
    """A network and its settings; ``weights`` is a folder of converted networks, or the network's own file in one."""
    folder = get_face_nets(networks=(name,)) if weights is None else weights if weights.is_dir() else weights.parent
    if weights is not None and folder != weights and weights.name != f"{name}.safetensors":
        raise ValueError(f"expected a folder with {name}.safetensors, or that file, got {weights}")
    net = load(folder, name)
    shared = {
        "size": net.size,
        "channels": "RGB" if net.channels == 3 else "L",
        "fill": net.normalize.mean.flatten().tolist(),
        "patch_size": patch_side(net.size),
    }
    return net, shared | settings
