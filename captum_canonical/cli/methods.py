"""What a network wants to see, and how it is explained, from a factory and from the command line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Saliency
from torch import Tensor, nn

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace


@dataclass(frozen=True)
class NetworkSettings:
    """Preprocessing and defaults that go with a network.

    A factory may return ``(network, settings)``, ``settings`` being a mapping with some of these names; the options of
    the command line win over it::

        def gender(weights=None):
            return load(weights), {"size": 112, "margin": 0.01, "classes": ("male", "female"), "patch_size": 15}

    Attributes:
        size: of the input, a number of pixels or (height, width). There is no default.
        crop: ``"face"``, ``"none"`` for the whole photograph, or a box (left, top, right, bottom) in pixels.
        margin: around the face, as a share of its longer side.
        channels: ``"RGB"``, ``"BGR"`` or ``"L"`` (one grey channel).
        mean, std: of the normalisation of photographs in 0..1, a number or one for each channel. A network that
            normalises by itself needs none.
        classes: names of the classes in the order of the outputs.
        link: ``"log_odds"`` or ``"probability"`` of a network that returns logits, ``"none"`` to explain its outputs as
            they are.
        fill: colour of hidden patches, in 0..1 before the normalisation, a number or one for each channel. Default: 0
            in the network's input, which is the colour ``mean`` (black without one).
        patch_size: of hidden patches, in pixels of the input. Default: the paper's share, 15 of 224.

    Example::

        >>> NetworkSettings.of({"size": 112, "margin": 0.01}).margin
        0.01
    """

    size: int | tuple[int, int] | None = None
    crop: str | Sequence[float] = "face"
    margin: float = 0.25
    channels: str = "RGB"
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    classes: Sequence[str] | None = None
    link: str = "log_odds"
    fill: float | Sequence[float] | None = None
    patch_size: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """Those of a factory.

        Raises:
            CanonicalError: it is no mapping, or has a name that is none of the above.
        """
        names = [each.name for each in fields(cls)]
        if not isinstance(values, Mapping):
            raise CanonicalError(
                f"--model: expected settings as a mapping with names from {', '.join(names)}, got "
                f"{type(values).__name__}."
            )
        for name in values:
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                meant = f"; {close[0]!r}?" if close else "."
                raise CanonicalError(f"--model: expected settings from {', '.join(names)}, got {name!r}{meant}")
        return cls(**values)

    def overridden(self, arguments: object) -> NetworkSettings:
        """With the options that were given on the command line, those of a namespace that are not None."""
        given = {each.name: getattr(arguments, each.name, None) for each in fields(self)}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @property
    def input(self) -> dict[str, Any]:
        """The arguments of :class:`~captum_canonical.AlignedFaces` about the network's input.

        Raises:
            CanonicalError: nobody says how large the input is.
        """
        if self.size is None:
            raise CanonicalError(
                "--size: the network does not say how large its input is; give it in pixels, such as --size 224."
            )
        return {
            "size": self.size,
            "crop": None if self.crop == "none" else self.crop,
            "margin": self.margin,
            "channels": self.channels,
            "mean": self.mean,
            "std": self.std,
        }

    def baselines(self) -> Tensor | None:
        """(1, C, 1, 1) what hidden pixels become in the network's input; None for 0."""
        if self.fill is None:
            return None
        channels = 1 if self.channels == "L" else 3
        parts = [torch.as_tensor(each, dtype=torch.float32).flatten() for each in (self.fill, self.mean, self.std)]
        if any(len(part) not in (1, channels) for part in parts):
            raise CanonicalError(
                f"--fill: expected one number or one for each of {channels} channels, got {self.fill}."
            )
        fill, mean, std = (part.expand(channels) for part in parts)
        return ((fill - mean) / std).reshape(1, channels, 1, 1)


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
