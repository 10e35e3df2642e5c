"""What is explained of each photograph of a run: the names of the classes, and a target for each."""

from __future__ import annotations

from captum_canonical.confidence.classes import ClassConfidence
from captum_canonical.confidence.outputs import NetworkOutput
from captum_canonical.errors import CanonicalError
from captum_canonical.runs.sources import PhotoSource


def take_class_names(source: PhotoSource, forward_func: object) -> None:
    """Names the classes as the network's confidence does, where the data give them no names.

    Raises:
        CanonicalError: the data have names of their own, and they are others, or in another order.
    """
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
