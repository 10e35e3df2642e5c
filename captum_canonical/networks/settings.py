"""Settings of a network: its preprocessing, its classes, and which score of it is explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.confidence.outputs import Output, as_network
from captum_canonical.data.crop_templates import CropTemplate, template_of
from captum_canonical.errors import CanonicalError

KINDS = {
    "classifier": "logits or probabilities of classes",
    "heads": "several classifiers side by side, of which --head names one",
    "regressor": "real numbers, such as an age",
    "encoder": "features of a face, compared with those of a --gallery",
}
"""Choices of ``--kind``, and what such a network returns."""
LINKS = {"log_odds": "drop in log-odds", "probability": "drop in probability", "none": "drop in the score"}
"""Choices of ``--link``, and the unit of a map of drops."""
UNITS = {"regressor": "drop in the predicted value", "encoder": "drop in cosine similarity"}
"""The unit for kinds of networks that have no link."""
WIDTHS = (128, 192, 256, 512, 1024, 2048)
"""Numbers of features that encoders have, and hardly any classifier has classes."""


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
        kind: of network, one of :data:`KINDS`. Default: a classifier, or heads where ``classes`` are of several.
        output: the part of what the network returns, as :class:`~captum_canonical.confidence.NetworkOutput` takes it.
        head: the head to explain, of those in ``classes``.
        classes: names of the classes, in the order of the outputs, or their number; or ``{head: names or number}``.
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
    kind: str | None = None
    output: Output = None
    head: str | None = None
    classes: int | Sequence[str] | Mapping[str, Sequence[str] | int] | None = None
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

    def checked(self) -> NetworkSettings:
        """The same, if kind, head, classes and link fit each other.

        Raises:
            CanonicalError: they do not.
        """
        heads = ", ".join(self.classes) if isinstance(self.classes, Mapping) else ""
        for name, value, known in (("kind", self.kind, KINDS), ("link", self.link, LINKS)):
            if value is not None and value not in known:
                raise CanonicalError(f"--{name}: expected one of {', '.join(known)}, got {value!r}.")
        if self.head is not None and not heads:
            raise CanonicalError(
                f"--head {self.head}: the heads are not known; give each with its classes, in their order: "
                "--classes race=White,Black,... --classes gender=Male,Female."
            )
        if self.kind == "heads" and not heads:
            raise CanonicalError("--kind heads: give each head with its classes, --classes gender=Male,Female ...")
        if heads and self.head not in self.classes:  # type: ignore[operator]
            got = "none" if self.head is None else repr(self.head)
            raise CanonicalError(f"--head: expected one of the heads {heads}, got {got}.")
        return self

    @property
    def is_classifier(self) -> bool:
        """Whether the outputs are those of classes."""
        return self.kind not in UNITS

    @property
    def unit(self) -> str:
        """Of a drop of what is explained."""
        return UNITS.get(self.kind or "", LINKS[self.link])

    @property
    def class_names(self) -> int | Sequence[str] | None:
        """The names or the number of the classes of what is explained, or None."""
        if not isinstance(self.classes, Mapping):
            return self.classes
        own = self.classes.get(str(self.head))
        return None if own == 1 else own  # one logit, which has two sides

    def part(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """The network as one that returns the part that counts, (N, K)."""
        if self.output is None and self.head is None and self.is_classifier:
            return network
        steps = self.output if isinstance(self.output, tuple) else (self.output,) if self.output is not None else ()
        heads = self.classes if isinstance(self.classes, Mapping) else None
        return as_network(network, (*steps, self.head) if self.head else steps, heads)

    def confidence(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """What is explained: the part of the outputs, or the confidence that :attr:`link` computes from its logits."""
        part = self.part(network)
        return part if self.link == "none" or not self.is_classifier else ClassConfidence(part, self.link)

    def check_kind(self, output: Tensor) -> None:
        """Checks the outputs (N, K) of a network whose kind nobody has said.

        Raises:
            CanonicalError: they look like features, which have no classes.

        Example::

            >>> NetworkSettings().check_kind(torch.randn(1, 512))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            captum_canonical.errors.CanonicalError: --kind: the network returns 512 numbers ...
        """
        if self.kind is not None or self.classes is not None or output.ndim != 2 or are_probabilities(output):
            return
        width, length = output.shape[1], output.float().norm(dim=1)
        normalised = width >= 16 and bool((length - 1).abs().max() < 1e-2)
        if width in WIDTHS or normalised:
            raise CanonicalError(
                f"--kind: the network returns {width} numbers{' of length 1' if normalised else ''} without names, the "
                "features of an encoder, it seems, which have no classes; give --kind encoder with --gallery to "
                "explain whom it recognises, or --kind classifier if they are scores of classes."
            )

    def target(self, text: str, columns: Sequence[str] = ()) -> Any:
        """The value of ``--target``: predicted, given, a class index, the name of a class, or one of these columns.

        Raises:
            CanonicalError: it is none of these.

        Example::

            >>> settings = NetworkSettings(classes=["sad", "glad"])
            >>> settings.target("glad"), settings.target("3"), settings.target("predicted")
            (1, 3, 'predicted')
        """
        names = [] if isinstance(self.class_names, int) else list(self.class_names or ())
        if text in names:
            return names.index(text)
        if text in ("predicted", "given", *columns):
            return text
        if text.isascii() and text.isdecimal():
            return int(text)
        known = f" or a class ({', '.join(map(str, names[:10]))})" if names else ""
        known += f" or a column ({', '.join(columns)})" if columns else ""
        raise CanonicalError(f"--target: expected predicted, given, a class index from 0{known}, got {text!r}.")


def are_probabilities(output: Tensor) -> bool:
    """Whether each row (N, K) consists of at least two shares that sum to 1.

    Example::

        >>> are_probabilities(torch.tensor([[0.25, 0.75]])), are_probabilities(torch.tensor([[0.25, 0.5]]))
        (True, False)
    """
    if output.ndim != 2 or output.shape[1] < 2 or not output.is_floating_point():
        return False
    return bool((output >= 0).all() and (output.sum(1) - 1).abs().max() < 1e-4)
