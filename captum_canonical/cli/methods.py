"""The attribution methods of ``--method``, and the layer that some of them look into."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Saliency
from torch import nn

from captum_canonical.attributions import (
    CanonicalOcclusion,
    CanonicalProjector,
    GuidedGradCamPlusPlus,
    LayerGradCamPlusPlus,
    LayerScoreCam,
)
from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.cli.settings import NetworkSettings
from captum_canonical.confidence import ClassConfidence
from captum_canonical.errors import CanonicalError

OF_LAYERS: dict[str, Callable[..., Attribution]] = {
    "grad-cam": LayerGradCam,
    "grad-cam++": LayerGradCamPlusPlus,
    "guided-grad-cam++": GuidedGradCamPlusPlus,
    "score-cam": LayerScoreCam,
}
OF_INPUTS: dict[str, Callable[..., Attribution]] = {"saliency": Saliency, "integrated-gradients": IntegratedGradients}
METHODS = ("occlusion", *OF_LAYERS, *OF_INPUTS)
LINKS = ("log_odds", "probability", "none")


def confidence_of(network: Callable[..., Any], link: str) -> Callable[..., Any]:
    """What is explained: the network's outputs, or what ``--link`` makes of its logits."""
    if link not in LINKS:
        raise CanonicalError(f"--link: expected one of {', '.join(LINKS)}, got {link!r}.")
    return network if link == "none" else ClassConfidence(network, link)


def attribution(name: str, confidence: Callable[..., Any], layer: nn.Module | None, face: CanonicalFace) -> Attribution:
    """The method of this name, which writes on the canonical face.

    Args:
        name: one of :data:`METHODS`.
        confidence: what is explained.
        layer: for those of :data:`OF_LAYERS`.
        face: the canonical face.
    """
    if name == "occlusion":
        return CanonicalOcclusion(confidence, canonical_face=face)
    inner = OF_LAYERS[name](confidence, layer) if name in OF_LAYERS else OF_INPUTS[name](confidence)
    return CanonicalProjector(inner, canonical_face=face)


def layer_of(network: object, wanted: str | None, methods: list[str]) -> nn.Module | None:
    """The module that ``--layer`` names, for methods that look into one.

    Raises:
        CanonicalError: a method needs a layer and none is named, or the network has no such module.
    """
    needing = [name for name in methods if name in OF_LAYERS]
    if not needing:
        if wanted is not None:
            raise CanonicalError(f"--layer: {', '.join(methods)} looks into no layer; leave the option out.")
        return None
    if not isinstance(network, nn.Module):
        raise CanonicalError(f"--method {needing[0]}: expected a torch module whose layers can be looked into.")
    modules = dict(network.named_modules())
    if wanted is not None and wanted in modules:
        return modules[wanted]
    last = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)][-3:]
    known = (get_close_matches(wanted, modules, n=3) if wanted else []) or last or [name for name in modules if name]
    listed = ", ".join(known[:10]) or "none: it is one piece"
    if wanted is None:
        raise CanonicalError(f"--layer: {needing[0]} looks into a layer; name one, such as {listed}.")
    raise CanonicalError(f"--layer: the network has no layer {wanted!r}; it has {listed}.")


def occlusion_arguments(arguments: Namespace, settings: NetworkSettings, device: Any) -> dict[str, Any]:
    """Arguments of ``CanonicalOcclusion.attribute``."""
    values: dict[str, Any] = {"num_points": arguments.points, "patch_size": settings.patch_size}
    fill = settings.baselines()
    values["baselines"] = None if fill is None else fill.to(device)
    return {name: value for name, value in values.items() if value is not None}


def target_of(text: str, classes: Any) -> Any:
    """``--target``: predicted, given, a class index or the name of a class.

    Raises:
        CanonicalError: it is none of these.

    Example::

        >>> target_of("glad", ["sad", "glad"]), target_of("3", None), target_of("predicted", None)
        (1, 3, 'predicted')
    """
    names = list(classes or ())
    if text in names:
        return names.index(text)
    if text in ("predicted", "given"):
        return text
    if text.isdecimal():
        return int(text)
    known = f" or a class ({', '.join(map(str, names[:10]))})" if names else ""
    raise CanonicalError(f"--target: expected predicted, given, a class index from 0{known}, got {text!r}.")
