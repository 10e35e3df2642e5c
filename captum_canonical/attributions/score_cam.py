"""Score-CAM on any convolutional layer: each channel weighted by the score of the input that it lets through."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from captum.attr import LayerActivation, LayerAttribution, PerturbationAttribution
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_canonical._captum import BaselineType, TargetType, format_forward_args, log_usage
from captum_canonical.attributions.base import as_tuple
from captum_canonical.attributions.grad_cam_plus_plus import (
    LINEAR_MODES,
    as_layer_tensors,
    check_layer,
    own_copies,
    weigh,
)
from captum_canonical.attributions.layers import attribute_channels_first, find_layer
from captum_canonical.attributions.layouts import LayoutLike
from captum_canonical.attributions.points import fills_for, rows_for
from captum_canonical.checks import check_choice, exact_device
from captum_canonical.errors import CanonicalError, user_stacklevel
from captum_canonical.inference.dense import check_finite
from captum_canonical.inference.rounding import Rounding
from captum_canonical.inference.scorer import Scorer, check_per_image
from captum_canonical.turns import alone_at_network

ROWS_PER_FORWARD = 32
Weighting = Literal["increase", "softmax"]


class LayerScoreCam(LayerAttribution, PerturbationAttribution):
    r"""Score-CAM: the channels of a layer, weighted by what the network sees through each of them alone.

    The activations :math:`A^k` of each channel are brought to the input's size (bilinear, ``align_corners=False``) and
    scaled to [0, 1] by their own minimum and maximum, which makes a mask :math:`H^k`. With f the score that ``target``
    names, X the input and :math:`X_b` the baseline, the masked input is
    :math:`X_k = X_b + H^k (X - X_b)`, which is :math:`H^k X` for the baseline 0 of the publication. The map is
    :math:`\sum_k w_k A^k` with one of the two published weights, chosen by ``weighting``:

    - ``"increase"``: :math:`w_k = f(X_k) - f(X_b)`, the channel-wise increase of confidence (CIC), in the unit of f.
    - ``"softmax"``: :math:`w_k = \exp f(X_k) / \sum_l \exp f(X_l)`, the same increases (whose baseline cancels)
      soft-maxed over the channels, so that they are positive and add up to 1. This score should be a logit:
      probabilities differ by less than 1, so their soft-max hardly differs from equal weights.

    The increase is the default because it means the same for probabilities and for logits, keeps its sign (a channel
    that speaks against the target counts against it), and does not depend on how many channels the layer has.

    A channel that is constant, or constant up to rounding, as dead channels are, makes no mask: it takes no forward
    pass, and its weight is 0 in both variants. An image all of whose channels are constant gets a map of zeros and a
    warning.

    Note:
        As in :class:`captum.attr.LayerGradCam` the last ReLU of the publication is left to ``relu_attributions=True``
        or to the display. The authors' released code is a third variant: the bare class probability f(X_k), which is
        ``"increase"`` up to the constant f(X_b).

    References:
        Wang et al.: Score-CAM. CVPR Workshops 2020, doi 10.1109/CVPRW50498.2020.00020.

    Args:
        forward_func: a model or any callable that runs it; it is called with different images side by side, so what
            belongs to one image must come through ``additional_forward_args``.
        layer: the module whose output (or input) makes the masks, or its name in the model,
            of shape (N, C, h, w), (N, h, w, C) or tokens; 1-D and 3-D layers work too.
        device_ids: as in Captum; needed if ``forward_func`` applies a DataParallel model without being one.

    Example::

        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        ...                           torch.nn.Linear(4 * 15 * 15, 10)).eval()
        >>> LayerScoreCam(net, net[1]).attribute(torch.rand(2, 3, 32, 32), target=3).shape
        torch.Size([2, 1, 15, 15])
    """

    def __init__(
        self, forward_func: Callable[..., Any], layer: nn.Module | str, device_ids: list[int] | None = None
    ) -> None:
        LayerAttribution.__init__(self, forward_func, find_layer(forward_func, layer), device_ids)
        PerturbationAttribution.__init__(self, forward_func)

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
        *,
        layout: LayoutLike | None = None,
        baselines: BaselineType = None,
        weighting: Weighting = "increase",
        perturbations_per_eval: int | None = None,
        show_progress: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        r"""The map of each image; the first arguments and their order are those of :class:`captum.attr.LayerGradCam`.

        Args:
            inputs: (N, C, H, W), or a tuple of inputs. Every floating-point input with as many dimensions as the
                layer's tensor is masked; the others (metadata) are left as they are.
            target: as in Captum; needed where ``forward_func`` returns several scores per image.
            additional_forward_args: as in Captum. Tensors whose first dimension is N are taken as one entry per
                image; everything else is passed on as it is.
            attribute_to_layer_input: use the layer's input, not its output.
            relu_attributions: set negative values to 0, as published.
            attr_dim_summation: add up the channels; otherwise one map per channel is returned.
            layout: how the layer holds its maps, as in :class:`LayerGradCamPlusPlus`.
            baselines: what a mask of 0 shows, as in Captum: a number, or a tensor that broadcasts against the input; a
                tuple of these for several inputs. An input that is its own baseline stays unmasked. Default: 0.
            weighting: ``"increase"`` or ``"softmax"``, see above.
            perturbations_per_eval: channels per image and forward call; a call sees at most this times N rows.
                Default: as many as make about 32 rows. Results do not depend on it.
            show_progress: a bar on stderr that counts forward calls.

        Returns:
            *Tensor*, or *tuple of Tensors* if the layer has several (each with masks of its own): (N, 1, h, w) for a
            layer of (N, C, h, w), or (N, C, h, w) without summation; detached, in float32 or the layer's type if wider.

        Raises:
            CanonicalError: an argument or the output of ``forward_func`` does not fit, the layer is not spatial, no
                input can be masked, or a score is not finite.
        """
        check_choice("weighting", weighting, ("increase", "softmax"))
        photos = as_tuple(inputs)
        fills = fills_for(baselines, photos)
        num_images = len(photos[0])
        rows = rows_for(perturbations_per_eval, num_images) or num_images * max(1, ROWS_PER_FORWARD // num_images)
        scorer = Scorer(self.forward_func, target, format_forward_args(additional_forward_args), num_images)
        check_per_image(scorer, photos)
        tensors = self._activations(photos, additional_forward_args, attribute_to_layer_input, layout)
        runs = [_MaskedScores(scorer, photos, fills, tensor, rows) for tensor in tensors]
        _warn_of_constant_images(runs)
        results = []
        total = sum(run.forwards(weighting) for run in runs)
        with tqdm(total=total, desc=f"{self.get_name()} attribution", disable=not show_progress) as bar:
            for run in runs:
                weights = run.weights(weighting, bar.update)
                results.append(weigh(self, weights, run.activations, attr_dim_summation, relu_attributions))
                if weighting == "increase":
                    Rounding.measured(scorer, photos, weights[:0].flatten()).tell(weights)
        return tuple(results) if len(results) > 1 else results[0]

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError("attribute_future is not implemented for LayerScoreCam")

    def _activations(
        self, photos: tuple[Tensor, ...], args: object, attribute_to_layer_input: bool, layout: LayoutLike | None
    ) -> list[Tensor]:
        """Each tensor of the layer, (N, C, ...)."""
        layer = LayerActivation(self.forward_func, self.layer, self.device_ids)
        given = {"attribute_to_layer_input": attribute_to_layer_input, "layout": layout}
        try:
            found = as_layer_tensors(attribute_channels_first(layer, own_copies(photos), (args,), given, self))
        except AssertionError as error:  # Captum's own checks
            raise CanonicalError(
                f"LayerScoreCam found no activations: {error}. Expected a layer that runs in the forward pass and "
                "holds tensors."
            ) from error
        for tensor in found:
            check_layer(self, tensor, photos)
        return list(found)


class _MaskedScores:
    """The weights of the channels of one tensor of the layer.

    Args:
        scorer: gives the scores of a batch.
        inputs: the inputs of the model, each (N, ...).
        fills: what a mask of 0 shows of each.
        activations: (N, C, ...) of the layer.
        rows: inputs per forward call.

    Attributes:
        activations: the same in float32 or wider.
        makes_mask: (N, C) bool, the channels that are not constant.
    """

    def __init__(
        self,
        scorer: Scorer,
        inputs: tuple[Tensor, ...],
        fills: tuple[Tensor | float, ...],
        activations: Tensor,
        rows: int,
    ) -> None:
        self.scorer, self.inputs, self.fills, self.rows = scorer, inputs, fills, rows
        self.activations = activations.to(torch.promote_types(activations.dtype, torch.float32))
        self.masked = [x.ndim == activations.ndim and x.is_floating_point() for x in inputs]
        if activations.ndim not in LINEAR_MODES or not any(self.masked):
            raise CanonicalError(
                f"LayerScoreCam: the layer's tensor of shape {tuple(activations.shape)} makes no mask for inputs of "
                f"{[(tuple(x.shape), x.dtype) for x in inputs]}; expected (N, C, h, w) and a floating-point input with "
                "as many dimensions."
            )
        self._exact = exact_device(self.activations.device)
        self.makes_mask = _varies(self.activations, torch.finfo(activations.dtype).eps).to(self._exact)

    def forwards(self, weighting: Weighting) -> int:
        """How many forward calls the weights take."""
        return -(-int(self.makes_mask.sum()) // self.rows) + (weighting == "increase")

    def weights(self, weighting: Weighting, tick: Callable[[], object]) -> Tensor:
        """(N, C, 1, ...), 0 for the channels that make no mask; ``tick`` is called after each forward call."""
        scores = torch.zeros(self.makes_mask.shape, dtype=torch.float64, device=self._exact)
        if weighting == "increase":
            images = torch.arange(len(scores))
            baseline = self._scores(images, None)
            tick()
            scores -= baseline[:, None]
        for images, channels in self._parts():
            scores[images, channels] += self._scores(images, channels)
            tick()
        if weighting == "softmax":
            scores = scores.masked_fill(~self.makes_mask, -torch.inf).softmax(1)
        weights = torch.where(self.makes_mask, scores, 0.0).to(self.activations.dtype).to(self.activations.device)
        return weights.reshape(*weights.shape, *[1] * (self.activations.ndim - 2))

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        image, channel = torch.nonzero(self.makes_mask, as_tuple=True)
        yield from zip(image.split(self.rows), channel.split(self.rows), strict=True) if len(image) else ()

    def _scores(self, images: Tensor, channels: Tensor | None) -> Tensor:
        """(R,) float64, the scores of these images seen through these channels; None: hidden altogether."""
        shown = tuple(
            self._seen_through(x, fill, images, channels) if masked else x[images.to(x.device)]
            for x, fill, masked in zip(self.inputs, self.fills, self.masked, strict=True)
        )
        images = images.cpu()
        scores = self.scorer(shown, images)
        check_finite(scores, images, "masked")
        return scores.to(self._exact)

    def _seen_through(self, x: Tensor, fill: Tensor | float, images: Tensor, channels: Tensor | None) -> Tensor:
        hidden = fill.to(x.dtype).expand(x.shape) if isinstance(fill, Tensor) else x.new_full((), fill).expand(x.shape)
        hidden = hidden[images.to(x.device)]
        if channels is None:
            return hidden
        masks = _masks(self.activations[images, channels], tuple(x.shape[2:])).to(x)
        return hidden + masks * (x[images.to(x.device)] - hidden)


def _warn_of_constant_images(runs: list[_MaskedScores]) -> None:
    constant = sorted({image for run in runs for image in torch.nonzero(~run.makes_mask.any(1)).flatten().tolist()})
    if constant:
        warnings.warn(
            f"LayerScoreCam: every channel of the layer is constant in images {constant[:10]}: their maps are 0.",
            stacklevel=user_stacklevel(),
        )


def _varies(activations: Tensor, eps: float) -> Tensor:
    """(N, C) bool: the channel is more than a constant with rounding errors, which a mask would blow up to [0, 1]."""
    flat = activations.flatten(2)
    return flat.amax(2) - flat.amin(2) > 4 * eps * flat.abs().amax(2)


def _masks(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (R, ...) at the input's size (R, 1, ...), each scaled to [0, 1]; 0 where nothing is left of a map."""
    large = LayerAttribution.interpolate(maps[:, None], size, LINEAR_MODES[maps.ndim + 1])
    axes = tuple(range(1, large.ndim))
    low, high = large.amin(axes, keepdim=True), large.amax(axes, keepdim=True)
    span = high - low
    return (large - low) / torch.where(span > 0, span, 1.0)
