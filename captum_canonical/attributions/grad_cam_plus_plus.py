"""Grad-CAM++ on any layer, and its product with guided backpropagation, with the arguments of Captum's Grad-CAM."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import GradientAttribution, GuidedBackprop, LayerAttribution, LayerGradientXActivation
from torch import Tensor, nn

from captum_canonical._captum import TargetType, log_usage
from captum_canonical.attributions.base import as_tuple
from captum_canonical.attributions.layers import attribute_channels_first, find_layer
from captum_canonical.attributions.layouts import LayoutLike
from captum_canonical.attributions.outputs import attribute_with
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.modules import warn_if_training
from captum_canonical.turns import alone_at_network

LINEAR_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""How maps of so many dimensions are brought to the size of the input."""


class LayerGradCamPlusPlus(LayerAttribution, GradientAttribution):
    r"""Grad-CAM++: the channels of a layer, weighted by their positive gradients, each position for itself.

    With A the activations of the layer, S the score and g the gradient of S with respect to A, channel k of an image
    gets the weight

    .. math::
        w_k = \sum_{ij} \alpha^k_{ij}\, \mathrm{relu}(g^k_{ij}), \qquad
        \alpha^k_{ij} = \frac{(g^k_{ij})^2}{2 (g^k_{ij})^2 + (g^k_{ij})^3 \sum_{ab} A^k_{ab}}

    and the map is :math:`\sum_k w_k A^k`. This is the closed form for the derivatives of exp(S), which is exact where
    S is linear in A, as it is above the last convolution of a network with ReLUs: let ``target`` name a logit, not a
    probability. A vanishing denominator is replaced by 1. It vanishes, or turns negative, only where activations are
    negative: take a layer behind its ReLU.

    Note:
        As in :class:`captum.attr.LayerGradCam` the last ReLU of the publication is left to ``relu_attributions=True``
        or to the display. The factor exp(S) of the weights, one positive number per image, is left out: it changes the
        shape of no map, overflows float32 for logits above 88, and would let confident images swamp a mean over images.
        The authors' released code also divides the alphas of each channel by their sum; the publication does not.

    References:
        Chattopadhyay, Sarkar, Howlader, Balasubramanian: Grad-CAM++. WACV 2018, arXiv 1710.11063, Eqs. 7 and 19.

    Args:
        forward_func: a model or any callable that runs it.
        layer: the module whose output (or input) is weighted, or its name in the model, such as ``"layer4"``: maps with
            channels first, channels last, or tokens.
        device_ids: as in Captum; needed if ``forward_func`` applies a DataParallel model without being one.

    Example::

        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        ...                           torch.nn.Linear(4 * 15 * 15, 10)).eval()
        >>> maps = LayerGradCamPlusPlus(net, net[1]).attribute(torch.rand(2, 3, 32, 32), target=3)
        >>> maps.shape
        torch.Size([2, 1, 15, 15])
        >>> LayerAttribution.interpolate(maps, (32, 32), "bilinear").shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(
        self, forward_func: Callable[..., Any], layer: nn.Module | str, device_ids: list[int] | None = None
    ) -> None:
        LayerAttribution.__init__(self, forward_func, find_layer(forward_func, layer), device_ids)
        GradientAttribution.__init__(self, forward_func)

    @log_usage
    @alone_at_network
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
        *,
        layout: LayoutLike | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""The map of each image; arguments and their order are those of :class:`captum.attr.LayerGradCam`.

        Args:
            inputs: (N, ...), or a tuple of inputs.
            target: as in Captum; needed where ``forward_func`` returns several scores per image.
            additional_forward_args: as in Captum.
            attribute_to_layer_input: weight the layer's input, not its output.
            relu_attributions: set negative values to 0, as published.
            attr_dim_summation: add up the channels; otherwise one map per channel is returned.
            grad_kwargs: more arguments of ``torch.autograd.grad`` (captum 0.8 and later).
            layout: how the layer holds its maps, where its shape leaves a doubt: ``"channels_first"``,
                ``"channels_last"`` or ``"tokens"``, see :class:`Layout`.

        Returns:
            *Tensor*, or *tuple of Tensors* if the layer has several: (N, 1, h, w) for a layer of (N, C, h, w), or
            (N, C, h, w) without summation; detached, in float32 or the layer's type if wider.

        Raises:
            CanonicalError: the target does not fit, the layer's tensors have not the images in their first dimension,
                or no grid in the proportions of the images, or the result is not finite.
        """
        given = {"attribute_to_layer_input": attribute_to_layer_input, "grad_kwargs": grad_kwargs, "layout": layout}
        pairs = self._gradients_and_activations(as_tuple(inputs), target, additional_forward_args, given)
        results = []
        for gradients, activations in pairs:
            weights = _channel_weights(gradients, activations)
            results.append(weigh(self, weights, activations, attr_dim_summation, relu_attributions))
        return tuple(results) if len(results) > 1 else results[0]

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError("attribute_future is not implemented for LayerGradCamPlusPlus")

    def _gradients_and_activations(
        self,
        photos: tuple[Tensor, ...],
        target: TargetType,
        additional_forward_args: object,
        given: dict[str, Any],
    ) -> list[tuple[Tensor, Tensor]]:
        """For each tensor of the layer its gradients and activations, of at least float32."""
        warn_if_training(self.forward_func)
        method = _GradientsAndActivations(self.forward_func, self.layer, self.device_ids)
        given = {name: value for name, value in given.items() if value is not None}
        try:
            both = attribute_channels_first(method, own_copies(photos), (target, additional_forward_args), given, self)
        except (AssertionError, IndexError, RuntimeError) as error:  # Captum's own checks
            if isinstance(error, RuntimeError) and not re.search(r"gather\(\)|is out of bounds", str(error)):
                raise
            raise CanonicalError(
                f"{type(self).__name__} found no gradient for target={target!r}: {error}. Expected a target that names "
                "one score per image, and a layer that runs in the forward pass and holds tensors."
            ) from error
        pairs = []
        for pair in as_layer_tensors(both):
            gradients, activations = pair.to(torch.promote_types(pair.dtype, torch.float32)).unbind(1)
            check_layer(self, activations, photos)
            pairs.append((gradients, activations))
        return pairs


class GuidedGradCamPlusPlus(GradientAttribution):
    r"""Guided Grad-CAM++: guided backpropagation times the Grad-CAM++ map without its negative values.

    The map of :class:`LayerGradCamPlusPlus` is brought to the input's size and multiplied with the guided gradients,
    pixel by pixel and for each channel of the input: column (e) of Fig. 2 of Canonical Saliency Maps (doi
    10.1109/TBIOM.2021.3120758), defined by Chattopadhyay et al. (arXiv 1710.11063, section 3.3).

    The ReLUs of the network must be ``nn.ReLU`` modules, as for :class:`captum.attr.GuidedBackprop`; a network without
    any is warned about.

    Args:
        model: the network.
        layer: the module that Grad-CAM++ looks at, or its name; it has one tensor.
        device_ids: as in Captum.

    Example::

        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        ...                           torch.nn.Linear(4 * 15 * 15, 10)).eval()
        >>> GuidedGradCamPlusPlus(net, net[1]).attribute(torch.rand(2, 3, 32, 32), target=3).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, model: nn.Module, layer: nn.Module | str, device_ids: list[int] | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise CanonicalError(
                f"GuidedGradCamPlusPlus must reach the ReLUs: expected an nn.Module, got {type(model).__name__}; wrap "
                "the function in one."
            )
        super().__init__(model)
        self.grad_cam = LayerGradCamPlusPlus(model, layer, device_ids)
        self.guided_backprop = GuidedBackprop(model)

    @log_usage
    @alone_at_network
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: TargetType = None,
        additional_forward_args: object | None = None,
        interpolate_mode: str | None = None,
        attribute_to_layer_input: bool = False,
        *,
        layout: LayoutLike | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""The guided map of each image; arguments and their order are those of :class:`captum.attr.GuidedGradCam`.

        Args:
            inputs: (N, C, H, W), or a tuple of inputs, all of them floating-point.
            target: as in Captum; needed where the model returns several scores per image.
            additional_forward_args: as in Captum.
            interpolate_mode: as in ``torch.nn.functional.interpolate``. Default: the (bi-, tri-)linear mode for the
                layer's dimensions, as published.
            attribute_to_layer_input: look at the layer's input, not at its output.
            layout: as in :class:`LayerGradCamPlusPlus`.

        Returns:
            *Tensor* or *tuple of Tensors* (if ``inputs`` is a tuple), each of its input's shape, detached. For an
            input whose number of dimensions is not the layer's, which no map can be laid over, an empty tensor, as in
            Captum.

        Raises:
            CanonicalError: as :class:`LayerGradCamPlusPlus`; or the layer has several tensors, or none of the inputs
                has its number of dimensions.
        """
        photos = as_tuple(inputs)
        self._check_inputs(photos)
        cam = self.grad_cam.attribute(
            photos, target, additional_forward_args, attribute_to_layer_input, relu_attributions=True, layout=layout
        )
        if not isinstance(cam, Tensor) or cam.ndim not in [x.ndim for x in photos] or cam.ndim not in LINEAR_MODES:
            shown = [tuple(maps.shape) for maps in as_layer_tensors(cam)]
            raise CanonicalError(
                f"GuidedGradCamPlusPlus: maps of shape {shown} cannot be laid over inputs of shape "
                f"{[tuple(x.shape) for x in photos]}; expected a layer with one tensor of as many dimensions as the "
                "image has."
            )
        copies = tuple(x.requires_grad_() for x in own_copies(photos))
        guided = attribute_with(self.guided_backprop, copies, target, additional_forward_args)
        mode = interpolate_mode or LINEAR_MODES[cam.ndim]
        results = tuple(
            LayerAttribution.interpolate(cam, tuple(x.shape[2:]), mode).to(x.device) * gradients
            if x.ndim == cam.ndim
            else x.new_zeros(0)
            for x, gradients in zip(photos, guided, strict=True)
        )
        return results[0] if isinstance(inputs, Tensor) else results

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError("attribute_future is not implemented for GuidedGradCamPlusPlus")

    def _check_inputs(self, photos: tuple[Tensor, ...]) -> None:
        kinds = [x.dtype for x in photos]
        if not all(kind.is_floating_point for kind in kinds):
            raise CanonicalError(
                f"GuidedGradCamPlusPlus takes gradients of every input: expected floating-point inputs, got {kinds}; "
                "pass the others as additional_forward_args."
            )
        if not any(isinstance(module, nn.ReLU) for module in self.forward_func.modules()):
            warnings.warn(
                "the network has no nn.ReLU module (functional ReLUs cannot be reached): its guided gradients are "
                "plain gradients.",
                stacklevel=user_stacklevel(),
            )


class _GradientsAndActivations(LayerGradientXActivation):
    """Captum's gradients and activations of one forward pass; two passes would differ under dropout, and cost twice."""

    def multiply_gradient_acts(self, gradients: tuple[Tensor, ...], evals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(N, 2, ...) for each tensor of the layer, in place of the product."""
        return tuple(torch.stack(pair, 1) for pair in zip(gradients, evals, strict=True))


def _channel_weights(gradients: Tensor, activations: Tensor) -> Tensor:
    """The weights (N, C, 1, ...) of Eq. 7 with the alphas of Eq. 19; (N, C) for a layer without positions."""
    positions = tuple(range(2, gradients.ndim))
    total = activations.sum(positions, keepdim=True) if positions else activations
    # Both sides of alpha divided by g squared, so that small gradients do not underflow; where g is 0, so is relu(g).
    denominator = 2 + gradients * total
    alphas = torch.where(denominator != 0, 1 / denominator, gradients.square())
    weights = alphas * F.relu(gradients)
    return weights.sum(positions, keepdim=True) if positions else weights


# ------------------------------------------------------------------------------------------ shared with the other CAMs
def own_copies(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copies for Captum to work on: it marks tensors as requiring gradients, and a network may write into its input."""
    return tuple(x.detach().clone() for x in inputs)


def as_layer_tensors(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a layer method of Captum returns, as a tuple."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def check_layer(method: LayerAttribution, tensor: Tensor, photos: tuple[Tensor, ...]) -> None:
    """Raises unless a tensor of the layer has images, channels and, or not, positions that can lie on the images."""
    num_images = len(photos[0])
    if tensor.ndim < 2 or len(tensor) != num_images:
        raise CanonicalError(
            f"{type(method).__name__}: expected a layer whose tensors begin with the {num_images} images and their "
            f"channels, got a first dimension of {len(tensor) if tensor.ndim else 1}; choose another layer."
        )


def weigh(
    method: LayerAttribution, weights: Tensor, activations: Tensor, attr_dim_summation: bool, relu_attributions: bool
) -> Tensor:
    """The weighted activations, added up over the channels (or not), without their negative values (or with them)."""
    maps = weights * activations
    if attr_dim_summation:
        maps = maps.sum(1, keepdim=True)
    broken = [row for row, finite in enumerate(maps.flatten(1).isfinite().all(1).tolist()) if not finite]
    if broken:
        raise CanonicalError(
            f"{type(method).__name__}: the map of images {broken[:10]} is NaN or infinite, as the layer's activations, "
            "their gradients or the scores are; check the inputs, or use a wider type."
        )
    return F.relu(maps) if relu_attributions else maps
