"""Attribution methods by name: the choices of ``--method``, and the layers that some of them need."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Saliency
from torch import nn

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.cli.settings import LINKS, NetworkSettings
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace

OCCLUSION = "occlusion"


@dataclass(frozen=True)
class NamedMethod:
    """A choice of ``--method``.

    Attributes:
        attribution: a Captum attribution class, called with the forward function, and the layer if it needs one.
        needs_layer: whether it looks into a layer (``--layer``).
        maps_drops: whether its maps are drops of the explained score, and so have the score's unit.
    """

    attribution: Callable[..., Attribution]
    needs_layer: bool = False
    maps_drops: bool = False


METHODS = {
    OCCLUSION: NamedMethod(CanonicalOcclusion, maps_drops=True),
    "grad-cam": NamedMethod(LayerGradCam, needs_layer=True),
    "grad-cam++": NamedMethod(LayerGradCamPlusPlus, needs_layer=True),
    "guided-grad-cam++": NamedMethod(GuidedGradCamPlusPlus, needs_layer=True),
    "score-cam": NamedMethod(LayerScoreCam, needs_layer=True, maps_drops=True),
    "saliency": NamedMethod(Saliency),
    "integrated-gradients": NamedMethod(IntegratedGradients),
}


def attribution(name: str, confidence: Callable[..., Any], layer: nn.Module | None, face: CanonicalFace) -> Attribution:
    """The method of this name, with maps on the canonical face.

    Args:
        name: one of :data:`METHODS`.
        confidence: the forward function to explain.
        layer: for methods that need one; others ignore it.
        face: the canonical face.
    """
    method = METHODS[name]
    if name == OCCLUSION:
        return CanonicalOcclusion(confidence, canonical_face=face)
    inner = method.attribution(confidence, layer) if method.needs_layer else method.attribution(confidence)
    return CanonicalProjector(inner, canonical_face=face)


def occlusion_arguments(arguments: Namespace, settings: NetworkSettings, device: Any) -> dict[str, Any]:
    """Arguments of ``CanonicalOcclusion.attribute``."""
    fill = settings.baselines()
    values = {
        "num_points": arguments.points,
        "patch_size": settings.patch_size,
        "baselines": None if fill is None else fill.to(device),
    }
    return {name: value for name, value in values.items() if value is not None}


def map_unit(name: str, link: str) -> str:
    """The unit of a method's maps, for reports.

    Example::

        >>> map_unit("occlusion", "log_odds"), map_unit("saliency", "log_odds")
        ('drop in log-odds', 'saliency, log_odds')
    """
    return LINKS[link] if METHODS[name].maps_drops else f"{name}, {link}"


def find_layer(network: object, wanted: str | None, methods: Sequence[str]) -> nn.Module | None:
    """The module that ``--layer`` names; None if no method needs a layer.

    Raises:
        CanonicalError: a method needs a layer and none is named, or the network has no such module.
    """
    needing = [name for name in methods if METHODS[name].needs_layer]
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
    listed = ", ".join(known[:10]) or "none: it is a single module"
    if wanted is None:
        raise CanonicalError(f"--layer: {needing[0]} looks into a layer; name one, such as {listed}.")
    raise CanonicalError(f"--layer: the network has no layer {wanted!r}; it has {listed}.")
