"""Settings of a network: its preprocessing, its classes, and which score of it is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.data.crop_templates import CropTemplate, template_of
from captum_canonical.errors import CanonicalError

LINKS = {"log_odds": "drop in log-odds", "probability": "drop in probability", "none": "drop in the score"}
"""Choices of ``--link``, and the unit of a map of drops."""


@dataclass(frozen=True)
class NetworkSettings:
    """Preprocessing and defaults of a network.

    A factory may return ``(network, settings)``, where ``settings`` is a mapping with some of these names; options of
    the command line override it::

        def gender(weights=None):
            return load(weights), {"size": 112, "margin": 0.01, "classes": ("male", "female"), "patch_size": 15}

    Attributes:
        size: of the input, a number of pixels or (height, width). Required, here or as ``--size``, unless ``crop`` is a
            template, which has one.
        crop: ``"face"``, a template (``"arcface"``, ``"dlib"``, a :class:`~captum_canonical.data.CropTemplate`),
            ``"none"`` for the whole photograph, or a box (left, top, right, bottom) in pixels.
        margin: around the face, as a share of its longer side.
        channels: ``"RGB"``, ``"BGR"`` or ``"L"`` (one grey channel).
        mean, std: of the normalisation of photographs in 0..1, a number or one for each channel. Default: none, for
            networks that normalise their input themselves.
        classes: names of the classes, in the order of the outputs, or their number.
        link: ``"log_odds"`` or ``"probability"`` for a network that returns logits, ``"none"`` to explain the outputs
            as they are.
        fill: colour of hidden patches, in 0..1 before the normalisation, a number or one for each channel. Default: 0
            in the network's input, which is the colour ``mean`` (black without one).
        patch_size: of hidden patches, in pixels of the input. Default: the paper's share, 15 of 224.

    Example::

        >>> NetworkSettings.of({"size": 112, "margin": 0.01}).margin
        0.01
    """

    size: int | tuple[int, int] | None = None
    crop: str | CropTemplate | Sequence[float] = "face"
    margin: float = 0.25
    channels: str = "RGB"
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    classes: int | Sequence[str] | None = None
    link: str = "log_odds"
    fill: float | Sequence[float] | None = None
    patch_size: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """The settings that a factory returns.

        Raises:
            CanonicalError: they are no mapping, or have an unknown name.
        """
        names = [each.name for each in fields(cls)]
        if not isinstance(values, Mapping):
            raise CanonicalError(
                f"settings: expected them as a mapping with names from {', '.join(names)}, got {type(values).__name__}."
            )
        for name in values:
            if name not in names:
                close = get_close_matches(str(name), names, n=1)
                hint = f"; {close[0]!r}?" if close else "."
                raise CanonicalError(f"settings: expected names from {', '.join(names)}, got {name!r}{hint}")
        return cls(**values)

    def overridden(self, arguments: object) -> NetworkSettings:
        """A copy in which the options that were given on the command line (those that are not None) win."""
        given = {each.name: getattr(arguments, each.name, None) for each in fields(self)}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing arguments of :class:`~captum_canonical.AlignedFaces`.

        Raises:
            CanonicalError: the size of the input is not known.
        """
        if self.size is None and template_of(self.crop) is None:
            raise CanonicalError(
                "--size: the size of the network's input is not known; give it in pixels, such as --size 224."
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
        """The normalised fill of hidden pixels, (1, C, 1, 1); None for 0."""
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

    def confidence(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """What is explained: the network's outputs, or the confidence that :attr:`link` computes from its logits.

        Raises:
            CanonicalError: an unknown link.
        """
        if self.link not in LINKS:
            raise CanonicalError(f"--link: expected one of {', '.join(LINKS)}, got {self.link!r}.")
        return network if self.link == "none" else ClassConfidence(network, self.link)

    def target(self, text: str) -> Any:
        """The value of ``--target``: predicted, given, a class index or the name of a class.

        Raises:
            CanonicalError: it is none of these.

        Example::

            >>> settings = NetworkSettings(classes=["sad", "glad"])
            >>> settings.target("glad"), settings.target("3"), settings.target("predicted")
            (1, 3, 'predicted')
        """
        names = [] if isinstance(self.classes, int) else list(self.classes or ())
        if text in names:
            return names.index(text)
        if text in ("predicted", "given"):
            return text
        if text.isascii() and text.isdecimal():
            return int(text)
        known = f" or a class ({', '.join(map(str, names[:10]))})" if names else ""
        raise CanonicalError(f"--target: expected predicted, given, a class index from 0{known}, got {text!r}.")
