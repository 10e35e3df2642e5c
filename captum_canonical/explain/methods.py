"""The method of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from captum.attr import Attribution

from captum_canonical.attributions import CanonicalOcclusion, CanonicalProjector
from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import CanonicalError


def method_for(
    forward_func: Callable[..., Any],
    method: Attribution | None,
    canonical_face: CanonicalFace | None,
    inference: Any,
) -> tuple[CanonicalOcclusion | CanonicalProjector, CanonicalFace]:
    """A method that writes canonical maps, and the face that they are on; the user's own stays as it is.

    Raises:
        CanonicalError: it is no method, or arguments contradict each other.
    """
    if method is None:
        face = canonical_face or CanonicalFace.default()
        return CanonicalOcclusion(forward_func, None, face, inference or "auto"), face
    if inference is not None:
        raise CanonicalError("inference: expected only without method=; give it to that method's constructor.")
    if not isinstance(method, Attribution):
        raise CanonicalError(f"method: expected an attribution, such as CanonicalOcclusion(net), got {method!r}.")
    if not isinstance(method, (CanonicalOcclusion, CanonicalProjector)):
        inner = getattr(method, "attribution_method", None)
        if isinstance(inner, (CanonicalOcclusion, CanonicalProjector)):
            raise CanonicalError(
                f"method: {type(method).__name__} around {type(inner).__name__} gives no coverage; write it the other "
                "way round, CanonicalProjector(NoiseTunnel(Saliency(net)))."
            )
        face = canonical_face or CanonicalFace.default()
        return CanonicalProjector(method, canonical_face=face), face
    own = method.canonical_face
    if own is not None and canonical_face is not None and own is not canonical_face:
        raise CanonicalError("canonical_face: the method has one of its own; give it only once.")
    face = own or canonical_face or CanonicalFace.default()
    chosen = copy.copy(method)
    chosen.canonical_face = face
    return chosen, face
