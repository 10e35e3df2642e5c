"""What `explain` and `benchmark` work on: the network, the photographs, and the attribution methods by name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from captum.attr import Attribution, IntegratedGradients, LayerGradCam, Saliency
from torch import Tensor, nn

from captum_canonical._captum import as_output, output_in_words
from captum_canonical.attributions.grad_cam_plus_plus import GuidedGradCamPlusPlus, LayerGradCamPlusPlus
from captum_canonical.attributions.occlusion import CanonicalOcclusion
from captum_canonical.attributions.projector import CanonicalProjector
from captum_canonical.attributions.score_cam import LayerScoreCam
from captum_canonical.checks import check_device
from captum_canonical.cli.console import print_message
from captum_canonical.cli.gallery import gallery_confidence
from captum_canonical.cli.layers import choose_layer
from captum_canonical.cli.photographs import load_photographs
from captum_canonical.confidence.recognition import ZeroShotConfidence
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.records import FaceBatch, group_columns
from captum_canonical.data.targets import check_classes, class_names
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.fingerprint import network_digest
from captum_canonical.modules import device_of, dtype_of
from captum_canonical.networks.load import LoadedNetwork, load_network
from captum_canonical.networks.settings import NetworkSettings, are_probabilities
from captum_canonical.runs.targets import class_in, targets_of_gallery

OCCLUSION = "occlusion"
SCORED = 32  # photographs at once


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


def map_unit(name: str, settings: NetworkSettings) -> str:
    """The unit of a method's maps, for reports.

    Example::

        >>> map_unit("occlusion", NetworkSettings()), map_unit("saliency", NetworkSettings(link="none"))
        ('drop in log-odds', 'saliency, none')
        >>> map_unit("occlusion", NetworkSettings(kind="encoder"))
        'drop in cosine similarity'
    """
    if METHODS[name].maps_drops:
        return settings.unit
    return f"{name}, {settings.link if settings.is_classifier else settings.kind}"


@dataclass(frozen=True, eq=False)
class Session:
    """A network and the photographs to explain it on.

    Attributes:
        network: as it was loaded.
        confidence: the forward function to explain: the network itself or a part of its output, a confidence computed
            by ``--link``, or the similarity to a gallery.
        settings: preprocessing and defaults of the network.
        key: identifies the network where its weights do not, or None.
        data: the photographs; faces are searched when they are needed.
        face: the canonical face.
        target: ``"predicted"``, ``"given"``, a class index or the name of a column.
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

    @property
    def scored(self) -> Callable[..., Any]:
        """What faithfulness is measured in: probabilities, whatever ``--link`` is explained, or the scores."""
        settings = self.settings
        links = settings.is_classifier and settings.link != "none"
        return replace(settings, link="probability").confidence(self.network) if links else self.confidence

    def batch(self, size: int) -> FaceBatch:
        """The first photographs, at most ``size`` of them, on the network's device."""
        first = range(min(size, len(self.data)))
        return self.data.collate([self.data[index] for index in first]).to(self.device, dtype_of(self.network))

    def targets(self, batch: FaceBatch, scored: Callable[..., Any]) -> Tensor | None:
        """The class of each photograph of a batch to explain, or None for a network with one score.

        Raises:
            CanonicalError: classes are to be given, and the photographs have none.
        """
        if self.target == "given" and self.settings.is_classifier:
            if not isinstance(batch.targets, Tensor) or batch.targets.is_floating_point():
                raise CanonicalError("--target given: expected a column target with a class for each photograph.")
            return batch.targets
        with torch.no_grad():
            outputs = torch.cat([as_output(scored(part)) for part in batch.images.split(SCORED)])
        if outputs.ndim < 2 or outputs.shape[1] < 2:
            return None
        if isinstance(self.target, int):
            return torch.full((len(batch),), self.target, device=outputs.device)
        if isinstance(self.confidence, ZeroShotConfidence):
            return targets_of_gallery(self.confidence, outputs, self.target, batch)[0]
        if self.target == "predicted":
            return outputs.argmax(1)
        names = class_names(self.settings.class_names)
        return torch.tensor([class_in(value, names) for value in batch.group_columns[self.target]])

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
                output = as_output(self.settings.part(self.network)(image))
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise CanonicalError(
                f"--model: the network fails on an input of shape {tuple(image.shape)} ({type(error).__name__}: "
                f"{reason}); see --size and --channels, and torch.export's dynamic_shapes for the number of images."
            ) from error
        if not isinstance(output, Tensor):
            raise CanonicalError(
                f"--output: the network returns {output_in_words(output)}; name one of them by its key or place."
            )
        if not self.settings.is_classifier:
            self._check_numbers(output)
            return
        if self.data.num_classes is None:
            self.settings.check_kind(output)
        self._check_outputs(output)
        if self.settings.link != "none" and are_probabilities(output):
            print_message(
                f"warning: the outputs look like probabilities, of which --link {self.settings.link} makes no sense; "
                "--link none explains them as they are."
            )

    def _check_numbers(self, output: Tensor) -> None:
        """Of a regressor or an encoder, whose outputs are a matrix."""
        count = output.shape[1]
        if self.settings.kind == "regressor" and count > 1 and not isinstance(self.target, int):
            raise CanonicalError(
                f"--target: the regressor returns {count} numbers for each photograph; name one of them, --target 0 to "
                f"{count - 1}."
            )
        if self.settings.kind == "encoder" and count < 2:
            raise CanonicalError("--kind encoder: expected features, several numbers for each photograph, got one.")

    def _check_outputs(self, output: Tensor) -> None:
        if self.settings.link == "none" and output.ndim != 2:
            return
        classes = output.flatten(1).shape[1] if output.ndim > 1 else 1
        if self.settings.link != "none":
            classes = max(classes, 2)  # a network with one logit has a negative and a positive class
        check_classes(self.settings.class_names, classes)
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
    settings = loaded.settings.overridden(arguments).checked()
    data = load_photographs(arguments, settings)
    device = device or device_of(loaded.network) or torch.device("cpu")
    confidence, key = settings.confidence(loaded.network), _key_of(loaded, settings)
    if settings.kind == "encoder":
        key = key or network_digest(confidence)
        confidence, gallery = gallery_confidence(arguments, settings, confidence, device)
        key += f", gallery {gallery}"  # its photographs, not its features, which rounding moves
    elif arguments.gallery is not None:
        raise CanonicalError("--gallery: expected with --kind encoder only.")
    return Session(
        network=loaded.network,
        confidence=confidence,
        settings=settings,
        key=key,
        data=data,
        face=_canonical_face(arguments),
        target=settings.target(arguments.target, list(group_columns(data.rows))),
        layer=choose_layer(loaded.network, arguments, [m for m in methods if METHODS[m].needs_layer], data, device),
        device=device,
    )


def _key_of(loaded: LoadedNetwork, settings: NetworkSettings) -> str | None:
    """What identifies a network that cannot be compared, with what is explained of it; None where it can be."""
    if loaded.key is None:
        return None
    part = [f"output {settings.output}"] if settings.output is not None else []
    part += [f"head {settings.head} of {settings.classes}"] if settings.head is not None else []
    return ", ".join([loaded.key, f"link {settings.link}", *part])


def _canonical_face(arguments: Namespace) -> CanonicalFace:
    if arguments.canonical_face is None:
        return CanonicalFace.default()
    try:
        return CanonicalFace.load(arguments.canonical_face)
    except FileNotFoundError as error:
        raise CanonicalError(f"--canonical-face {arguments.canonical_face}: there is no such file.") from error
