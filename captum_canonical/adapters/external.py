"""Heat maps of other packages as a Captum method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor

from captum_canonical._captum import TargetType, log_usage
from captum_canonical.attributions.base import as_tuple
from captum_canonical.errors import CanonicalError

Scale = Literal["raw", "normalised"]
Explain = Callable[..., "Tensor | np.ndarray | Sequence[Tensor | np.ndarray]"]


class ExternalAttribution(Attribution):
    r"""Any function that returns heat maps, as a Captum method: for :class:`CanonicalProjector`, :func:`benchmark` etc.

    Args:
        explain: ``explain(inputs, target, **arguments)`` gets a copy of the images (N, C, H, W) and the target, and
            returns the map of each image: an array or tensor (N, h, w) or (N, C, h, w), or a list of N maps (h, w) or
            (C, h, w).
        scale: what the numbers mean. ``"raw"``: the same in all images. ``"normalised"``: each map was scaled by
            itself, to 0..1 for example (pytorch-grad-cam, most toolboxes that make pictures): an average then weighs
            all images alike, whatever the network made of them. It changes no number, and stands in the settings of a
            benchmark.
        forward_func: the network, for what wants to know it (:func:`model_randomization`; Captum's own checks).

    What ``explain`` leaves in the network is its own affair; let hooks go after each call, as below.

    Raises:
        CanonicalError: ``explain`` is no function, or ``scale`` is neither of the two.

    Example::

        >>> def grad_cam(x, target):  # with GradCAM and ClassifierOutputTarget of pytorch-grad-cam
        ...     with GradCAM(net, [net.layer4]) as cam:
        ...         return cam(x, [ClassifierOutputTarget(label) for label in target.tolist()])
        >>> method = ExternalAttribution(grad_cam, scale="normalised")
        >>> method = ExternalAttribution(lambda x, target: x.mean(1).numpy()[:, :, ::-1], scale="raw")
        >>> method.attribute(torch.rand(2, 3, 8, 8), target=0).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, explain: Explain, scale: Scale, forward_func: Callable[..., Any] | None = None) -> None:
        if not callable(explain):
            raise CanonicalError(
                f"explain: expected a function (inputs, target) -> maps, got {type(explain).__name__}."
            )
        if scale not in get_args(Scale):
            raise CanonicalError(
                f"scale: expected 'raw', or 'normalised' for maps that were scaled image by image, got {scale!r}."
            )
        super().__init__(forward_func)
        self.explain = explain
        self.scale = scale

    @log_usage
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: TargetType = None, **arguments: Any
    ) -> Tensor | tuple[Tensor, ...]:
        """The maps that ``explain`` returns, checked.

        Args:
            inputs: (N, C, H, W).
            target: as in Captum. One label, or one for each image, reaches ``explain`` as an int64 tensor (N,);
                anything else as it is.
            **arguments: for ``explain``.

        Returns:
            (N, C, h, w) on the inputs' device, detached, float32 or wider; a tuple of it if ``inputs`` is a tuple.

        Raises:
            CanonicalError: there are several inputs, or what came are not finite maps, one for each image.
        """
        photos = as_tuple(inputs)
        if len(photos) != 1 or photos[0].ndim != 4:
            raise CanonicalError(
                f"inputs: expected one tensor (N, C, H, W), got {[tuple(x.shape) for x in photos]}; let `explain` "
                "know any other input by itself."
            )
        x = photos[0]
        found = self.explain(x.detach().clone(), _labels(target, x), **arguments)
        maps = _spatial(found, x)
        return maps if isinstance(inputs, Tensor) else (maps,)

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError("attribute_future is not implemented for ExternalAttribution")


def _labels(target: Any, x: Tensor) -> Any:
    """One label for each image, where the target is as simple as that."""
    if isinstance(target, (bool, tuple)) or target is None:
        return target
    if isinstance(target, (list, np.ndarray)) and np.ndim(target) != 1:
        return target
    labels = torch.as_tensor(target, device=x.device)
    simple = not labels.is_floating_point() and labels.numel() in (1, len(x)) and labels.ndim <= 1
    return labels.long().expand(len(x)).clone() if simple else target


def _spatial(found: Any, x: Tensor) -> Tensor:
    """(N, C, h, w) from what a stranger's function returned."""
    maps = _tensor(found)
    if maps.ndim == 3:
        maps = maps[:, None]
    expected = f"`explain`: expected {len(x)} maps, (N, h, w), (N, C, h, w) or a list of (h, w) or (C, h, w)"
    if maps.ndim != 4 or len(maps) != len(x) or not maps.numel():
        raise CanonicalError(f"{expected}, got shape {tuple(maps.shape)}.")
    if maps.shape[1:3] == x.shape[2:] and maps.shape[3] in (1, 3, 4) and maps.shape[3] != x.shape[3]:
        raise CanonicalError(f"{expected}, got shape {tuple(maps.shape)}: channels come first, not last.")
    if maps.is_complex():
        raise CanonicalError(f"{expected}, of real numbers, got {maps.dtype}.")
    broken = torch.nonzero(~torch.isfinite(maps).flatten(1).all(1)).flatten().tolist()
    if broken:
        raise CanonicalError(f"`explain`: NaN or infinity in the maps of images {broken[:10]} of this call.")
    wide = torch.promote_types(maps.dtype, torch.float32)
    return maps.to(x.device, wide).contiguous()


def _tensor(found: Any) -> Tensor:
    if isinstance(found, Tensor):
        return found.detach()
    try:
        if isinstance(found, (list, tuple)):
            return torch.stack([_tensor(each) for each in found])
        return torch.from_numpy(np.array(found))  # a copy: no negative strides, and never the function's own buffer
    except (TypeError, ValueError, RuntimeError) as error:
        raise CanonicalError(
            f"`explain`: expected maps, numpy or torch, got {type(found).__name__} ({error})."
        ) from None
