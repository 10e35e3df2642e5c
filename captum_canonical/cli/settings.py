"""What a network wants to see, and how it is explained, from a factory and from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from captum_canonical.errors import CanonicalError


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
