"""The network and photographs that ``explain`` and ``benchmark`` work on."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_canonical.cli.align import load_photographs
from captum_canonical.cli.console import print_message
from captum_canonical.cli.methods import find_layer
from captum_canonical.cli.network_files import first_line
from captum_canonical.cli.networks import load_network
from captum_canonical.cli.settings import NetworkSettings
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.photo_list import check_class_names
from captum_canonical.data.records import FaceBatch
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace


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
        return self.data.collate([self.data[index] for index in first]).to(self.device)

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
        image = self.data[0].image[None].to(self.device)
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
        check_class_names(self.settings.classes, classes)
        if isinstance(self.target, int) and self.target >= classes:
            raise CanonicalError(
                f"--target: expected a class from 0 to {classes - 1}, since the network has {classes} classes, got "
                f"{self.target}."
            )


def start_session(arguments: Namespace, methods: list[str]) -> Session:
    """Loads everything that the options name, and checks the options.

    Args:
        arguments: the options of the command.
        methods: names of the methods to run, see :data:`~captum_canonical.cli.methods.METHODS`.

    Raises:
        CanonicalError: an option is wrong.
    """
    device = _parse_device(arguments.device)
    loaded = load_network(arguments.model, arguments.weights, arguments.device)
    settings = loaded.settings.overridden(arguments)
    key = None if loaded.key is None else f"{loaded.key}, link {settings.link}"
    return Session(
        network=loaded.network,
        confidence=settings.confidence(loaded.network),
        settings=settings,
        key=key,
        data=load_photographs(arguments, settings),
        face=_canonical_face(arguments),
        target=settings.target(arguments.target),
        layer=find_layer(loaded.network, arguments.layer, methods),
        device=device or _device_of(loaded.network),
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


def _parse_device(name: str | None) -> torch.device | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CanonicalError(f"--device {name}: there is no such device here ({first_line(error)})") from error
    return device


def _device_of(network: object) -> torch.device:
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
