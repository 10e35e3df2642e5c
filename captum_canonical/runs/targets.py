"""What is explained of each photograph of a run: the names of the classes, and a target for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_canonical._captum import TargetType
from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.confidence.outputs import NetworkOutput
from captum_canonical.confidence.recognition import ZeroShotConfidence
from captum_canonical.data.records import FaceBatch
from captum_canonical.data.targets import class_of
from captum_canonical.errors import CanonicalError
from captum_canonical.runs.sources import PhotoSource


def take_class_names(source: PhotoSource, forward_func: object) -> None:
    """Names the classes as the network's confidence does, where the data give them no names.

    Raises:
        CanonicalError: the data have names of their own, and they are others, or in another order.
    """
    if isinstance(forward_func, ZeroShotConfidence):
        source.classes, source.declared_classes = gallery_names(forward_func.gallery_labels), None
        return
    named = isinstance(forward_func, (ClassConfidence, NetworkOutput))
    names = forward_func.classes if named else None  # type: ignore[attr-defined]
    if names is None:
        return
    if source.classes is not None and tuple(source.classes) != names:
        raise CanonicalError(
            f"classes: expected the same names in the same order from the data and the network, got "
            f"{', '.join(source.classes[:10])} and {', '.join(names[:10])}; give AlignedFaces(classes=...) as the "
            "network has them."
        )
    source.classes = source.declared_classes = names


def gallery_names(labels: Sequence[Hashable]) -> list[str]:
    """Different names of the images of a gallery: the person, with a number where there are several.

    Example::

        >>> gallery_names(["ada", "bob", "ada"])
        ['ada, 1', 'bob', 'ada, 2']
    """
    count, seen, names = Counter(labels), Counter[Hashable](), []
    for label in labels:
        seen[label] += 1
        names.append(f"{label}, {seen[label]}" if count[label] > 1 else str(label))
    return names


WORDS = ("predicted", "given")


@dataclass(frozen=True, eq=False)
class TargetPerPhoto:
    """A target for each photograph, by its place in the data."""

    by_place: Mapping[int, Any]

    def __fingerprint__(self) -> object:
        return sorted(self.by_place.items())

    def of(self, places: Sequence[int]) -> TargetType:
        """The targets of some photographs, as Captum takes them."""
        found = [self.by_place[place] for place in places]
        return torch.tensor(found) if all(isinstance(each, int) for each in found) else found


def target_of_run(target: Any, source: PhotoSource) -> Any:
    """A target as a run takes it: names of classes are their indices, targets of single photographs are by place.

    Args:
        target: as :func:`~captum_canonical.explain_dataset` takes it.
        source: the photographs.

    Raises:
        CanonicalError: there is no such class, or not a target for each photograph that is explained.
    """
    if isinstance(target, str) and target in WORDS:
        return target
    if (
        isinstance(target, str)
        and target not in (source.classes or ())
        and target in source.photographs.get("groups", {})
    ):
        target = source.photographs["groups"][target]
    if isinstance(target, str):
        return class_of(target, source.classes)
    if target is None or isinstance(target, (int, tuple)):
        return target
    photographs = source.photographs
    taking_part = [
        place for place, row in zip(photographs["place"], photographs["row"], strict=True) if row is not None
    ]
    if isinstance(target, Mapping):
        values = _by_name(target, source)
    else:
        entries = target.tolist() if isinstance(target, (Tensor, np.ndarray)) else list(target)
        if len(entries) != len(photographs["place"]):
            raise CanonicalError(
                f"target: expected one for each of the {len(photographs['place'])} photographs of the data, those that "
                f"are left out too, got {len(entries)}."
            )
        values = dict(zip(photographs["place"], entries, strict=True))
    missing = [place for place in taking_part if values.get(place) is None]
    if missing:
        names = dict(zip(photographs["place"], photographs["name"], strict=True))
        listed = ", ".join(str(names[place]) for place in missing[:5])
        raise CanonicalError(f"target: expected one for each photograph, but {len(missing)} have none: {listed}.")
    return TargetPerPhoto({place: class_in(values[place], source.classes) for place in taking_part})


def _by_name(target: Mapping[Any, Any], source: PhotoSource) -> dict[int, Any]:
    """Place -> target, for keys that are names or paths of photographs."""
    photographs, found, used = source.photographs, {}, set()
    names = Counter[str](photographs["name"])
    for place, name, path in zip(*(photographs[key] for key in ("place", "name", "path")), strict=True):
        known = [key for key in (path, name) if key is not None and key in target]
        if known and known[0] == name and names[name] > 1:
            raise CanonicalError(f"target: {names[name]} photographs are called {name!r}; give their paths instead.")
        if known:
            found[place] = target[known[0]]
            used.update(known)
    unknown = [str(key) for key in target if key not in used]
    if unknown:
        raise CanonicalError(
            f"target: expected names or paths of photographs, such as {photographs['name'][0]!r}, got "
            f"{', '.join(map(repr, unknown[:5]))}."
        )
    return found


def class_in(value: Any, names: Sequence[str] | None) -> Any:
    """A target of one photograph as Captum takes it.

    Args:
        value: the index of a class, also as a text, or its name; or a tuple of indices.
        names: of the classes, if they have any.

    Raises:
        CanonicalError: it is none of these.

    Example::

        >>> class_in("sad", ["glad", "sad"]), class_in("1", None), class_in(np.int64(1), None)
        (1, 1, 1)
    """
    value = value.item() if isinstance(value, (np.generic, Tensor)) and value.ndim == 0 else value
    if isinstance(value, str):
        number = value.isascii() and value.isdecimal() and value not in (names or ())
        return int(value) if number else class_of(value, names)
    entries = value if isinstance(value, tuple) else (value,)
    if any(isinstance(each, bool) or not isinstance(each, int) for each in entries):
        raise CanonicalError(f"target: expected class indices or names, got {value!r}.")
    return value


def targets_of_gallery(
    confidence: ZeroShotConfidence, similarity: Tensor, target: str, batch: FaceBatch
) -> tuple[Tensor, list[int | None]]:
    """The gallery image to explain each photograph by, and the nearest of all; never the photograph itself.

    Args:
        confidence: recognition in a gallery.
        similarity: (N, G) of the clean photographs.
        target: ``"predicted"``, the nearest of all, or ``"given"``, the nearest of the photograph's own identity.
        batch: of the photographs.

    Raises:
        CanonicalError: a photograph has no identity, or the gallery no other photograph of it.
    """
    nearest = confidence.nearest(similarity)
    if target == "predicted":
        return nearest, nearest.tolist()
    if any(identity is None for identity in batch.identities):
        raise CanonicalError('target: "given" expects the identity of each photograph, whom the gallery is asked for.')
    return confidence.nearest(similarity, batch.identities), nearest.tolist()
