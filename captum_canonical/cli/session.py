"""What `explain` and `benchmark` work on: the network, the photographs, and the attribution methods by name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Saliency
from torch import Tensor, nn

from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.checks import check_device
from captum_canonical.cli.console import print_message
from captum_canonical.cli.layers import choose_layer
from captum_canonical.cli.photographs import load_photographs
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.records import FaceBatch
from captum_canonical.data.targets import check_classes
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.modules import dtype_of
from captum_canonical.networks.load import load_network
from captum_canonical.networks.settings import LINKS, NetworkSettings

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


@dataclass(frozen=True, eq=False)
class Session:
    """A network and the photographs to explain it on.

    Attributes:
        network: as it was loaded.
        confidence: the forward function to explain: the network itself, or a confidence computed by ``--link``.
        settings: preprocessing and defaults of the network.
        key: identifies the network where its weights do not, or None.
        data: the photographs; faces are searched when they are needed.
        face: the canonical face.
        target: ``"predicted"``, ``"given"`` or a class index.
        layer: for methods that need one.
        device: of the network.
    """

    network: Callable[..., Any]
    confidence: Callable[..., Any]
    settings: NetworkSettings
    key: str | None
    data: AlignedFaces
    face: CanonicalFace
    target: Any
    layer: nn.Module | None
    device: torch.device

    def batch(self, size: int) -> FaceBatch:
        """The first photographs, at most ``size`` of them, on the network's device."""
        first = range(min(size, len(self.data)))
        return self.data.collate([self.data[index] for index in first]).to(self.device, dtype_of(self.network))

    def probe(self) -> None:
        """Runs the network on one photograph, so that errors are found before hours of work.

        Raises:
            CanonicalError: no face was found in any photograph, or the network fails.
        """
        if not len(self.data):
            first = next(iter(self.data.left_out.values()))
            raise CanonicalError(
                f"--images: no face was found in any of {len(self.data.rows)} photographs; the first is "
                f"{first.path.name}: {first.reason}"
            )
        image = self.batch(1).images
        try:
            with torch.no_grad():
                output = self.network(image)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise CanonicalError(
                f"--model: the network fails on an input of shape {tuple(image.shape)} ({type(error).__name__}: "
                f"{reason}); see --size and --channels, and torch.export's dynamic_shapes for the number of images."
            ) from error
        if not isinstance(output, Tensor):
            return
        self._check_outputs(output)
        if self.settings.link != "none" and _are_probabilities(output):
            print_message(
                f"warning: the outputs look like probabilities, of which --link {self.settings.link} makes no sense; "
                "--link none explains them as they are."
            )

    def _check_outputs(self, output: Tensor) -> None:
        if self.settings.link == "none" and output.ndim != 2:
            return
        classes = output.flatten(1).shape[1] if output.ndim > 1 else 1
        if self.settings.link != "none":
            classes = max(classes, 2)  # a network with one logit has a negative and a positive class
        check_classes(self.settings.classes, classes)
        if isinstance(self.target, int) and self.target >= classes:
            raise CanonicalError(
                f"--target: expected a class from 0 to {classes - 1}, since the network has {classes} classes, got "
                f"{self.target}."
            )


def start_session(arguments: Namespace, methods: list[str]) -> Session:
    """Loads everything that the options name, and checks the options.

    Args:
        arguments: the options of the command.
        methods: names of the methods to run, see :data:`~captum_canonical.cli.session.METHODS`.

    Raises:
        CanonicalError: an option is wrong.
    """
    device = None if arguments.device is None else check_device("--device", arguments.device)
    loaded = load_network(arguments.model, arguments.weights, arguments.device, arguments.dtype, arguments.size)
    settings = loaded.settings.overridden(arguments)
    key = None if loaded.key is None else f"{loaded.key}, link {settings.link}"
    data = load_photographs(arguments, settings)
    device = device or _device_of(loaded.network)
    return Session(
        network=loaded.network,
        confidence=settings.confidence(loaded.network),
        settings=settings,
        key=key,
        data=data,
        face=_canonical_face(arguments),
        target=settings.target(arguments.target),
        layer=choose_layer(loaded.network, arguments, [m for m in methods if METHODS[m].needs_layer], data, device),
        device=device,
    )


def _are_probabilities(output: Tensor) -> bool:
    if output.ndim != 2 or output.shape[1] < 2 or not output.is_floating_point():
        return False
    return bool((output >= 0).all() and (output.sum(1) - 1).abs().max() < 1e-4)


def _canonical_face(arguments: Namespace) -> CanonicalFace:
    if arguments.canonical_face is None:
        return CanonicalFace.default()
    try:
        return CanonicalFace.load(arguments.canonical_face)
    except FileNotFoundError as error:
        raise CanonicalError(f"--canonical-face {arguments.canonical_face}: there is no such file.") from error


def _device_of(network: object) -> torch.device:
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
