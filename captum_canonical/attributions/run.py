"""One way to run any attribution, whether its maps are on the canonical face, in the image or in a layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from captum.attr import Attribution, LayerAttribution
from torch import Tensor, nn

from captum_canonical.attributions.base import (
    CanonicalAttribution,
    as_tuple,
    check_grid,
    innermost,
    with_wrapped,
)
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.canonical_face import CanonicalFace


class AttributionMaps(NamedTuple):
    """What an attribution returns for N inputs."""

    maps: Tensor
    """(N, C, H, W)."""
    coverage: Tensor | None
    """(N, 1, H, W) number of hits, of a canonical method; else None."""


def run_attribution(
    method: Attribution | Callable[..., Any], inputs: Any, arguments: Mapping[str, Any], faces: Any = None
) -> AttributionMaps:
    """Runs a method once.

    Args:
        method: an attribution, or a function that is called in the same way as ``attribute``.
        inputs: its first argument, or None for a function without any.
        arguments: by keyword.
        faces: meshes of the inputs, given to canonical methods only, also to those inside NoiseTunnel.

    Returns:
        The maps, and the coverage if the method itself is a canonical one.

    Raises:
        CanonicalError: the method returns anything but one spatial map for each input.

    Example::

        >>> import torch
        >>> from captum.attr import Saliency
        >>> maps, coverage = run_attribution(Saliency(lambda x: x.sum((1, 2, 3))), torch.ones(1, 3, 2, 2), {})
        >>> maps.shape, coverage
        (torch.Size([1, 3, 2, 2]), None)
    """
    call = method.attribute if isinstance(method, Attribution) else method
    given = dict(arguments)
    if faces is not None and isinstance(innermost(method), CanonicalAttribution):
        given["faces"] = faces
    if not isinstance(method, CanonicalAttribution):
        maps = _one_map(method, call(**given) if inputs is None else call(inputs, **given))
        if isinstance(innermost(method), LayerAttribution) and inputs is not None:
            check_grid(method, maps, as_tuple(inputs))
        return AttributionMaps(maps, None)
    maps, coverage = call(inputs, **given, return_coverage=True)
    return AttributionMaps(_one_map(method, maps), _one_map(method, coverage))


def on_face(method: Attribution, face: CanonicalFace) -> Attribution:
    """The method, or a copy of it that writes on this canonical face if it is a canonical one without a face."""
    if not isinstance(method, CanonicalAttribution) or method.canonical_face is not None:
        return method
    method = copy.copy(method)
    method.canonical_face = face
    return method


def networks_of(method: object) -> list[nn.Module]:
    """The networks and layers that a method and those inside it hold."""
    held: list[Any] = []
    for each in with_wrapped(method):
        layer = getattr(each, "layer", None)
        held += [getattr(each, "forward_func", None), *(layer if isinstance(layer, list) else [layer])]
    return [part for part in held if isinstance(part, nn.Module)]


def _one_map(method: object, result: Any) -> Tensor:
    if isinstance(result, tuple) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor) or result.ndim != 4 or result.is_complex() or not result.numel():
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise CanonicalError(
            f"{getattr(method, '__name__', type(method).__name__)}: expected maps of shape (N, C, H, W) from the "
            f"method, got {got}; a layer that is not convolutional has none, and of several maps only one can be used."
        )
    return result
